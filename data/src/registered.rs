//! What is chosen by a name: sources, sinks.

use bytes::Bytes;

/// A source or a sink by the name that it is registered under, with what only it understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The name.
    pub kind: String,
    /// What it made of its settings for its workers.
    pub settings: Bytes,
}
