//! Lazy datasets over DataFusion, run by a streaming executor on stage workers.
//!
//! Owns: the plan with functions in it, where it is cut into stages, the executor with its memory budget, the worker
//! that runs a stage, reading and writing of Parquet. Does not own: processes, scheduling and the object store
//! (`aktis-worker` and what is behind it), models (`aktis-inference`), Python objects (the bindings, through
//! [`udf::UdfHost`]).
//!
//! ```text
//!  plan          stages              execution                       stage_worker (an actor)
//!  Dataset ────► optimise, cut, ──► main_loop (the only loop) ───► source ► steps ► blocks or sink
//!  (DataFusion   fit, split           │  ▲     calls of a pool        ▲         ▲
//!   + MapNode)                        ▼  │  ◄───── reports ─────       │         │
//!                                   core (pure)                     storage   udf, embed
//!                                   Executor, sizing
//!                                        │
//!                                        └──► consumer: blocks, statistics
//! ```
//!
//! Invariants, where they are kept and tested:
//!
//! | label | says | kept in |
//! |---|---|---|
//! | PLAN-1 (projection-prunes) | columns that nobody reads are not read | [`plan`] |
//! | PLAN-2 (predicate-passes-untouched) | a filter passes a map that lets its columns by | [`plan`] |
//! | PLAN-3 (limit-passes-row-preserving) | a limit passes a map that keeps rows, and no other | [`plan`] |
//! | STG-1 (nothing-half-done) | files have their names only when the job is complete | [`stage_worker`] |
//! | STG-2 (same-cut-every-time) | blocks are cut by the rows alone | [`stage_worker`] |
//! | STG-3 (an-end-is-said) | a thread that ends without saying so has failed | [`stage_worker`] |
//! | SINK-1 (all-or-nothing) | the files of a job are visible together or not at all | [`execution`] |
//! | EXE-1 (budget-holds) | waiting blocks stay within the budget and one block per worker | [`mod@core`] |
//! | EXE-2 (never-stuck) | it comes to an end whatever the sizes are | [`mod@core`] |
//! | EXE-3 (every-split-once) | every row arrives once, whatever dies | [`mod@core`] |
//! | EXE-4 (order-kept) | rows stay in order if asked | [`mod@core`] |

pub mod block;
pub mod columns;
pub mod core;
pub mod embed;
pub mod error;
pub mod execution;
mod os_error;
mod panics;
pub mod plan;
mod planner;
pub mod pool;
mod sql;
pub mod stage_worker;
pub mod stages;
pub mod stats;
pub mod storage;
#[cfg(test)]
mod testing;
pub mod udf;

pub use error::{PlanError, PlanErrorKind};
pub use execution::{
    ExecuteError, Execution, ExecutionOptions, Next, PreparedFolder, SaveMode, prepare_folder,
};
pub use plan::Dataset;
pub use stage_worker::register;
pub use stages::{ParquetOutput, Sink};
