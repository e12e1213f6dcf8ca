//! What workers tell of their time.

use aktis_common::ids::NodeId;
use bytes::Bytes;
use prost::Message;

/// A worker has loaded its functions.
#[derive(Clone, PartialEq, Message)]
pub struct ReadyReport {
    /// For how long its node has held its room.
    #[prost(uint64, tag = "1")]
    pub held_nanos: u64,
    /// What loading took of that: constructors, mostly.
    #[prost(uint64, tag = "2")]
    pub loading_nanos: u64,
    /// Time of processors that the process has taken since the worker was made.
    #[prost(uint64, tag = "3")]
    pub cpu_nanos: u64,
    /// The node that it runs on, if it is one of a cluster.
    #[prost(bytes = "bytes", tag = "4")]
    pub node_id: Bytes,
}

impl ReadyReport {
    /// The node that it runs on, if it is one of a cluster.
    pub(crate) fn node(&self) -> Option<NodeId> {
        NodeId::from_bytes(&self.node_id).ok()
    }
}

/// What a pull has taken.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct PullTime {
    /// On the clock.
    #[prost(uint64, tag = "1")]
    pub wall_nanos: u64,
    /// Of processors, in all threads of the process, since the last pull.
    #[prost(uint64, tag = "2")]
    pub cpu_nanos: u64,
}
