//! Wire messages: gRPC services between nodes and frames between local processes.
//!
//! Owns: the generated code of `protos/aktis/v1/*.proto`, the translation between wire and value types, and how gRPC
//! connections are opened, served and guarded. Does not own: any meaning; the documents of the fields are in the
//! `.proto` files, the protocols in `docs/architecture.md`.
//!
//! ```text
//!  v1          generated messages, clients and servers
//!  convert     v1 messages <-> aktis_common types
//!  transport   Address, Security, connect(), Listener, serve(); streams beside gRPC
//! ```
//! # Invariants
//! - `NET-1 (guarded-beyond-loopback)`, `NET-2 (every-call-is-checked)`, `NET-3 (own-peers)`, `NET-5 (strangers-are-few)`:
//!   [`transport`]

pub mod convert;
pub mod transport;

/// The version of Aktis that this process is.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a caller of another version is refused: messages change between versions without notice, and one process would half
/// understand the other.
///
/// `what` refuses; an empty `theirs` is of a time when callers did not say.
pub fn refusal_of_version(what: &str, theirs: &str) -> String {
    // Somebody else's text: no more of it than a version needs.
    let theirs: String = theirs.chars().take(32).collect();
    let theirs = if theirs.is_empty() {
        "an older one, which does not say its version".to_owned()
    } else {
        format!("Aktis {theirs}")
    };
    format!(
        "this {what} is Aktis {VERSION}, the caller is {theirs}: all nodes and drivers of a cluster have the same version; \
         install the head's everywhere"
    )
}

/// Version 1 of the wire.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod v1 {
    tonic::include_proto!("aktis.v1");
}
