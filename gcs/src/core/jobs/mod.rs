//! Jobs: the table of them, and how they begin and end.

pub(in crate::core) mod events;
pub mod table;
