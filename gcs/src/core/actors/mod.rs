//! Actors: the table of them, and what becomes of them: requested, placed, started, lost, over.

pub(in crate::core) mod displacing;
pub(in crate::core) mod life;
pub(in crate::core) mod placing;
mod reports;
mod requests;
pub(in crate::core) mod starts;
pub mod table;
