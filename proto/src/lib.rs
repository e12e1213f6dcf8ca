//! Wire messages: gRPC services between nodes and frames between local processes.
//!
//! Owns: the generated code of `protos/aktis/v1/*.proto`, the translation between wire and value types, and how gRPC
//! connections are opened, served and guarded. Does not own: any meaning; the documents of the fields are in the
//! `.proto` files, the protocols in `docs/architecture.md`.
//!
//! ```text
//!  v1          generated messages, clients and servers
//!  convert     v1 messages <-> aktis_common types
//!  transport   Address, Security, connect(), Listener, serve()
//! ```

pub mod convert;
pub mod transport;

/// The version of Aktis that this process is.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Version 1 of the wire.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod v1 {
    tonic::include_proto!("aktis.v1");
}
