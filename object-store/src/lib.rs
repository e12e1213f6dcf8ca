//! The shared-memory object store of one node: arena, allocator, object table, spilling.
//!
//! Owns: the memory that a node's processes share, which object lies where in it, who reads and
//! writes what, and the spill files. Does not own: where else copies of an object are, lineage,
//! the wire to clients (the raylet), nor what the bytes mean (serialisation, the worker crate).
//!
//! ```text
//!  raylet, one thread                       background threads          other processes
//! ┌─────────────────────────────────────┐  ┌───────────────────┐     ┌──────────────────┐
//! │ NodeStore   (node_store.rs)         │  │ io/  spill files, │     │ client/ ArenaMap │
//! │   event ──► core/ ObjectTable       │  │      pages        │     │   SealedRange    │
//! │             Allocator, queue, files │  └───────▲─────┬─────┘     │   CreatingRange  │
//! │   effects ──┬───────────────────────┼──────────┘     │           └────────┬─────────┘
//! │   on_io ◄───┼───────────────────────┼────────────────┘                    │ mmap
//! └─────────────┼───────────────────────┘                                     │
//!               │ notify: late answers        ┌───────────────────────────────┴─────┐
//!               └────► to clients             │ arena/  memfd │ named │ process-local│
//!                                             └─────────────────────────────────────┘
//! ```
//! The raylet is the only one to change metadata, which is in its private memory: there are no
//! locks in shared memory that a dying client could hold.
//!
//! # Invariants
//! - `OBJ-1 (single-writer)`: an object that is being created has one writer, and only that client
//!   may seal or abort it.
//! - `OBJ-2 (no-overlap)`: extents are aligned, within the arena, and never overlap.
//! - `OBJ-3 (sealed-is-immutable)`: the bytes of a sealed object never change.
//! - `OBJ-4 (readers-pin)`: an object with readers stays where they read it: in memory, or in its file.
//! - `OBJ-5 (no-leak)`: every allocated byte belongs to an object, or to page work under way; a
//!   freed object that nothing uses is gone.
//! - `OBJ-6 (files-are-counted)`: a spill file exists exactly as long as it is being written or an
//!   object needs it, and their total keeps within the limit, whether objects were spilled or created there.
//! - `OBJ-7 (gone-client-leaves-nothing)`: a client that is gone holds no reference, no half-made
//!   object and no place in a queue.
//! - `OBJ-8 (every-request-answered)`: a request that was told to wait gets exactly one answer,
//!   unless it was cancelled or its client is gone.
//! - `OBJ-9 (fifo)`: creates get room, or leave to be made on the disk, in the order in which they came, and so do restores.
//! - `OBJ-10 (classes-add-up)`: totals and orders agree with the objects.
//! - `OBJ-11 (only-corrupt-is-lost)`: a spilled object is lost when its bytes are wrong, and never because they could not be
//!   read or because there is no room for them.
//!
//! [`ObjectTable::check_invariants`](core::ObjectTable::check_invariants) checks them; the tests
//! call it after every step. What they are worth to code that reads and writes the bytes is said in [`ranges`]:
//! `RANGE-1 (alone-while-written)` and `RANGE-2 (unchanged-while-read)`.

pub mod arena;
mod checksum;
pub mod client;
mod config;
pub mod core;
mod error;
mod io;
pub mod node_store;
pub mod ranges;
mod shortage;

pub use arena::{Arena, ArenaError, ArenaHandle, sweep_stale};
pub use checksum::checksum64;
pub use client::{ArenaMap, WritableRange, open_sealed_file};
pub use config::{ArenaBackend, StoreConfig, default_capacity_bytes};
pub use core::{
    BytesAt, ClientId, CreateAnswer, CreateError, FileLocation, GetAnswer, GetError, GoneReason,
    ObjectInfo, ObjectLocation, ObjectState, ReleaseError, RestoreFailure, SealError, StoreFull,
    StoreReply, StoreStats, WaitingRequest,
};
pub use error::StoreOpenError;
pub use node_store::{IoDone, NodeStore};
pub use ranges::{CreatingRange, SealedRange};
pub use shortage::with_patience;
