//! What every process of Aktis agrees on: identifiers, failures, settings, resources and scheduling policy.
//!
//! Owns: value types and pure functions. Does not own: any state, thread, socket or file.
//!
//! ```text
//!  ids          typed identifiers, and how they are made
//!  error        ErrorCode: the closed set of failures that cross processes
//!  zygote       messages between a raylet and the zygote that forks its workers
//!  resources    fixed-point resources: requests, nodes, allocations
//!  scheduling   solve(view, request) -> placement, and the order of waiting requests
//! ```

pub mod error;
pub mod ids;
pub mod resources;
pub mod scheduling;
pub mod zygote;
