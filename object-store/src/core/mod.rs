//! The decisions of the store: pure state, no files, clock, threads or shared memory.
//!
//! [`ObjectTable`] is told what happened (a method per event), answers at once where it can, and
//! leaves everything else as [`StoreEffect`]s that the caller drains and carries out.
//!
//! ```text
//!  create/seal/get/release/free/...          spill_written, object_restored, ...
//!              |                                        ^
//!              v                                        |
//!  +--------------------------- ObjectTable -----------------------------+
//!  | objects  Allocator  ClassIndex  MemoryQueue  SpillFiles  GetWaiters |
//!  +------------------------------|--------------------------------------+
//!                                 v  drain_effects()
//!      Reply, WriteSpillFile, RestoreObject, CreateFile, CheckObject, DeleteSpillFile,
//!      PopulatePages, DiscardPages
//! ```

mod allocator;
mod client_counts;
mod effect;
mod index;
mod object;
mod queue;
mod request;
mod spill_files;
mod stats;
mod table;
mod waiters;

pub use allocator::{ALIGNMENT_BYTES, Allocator, Extent, PAGE_ALIGNED_FROM_BYTES};
pub use effect::{GoneReason, StoreEffect, StoreReply};
pub use object::{ObjectState, SpillFileId, SpillSlot, SpilledPart};
pub use request::{
    BytesAt, ClientId, CreateAnswer, CreateError, FileLocation, GetAnswer, GetError,
    ObjectLocation, ReleaseError, RestoreFailure, SealError, StoreFull,
};
pub use stats::{ObjectInfo, StoreStats, WaitingRequest};
pub use table::{ObjectTable, TableConfig};
