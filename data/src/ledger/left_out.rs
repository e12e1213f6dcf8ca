//! Rows that steps have left out because functions failed for them, as the ledger keeps them.

use bytes::Bytes;
use prost::Message;

/// What steps have left out of an input that is used up.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct LeftOut {
    /// The attempt that has used it up: no two have the same.
    #[prost(uint64, tag = "1")]
    pub(crate) attempt: u64,
    /// In a job of one stage: the input, by its place in the order of the source.
    #[prost(uint64, optional, tag = "2")]
    pub(crate) input: Option<u64>,
    /// In others: an output that counts together with this, if there is one.
    #[prost(uint64, optional, tag = "3")]
    pub(crate) output: Option<u64>,
    /// Those that may leave rows out.
    #[prost(message, repeated, tag = "4")]
    pub(crate) steps: Vec<LeftOutByStep>,
}

/// What one step has left out.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct LeftOutByStep {
    /// The step, counted through all stages.
    #[prost(uint32, tag = "1")]
    pub(crate) step: u32,
    /// Rows that came to it.
    #[prost(uint64, tag = "2")]
    pub(crate) rows_in: u64,
    /// Those that were left out.
    #[prost(uint64, tag = "3")]
    pub(crate) rows: u64,
    /// Batches that they were in.
    #[prost(uint64, tag = "4")]
    pub(crate) batches: u64,
    /// What the last one failed with.
    #[prost(string, tag = "5")]
    pub(crate) last: String,
    /// What was put aside: Arrow streams.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(crate) letters: Vec<Bytes>,
}

impl LeftOutByStep {
    /// The same step has left out more.
    pub(crate) fn add(&mut self, more: Self) {
        self.rows_in += more.rows_in;
        self.rows += more.rows;
        self.batches += more.batches;
        if !more.last.is_empty() {
            self.last = more.last;
        }
        self.letters.extend(more.letters);
    }
}

impl LeftOut {
    /// The last word on what has the same counts.
    pub(super) fn key(&self) -> (Option<u64>, u64) {
        match self.input {
            Some(input) => (Some(input), 0),
            None => (None, self.attempt),
        }
    }
}
