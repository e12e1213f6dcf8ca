//! What follows from what: passes the consequences of one table's change on to the others.

mod cancel;
mod ends;
mod lineage;

pub(crate) use cancel::{Cancel, CancelError, cancelled_failure};
pub(crate) use ends::{EndedResult, ResultValue};
