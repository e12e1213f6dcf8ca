//! The one daemon of a node: leases, resources, worker pool, object store, transfer.
//!
//! Owns: who may use which resources of this node, its worker processes, its object store, the connections of its
//! processes, and the way to other nodes. Does not own: what tasks and objects mean (the worker crate), where actors go
//! (the gcs), how the store keeps bytes (the object-store crate).
//!
//! ```text
//!  processes of this node                   other raylets, gcs, command line
//!        │ raylet.sock: NodeFrames                 │ gRPC
//!  ┌─────▼──────────────────────┐          ┌───────▼────────┐
//!  │ io::process_socket, links  │          │ service        │
//!  └─────┬──────────────────────┘          └───────┬────────┘
//!        └───────────► main_loop: the one loop ◄───┘
//!                         │ Event    ▲
//!                         ▼          │ Effect
//!                       core: processes, pool, claims, hosting,
//!                         watches, pulls, deaths, node
//!        ┌────────────┬───────────┬──────────┬───────────┐
//!        ▼            ▼           ▼          ▼           ▼
//!    io::zygote   io::store   io::gcs    io::peers    io::logs      io::lane_proxy
//!    forks        NodeStore   link,      leases       output of     lanes to other nodes,
//!    workers                  reports                 workers       transfer: copies; no loop
//! ```
//!
//! # Invariants
//! - `PROC-1 (one-connection)`, `PROC-2 (ended-once)`: [`core::processes`]
//! - `POOL-1 (idle-is-connected)`, `POOL-2 (one-job)`, `POOL-3 (gpus-for-life)`, `POOL-4 (modules-only-grow)`,
//!   `POOL-5 (vacated-first)`, `POOL-6 (one-under-each-name)`: [`core::pool`]
//! - `LEASE-1 (never-over-commits)`, `LEASE-2 (end-gives-back)`, `LEASE-3 (one-place)`,
//!   `LEASE-4 (now-is-not-for-ever)`: [`core::claims`]
//! - `HOST-1 (one-incarnation)`, `HOST-2 (hosted-or-waiting)`: [`core::hosting`]
//! - `WATCH-1 (dead-is-final)`, `WATCH-2 (no-step-back)`, `WATCH-3 (somebody-and-something)`: [`core::watches`]
//! - `PULL-1 (one-transfer)`, `PULL-2 (no-idle-transfer)`: [`core::pulls`]
//! - `MOVE-1 (checked-then-written)`, `MOVE-2 (closed-is-closed)`, `MOVE-3 (each-byte-once)`: `transfer`
//! - `DEATH-1 (awaited-once)`: [`core::deaths`]
//! - `NODE-1 (owner-takes-all)`: when a process ends, its claims, leases, references and objects end with it, and the
//!   workers it leased are killed.
//! - `NODE-2 (gone-is-gone)`: what a process held (resources, GPUs, memory of the store that it was writing) is free when
//!   the process is gone or it was returned, and not when its connection ends.
//! - `NODE-3 (healed-is-reconciled)`, `NODE-4 (others-only)`: [`core::node`]
//! - between tables: `LEASE-5 (a-worker-per-lease)`, `HOST-3 (a-start-has-its-claim)`, `NODE-5 (nobody-unknown)`:
//!   [`core::RayletCore::check`]

pub mod config;
pub mod core;
pub mod error;
mod inbox;
mod io;
mod main_loop;
pub mod processes;
mod service;
mod sockets;
mod start;
mod transfer;

pub use config::RayletConfig;
pub use error::StartError;
pub use inbox::RayletEnd;
pub use start::{PreparedRaylet, Raylet, RayletHandle};
