//! What every process of Aktis agrees on: identifiers, failures, settings, resources and scheduling policy.
//!
//! Owns: value types and pure functions, and the questions to the machine that settings and resources come from.
//! Does not own: any thread or socket; no state but the marks of a forked child, and those of a call's way
//! when they are recorded.
//!
//! ```text
//!  ids          typed identifiers, and how they are made
//!  error        ErrorCode: the closed set of failures that cross processes
//!  fork         what the child of a fork in user code lets go of
//!  zygote       messages between a raylet and the zygote that forks its workers
//!  resources    fixed-point resources: requests, nodes, allocations
//!  scheduling   solve(view, request) -> placement, and the order of waiting requests
//!  config       the one registry of settings; the only reader of environment variables
//!  checks       invariants as functions, and how often a daemon looks at its own state
//!  machine      machine id, CPUs and memory of this machine, within its cgroup
//!  limits       descriptors that this process may have
//!  standard_streams  descriptors 0 to 2 are nobody else's
//!  gpu          GPUs of this machine, by NVML
//!  job_costs    under which keys the head has what jobs have cost
//!  end_deadline when the end of this process must be over
//!  offspring    children of this process, and their ends
//!  marks        where the time of a call goes, for `benches/account`
//!  process_title  how a process is called in `ps` and `top`
//! ```
//!
//! # Invariants
//! - `RES-1 (never-over-commit)`, `RES-2 (fractions-never-straddle)`, `RES-3 (release-restores)`: [`resources`]
//! - `SCH-1 (fits-now)`, `SCH-2 (deterministic)`, `SCH-3 (infeasible-names-what-is-missing)`, `SCH-4 (no-starvation)`:
//!   [`scheduling`]

pub mod checks;
pub mod config;
pub mod end_deadline;
pub mod error;
pub mod fork;
pub mod gpu;
pub mod ids;
pub mod job_costs;
pub mod limits;
pub mod machine;
pub mod marks;
pub mod offspring;
pub mod process_title;
pub mod resources;
pub mod scheduling;
mod session_id;
pub mod standard_streams;
pub mod zygote;
