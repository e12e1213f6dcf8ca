//! Which rows of a source became which rows of an output, as the ledger and journals say it.

use prost::Message;

use super::left_out::LeftOut;
use super::record::JudgedRows;

/// To the end of an input, wherever that is.
pub(crate) const END: u64 = u64::MAX;

/// Rows of a source's input, counted where they come to the first function.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct SourceRange {
    /// The input's place in the order of the source.
    #[prost(uint64, tag = "1")]
    pub(crate) input: u64,
    /// The first row.
    #[prost(uint64, tag = "2")]
    pub(crate) from: u64,
    /// The row behind the last; [`END`]: all that come.
    #[prost(uint64, tag = "3")]
    pub(crate) to: u64,
}

/// Rows that are all that becomes of rows of the source.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Span {
    /// How many they are, behind those of the span before.
    #[prost(uint64, tag = "1")]
    pub(crate) rows: u64,
    /// What they are made of.
    #[prost(message, repeated, tag = "2")]
    pub(crate) ranges: Vec<SourceRange>,
    /// What expectations have found on the way from there.
    #[prost(message, repeated, tag = "3")]
    pub(crate) judged: Vec<JudgedRows>,
    /// What was left out on it.
    #[prost(message, repeated, tag = "4")]
    pub(crate) left_out: Vec<LeftOut>,
}

impl Span {
    /// The same with those of the span behind it.
    pub(super) fn add(&mut self, next: Self) {
        self.rows += next.rows;
        self.ranges.extend(next.ranges);
        self.judged.extend(next.judged);
        self.left_out.extend(next.left_out);
    }
}

/// What the first rows of an input are made of. Behind them come rows that others have a part of, too.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Spans {
    #[prost(message, repeated, tag = "1")]
    pub(crate) spans: Vec<Span>,
    /// If one stage has made them, so many steps of it: they make the rows of a span again, one after another.
    #[prost(uint32, optional, tag = "2")]
    pub(crate) steps: Option<u32>,
}

/// Outputs of which all together are all that becomes of rows of the source: they count if all of them are there.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DonePart {
    /// Their numbers, which their files have; none: nothing becomes of these rows.
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) outputs: Vec<u64>,
    /// What they are made of.
    #[prost(message, repeated, tag = "2")]
    pub(crate) ranges: Vec<SourceRange>,
}

impl DonePart {
    /// Whether it says no more than that nothing became of what was left of inputs, if anything was: workers end them with that, whatever
    /// has become of the rows before.
    pub(super) fn is_end(&self) -> bool {
        let mut ranges = self.ranges.iter();
        self.outputs.is_empty() && ranges.all(|range| range.from > 0 && range.to == END)
    }
}
