//! Wire messages: gRPC services between nodes and frames between local processes.
//!
//! Owns: the generated code of `protos/aktis/v1/*.proto`. Does not own: any meaning; the documents of the fields are in
//! the `.proto` files, the protocols in `docs/architecture.md`.

/// Version 1 of the wire.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("aktis.v1");
}
