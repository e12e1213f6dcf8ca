//! How connections are opened, served and guarded: those of gRPC, and streams of bytes beside it.
//!
//! # Invariants
//! - `NET-1 (guarded-beyond-loopback)`: a listener on an address that is not loopback has a token and TLS, or is not
//!   opened.
//!   A client goes beyond loopback by TLS, or not at all.
//! - `NET-2 (every-call-is-checked)`: every call, and every stream when it opens, carries the cluster's token, compared in constant time, and the version of
//!   Aktis; on a unix socket the peer's user is this user (or root).
//! - `NET-3 (own-peers)`: without TLS a client speaks to processes of its own user only, whatever it was told is there.
//! - `NET-5 (strangers-are-few)`: connections without a call that was let in are few, and end after a while.

mod address;
mod auth;
mod client;
mod door;
mod network;
mod peer;
mod security;
mod server;
mod streams;

pub use address::{Address, AddressError};
pub use auth::ClientAuth;
pub use client::{Channel, ConnectError, connect, connect_lazy, gcs_client, raylet_client};
pub use network::{BoxedDuplex, Carrier, Dialling, Duplex, Incoming, Network};
pub use peer::ForeignPeer;
pub use security::{Security, SecurityError, TlsPaths};
pub use server::{ListenError, Listener, serve};
pub use streams::serve_streams;

/// Most bytes of one message: definitions of functions (100 MB at most) and arguments of actors travel inside. Whoever reads one
/// reserves what is announced, if not its pages, so it is no more than messages have.
pub const MAX_MESSAGE_BYTES: usize = 256 << 20;
