//! The library inside every driver and worker process: ownership, submission, execution.
//!
//! Owns: references and their counts, tasks until they end, lineage, leased workers, calls to actors, which lanes there
//! are to other processes, the connection to the node's raylet. Does not own: how frames travel (`aktis-lane`), where tasks
//! run (the raylet and the gcs decide), object storage (the raylet's store), user code (the embedder executes what
//! [`Runtime::next_work`] hands it).
//!
//! ```text
//!                 put / get / wait / submit / call                  next_work / finish
//!                            │                                             ▲
//!  runtime   ────────────────▼─────────────────────────────────────────────┴────────
//!              api ── with_core ──►  core (pure)  ──► effects ──► carry_out     execution queue
//!                                      ▲                              │              ▲
//!              incoming ───────────────┘                              ▼              │
//!  lane      ──── frames ◄──── reactor (leader / follower) ────► outboxes ──────────┘
//!                               │                │
//!                        workers, actors,     raylet of this node
//!                        owners (unix sockets)
//! ```
//! # Invariants
//! - `REF-1 (freed-once)`, `LEND-1 (nothing-lost-in-good-order)`: `core::objects`
//! - `STREAM-1 (items-in-order)`, `STREAM-2 (nobody-waits-for-what-is-there)`: `core::streams`
//! - `TASK-1 (one-end)`, `TASK-2 (retries-bounded)`, `TASK-3 (cancelled-for-good)`, `TASK-4 (kept-for-results)`: `core::tasks`
//! - `CLASS-1 (no-lost-task)`, `CLASS-2 (nothing-behind-a-long-task)`: `core::leases`
//! - `ACTOR-1 (fifo)`: `core::actors`
//! - `LANE-6 (few-strangers)`: `runtime::strangers`
//!
//! Those of the lanes themselves are in [`aktis_lane`].

mod core;
mod devices;
pub mod error;
mod execution;
mod inband;
mod life;
pub mod native;
mod node_link;
pub mod options;
pub mod reference;
pub mod runtime;
mod store;
#[doc(hidden)]
pub mod testing;
mod trim;
pub mod value;

pub use error::TaskFailure;
pub use execution::{InterruptClaim, Work, current_task, set_current_task};
pub use inband::Inband;
pub use options::{ActorOptions, CallOptions, Function, Strategy, TaskOptions};
pub use reference::{ObjectRef, ProcessAddress};
pub use runtime::{
    ActorHandle, GetError, LENDS_AFTER, LeaseMark, ObjectStream, ProcessRole, ReceivedCall,
    RemoteFunction, RemoteMethod, Runtime, RuntimeConfig,
};
pub use trim::keep_freed;
pub use value::{Format, MadeBytes, Value};
