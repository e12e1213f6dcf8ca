//! Lazy datasets over DataFusion, run by a streaming executor on stage workers.
//!
//! Owns: the plan with functions in it, where it is cut into stages, the executor with its memory budget, the worker
//! that runs a stage, reading and writing of Parquet, where files of other formats begin and end. Does not own: processes, scheduling and the object store
//! (`aktis-worker` and what is behind it), models (`aktis-inference`), Python objects (the bindings, through
//! [`operators::udf::UdfHost`]).
//!
//! ```text
//!  plan ──────► graph ──────► wire ──────► stage_worker (an actor)
//!  Dataset:      stages,       messages     source ► operators ► blocks or sink
//!  a logical     what fits                    ▲          ▲          │
//!  plan with                   ▲           sources   operators   sinks
//!  functions     │             │ inputs, reports                   │ files
//!                ▼             ▼                                   ▼
//!              executor: main_loop (the only loop), core (pure), pool ──► ledger: what is visible, and when
//!                │
//!                └──► consumer: blocks, statistics
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`plan`] | what the user writes, the nodes that DataFusion lacks, expressions |
//! | [`graph`] | the plan cut into stages, and what of it fits into the cluster |
//! | `wire` | what travels to stage workers and back |
//! | [`sources`], [`sinks`] | where rows begin and end |
//! | [`operators`] | what happens to rows inside of a stage; relational work over all rows of an input |
//! | [`executor`] | who does what when, in which workers, within which memory |
//! | [`ledger`] | the output of a job: visible as a whole or not at all, taken up where it was left |
//! | [`stage_worker`] | one worker of a stage |
//!
//! Invariants, where they are kept and tested:
//!
//! | label | says | kept in |
//! |---|---|---|
//! | PLAN-1 (projection-prunes) | columns that nobody reads are not read | [`plan`] |
//! | PLAN-2 (predicate-passes-untouched) | a filter passes a map that lets its columns by | [`plan`] |
//! | PLAN-3 (limit-passes-row-preserving) | a limit passes a map that keeps rows, and no other | [`plan`] |
//! | STG-1 (nothing-half-done) | files have their names only when the job is complete | [`stage_worker`] |
//! | STG-2 (same-cut-every-time) | blocks are cut, and partitions found, by the rows and their place alone | [`operators`] |
//! | STG-3 (an-end-is-said) | a thread that ends without saying so has failed | [`operators`] |
//! | SINK-1 (all-or-nothing) | the files of a job are visible together or not at all | [`ledger`] |
//! | LED-1 (synced-before-it-counts) | what a ledger says of files is said when these are on the disk | [`ledger`] |
//! | LED-2 (all-or-made-again) | a ledger tells all that becomes of rows of the source, or nothing | [`mod@executor::origins`] |
//! | EXE-1 (budget-holds) | waiting blocks, but exchange data, stay within the budget and one block per worker | [`mod@executor::core`] |
//! | EXE-2 (never-stuck) | it comes to an end whatever the graph and the sizes are | [`mod@executor::core`] |
//! | EXE-3 (every-split-once) | every row arrives once along every way, whatever dies | [`mod@executor::core`] |
//! | EXE-4 (order-kept) | rows stay in order if asked, those of a partition always | [`mod@executor::core`] |
//! | CACHE-1 (same-row-same-result) | kept results are those of the same row and the same function | [`operators`] |
//! | CACHE-2 (torn-is-not-there) | files of kept results that are not whole are not believed | [`operators`] |
//! | COL-1 (by-name) | columns and fields belong together by name | [`columns`] |
//! | COL-2 (nothing-lost) | a value is the same after a conversion | [`columns`] |
//! | COL-3 (order-does-not-matter) | so are types, whatever the order of the parts | [`columns`] |

pub mod block;
pub mod columns;
pub mod costs;
mod digest;
pub mod error;
pub mod executor;
pub mod graph;
pub mod ledger;
pub mod operators;
mod os_error;
mod panics;
pub mod plan;
mod registered;
pub mod sinks;
pub mod sources;
pub mod stage_worker;
pub mod stats;
pub mod storage;
#[cfg(test)]
mod testing;
mod wire;

pub use error::{PlanError, PlanErrorKind};
pub use executor::{ExecuteError, Execution, ExecutionOptions, LetterBlock, LettersFolder, Next};
pub use ledger::{
    JobIdentity, OneOfSeveral, PreparedFolder, Request, Resume, SaveMode, TakesUp, Trait,
    has_unfinished, prepare_folder,
};
pub use plan::Dataset;
pub use sinks::{
    FarOutput, FileNames, FilesOutput, Named, ParquetOutput, ParquetWriting, Sink, SortedBy,
};
pub use stage_worker::register;
