//! The head's control store: nodes, actors, jobs, key-value table, publications.
//!
//! Owns: which nodes are alive, where actors are and their restarts, which jobs run, and the key-value table. Does not
//! own: leases, workers and objects (raylets), references and results (their owners).
//!
//! ```text
//!  raylets, command line                                   raylets
//!        │ gRPC                                               ▲ StartActor, KillWorker
//!  ┌─────▼─────┐  step   ┌──────────────┐ Turn ┌──────┐       │
//!  │  service  │───────► │  main_loop   │◄────►│ core │   ┌───┴────────┐
//!  └─────▲─────┘ answer  │ the one loop │      └──────┘   │ io::raylets│
//!        │               └──┬────────┬──┘                 └───▲────────┘
//!   publications            │        └────── effects ─────────┘
//!  ┌─────┴──────┐           ▼
//!  │ io::publish│◄── io::storage: memory | redb file
//!  └────────────┘
//! ```
//! The loop takes all steps that wait as one batch: the core changes its tables, then the storage keeps the changes,
//! then publications and requests go out, then callers get their answers.
//!
//! # Invariants
//! - `GCS-1 (kept-before-told)`: nobody hears that an actor was made or a value put before the storage has it. What the
//!   storage does not take is undone, and its caller is told.
//! - `GCS-2 (restart-resumes)`: a head on the same storage goes on where the last one stopped.
//! - `GCS-3 (facts-stay)`: while the storage takes nothing, what has happened all the same (deaths, starts, ends) is told,
//!   and kept as soon as it takes something; the head goes on. Who told it hears that it is owed, and tells the next head again;
//!   who asked for it (`kill`) hears that as an error. What the head itself decided meanwhile (where an actor is) the nodes tell.
//! - `GCS-4 (token-stays)`: a token that the gcs made itself stays with its tables: nodes that knew it still do.
//! - `GCS-5 (queued-is-waiting)`, `GCS-6 (nobody-on-a-dead-node)`, `GCS-7 (starts-are-answered)`: [`core::GcsCore::check`]
//! - `NODE-G1 (generations-grow)`, `NODE-G2 (booked-until-reported)`, `NODE-G3 (dead-is-told-once)`: [`core::nodes::table`]
//! - `JOB-1 (away-with-its-node)`, `JOB-2 (ends-once)`: [`core::jobs::table`]
//! - `KV-1 (rows-end-with-their-jobs)`: [`core::keys::table`]
//! - `ACT-1 (dead-is-final)`, `ACT-2 (one-name-one-actor)`, `ACT-3 (one-incarnation)`, `ACT-4 (restarts-are-bounded)`,
//!   `ACT-5 (ends-with-its-maker)`: [`core::actors::table`]
//! - `GONE-1 (each-once)`: `core::departed`

pub mod config;
pub mod core;
pub mod error;
mod inbox;
pub mod io;
mod keeper;
mod main_loop;
mod service;
mod start;

pub use config::{GcsConfig, StorageKind};
pub use error::StartError;
pub use io::storage::forget_tables;
pub use start::{Gcs, GcsHandle};
