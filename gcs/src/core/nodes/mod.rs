//! Nodes: the table of them, and how they come and go.

pub(in crate::core) mod events;
pub mod table;
