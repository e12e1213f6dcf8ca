//! Aktis from Rust: tasks, actors and objects of programs that have no Python in them.
//!
//! Owns: how a program is its own driver, zygote and workers ([`program`]), and the names under which such a program finds
//! everything. Does not own: the runtime behind these names and running native code (`aktis-worker`, which the Python
//! bindings and datasets use, too), starting a session (`aktis-cli`).
//!
//! ```text
//!  program ── NativeRegistry: functions and actors by name ──► run_if_zygote ──► zygote ──► workers
//!     │                                                                                       │ calls by name
//!     └── join_as_driver ──► Runtime ── submit(RemoteFunction), call(RemoteMethod), get ──────┘
//! ```
//! Values are bytes so far: a function takes and gives [`Value`]s, and reads them itself.

pub mod program;
mod work;

pub use aktis_common::error::ErrorCode;
pub use aktis_worker::native::{
    CallContext, NativeActor, NativeActorFactory, NativeFunction, NativeRegistry,
};
pub use aktis_worker::options::ResourceMap;
pub use aktis_worker::{
    ActorHandle, ActorOptions, CallOptions, Function, GetError, ObjectRef, ObjectStream,
    RemoteFunction, RemoteMethod, Runtime, Strategy, TaskFailure, TaskOptions, Value,
};
pub use program::{join_as_driver, run_if_zygote, zygote_command};
