//! Tasks and actors that are Rust code: what a binary has of them, and running them.
//!
//! For whoever embeds the runtime: programs in Rust (`aktis`), the stage workers of datasets, workers in Python that serve both.
//! The runtime itself knows none of it: it hands calls out by [`Runtime::next_work`](crate::Runtime::next_work).

mod host;
mod registry;

pub use host::{NativeHost, is_native};
pub use registry::{CallContext, NativeActor, NativeActorFactory, NativeFunction, NativeRegistry};
