//! What is known of the sizes of batches: from workers to the driver, and on to others.

use prost::Message;

/// What is known of the batches of a step on one kind of device.
#[derive(Clone, PartialEq, Message)]
pub struct SizesSpec {
    /// The step, by its place in the stage.
    #[prost(uint32, tag = "1")]
    pub step: u32,
    /// What it runs on, for people and to tell apart what is not alike.
    #[prost(string, tag = "2")]
    pub device: String,
    /// Sizes that were tried.
    #[prost(message, repeated, tag = "3")]
    pub trials: Vec<TrialSpec>,
    /// The smallest that did not fit into memory.
    #[prost(uint64, optional, tag = "4")]
    pub too_large: Option<u64>,
    /// Calls that ran out of memory since the last report.
    #[prost(uint64, tag = "5")]
    pub out_of_memory: u64,
}

/// A size that was tried.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct TrialSpec {
    /// Rows.
    #[prost(uint64, tag = "1")]
    pub rows: u64,
    /// How many calls.
    #[prost(uint64, tag = "2")]
    pub calls: u64,
    /// How long the fastest took.
    #[prost(uint64, tag = "3")]
    pub nanos: u64,
}

/// How many rows of an input come together for a step whose batches are pieces of these.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct FrameRows {
    /// The step, by its place in the stage.
    #[prost(uint32, tag = "1")]
    pub step: u32,
    /// Rows.
    #[prost(uint64, tag = "2")]
    pub rows: u64,
}
