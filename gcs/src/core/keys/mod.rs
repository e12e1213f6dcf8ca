//! Keys and values: the table of them, and what processes ask of it.

pub(in crate::core) mod events;
pub mod table;
