//! Objects between nodes.
//!
//! A copy is fetched in several streams, beside gRPC and beside the loop ([ADR 084]): the loop says what is to come from where,
//! makes room for it, and hears how that ended.
//!
//! ```text
//!  loop ── pull ──► fetch: segments ─┬─ stream ─────────► serve ── ReadObject ──► loop of the source
//!   ▲                 │  (place)     ├─ stream ─────────► serve ── ReadObject ──►
//!   └─ PullEnded ─────┘              └─ stream ─────────► serve ── ReadObject ──►
//!
//!  request    20 bytes object | 16 bytes node that wants it | u64 offset | u64 most bytes
//!  reply      u8 0: wait | u8 1: u64 size of the object | u64 bytes that come | u8 2: u16 n | why not
//!  bytes      chunks: u32 bytes | u32 CRC-32 | bytes
//! ```
//! The place of a copy is cut into segments. Each stream takes the next one that nobody has, and asks for one more while one
//! comes in, so that a long way costs nothing. A segment knows how far it has come: what broke off in one stream goes on there in
//! another, or from another node. No chunk is written whose checksum is wrong. A source holds the object as long as it
//! writes, and no longer when the node that reads is declared dead: a machine that vanishes closes no stream.
//!
//! - `MOVE-1 (checked-then-written)`: the bytes of a chunk are written only when their checksum is right.
//! - `MOVE-2 (closed-is-closed)`: when a place was closed nothing is written to it any more, whatever streams are still there.
//! - `MOVE-3 (each-byte-once)`: of a copy that is whole each byte was written once, from whichever stream and node.
//!
//! [ADR 084]: ../../../docs/adr/084-copies-travel-beside-grpc.md

mod fetch;
#[cfg(test)]
mod file_tests;
mod place;
mod serve;
mod streams;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use fetch::{PullOrder, pull};
pub(crate) use place::PullPlace;
pub(crate) use serve::{HeldBytes, HeldFile, ReadGrant, ReadPin, ReadStage, Reading, serve};
pub(crate) use streams::TransferStreams;
