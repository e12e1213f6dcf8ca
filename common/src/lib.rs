//! What every process of Aktis agrees on: identifiers, failures, settings, resources and scheduling policy.
//!
//! Owns: value types and pure functions. Does not own: any state, thread, socket or file.
//!
//! ```text
//!  ids          typed identifiers, and how they are made
//!  error        ErrorCode: the closed set of failures that cross processes
//!  zygote       messages between a raylet and the zygote that forks its workers
//! ```

pub mod error;
pub mod ids;
pub mod zygote;
