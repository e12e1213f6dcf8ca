//! Lanes: how frames travel between the processes of a node, and which thread moves them.
//!
//! Owns: the framing, connections with what waits to be written, the memory that two ends share, the turn to poll, and all
//! waiting of threads. Does not own: what a frame says (headers are any protobuf message, read by the [`Handler`]), tasks
//! and objects, who connects to whom, any thread: the lane thread is its user's, who calls [`Reactor::run_lane_thread`].
//!
//! ```text
//!  send ──► sharing ──► outbox ──writev──► socket ═══════ socket ──read──► decoder ──► Handler::on_frame
//!             │ long payloads                                                 ▲
//!             └────────► slots, mapped by both ends ──────────────────────────┘
//!
//!  wait ──► turn: the thread that waits polls itself, or follows one that does, or the lane thread polls for it
//! ```
//! ```text
//!  frame        u32 rest | u32 header | header | payload      encoding and incremental decoding
//!  payload      what a frame carries beside its header
//!  buffer       aligned memory for what is received, used again
//!  outbox       bytes waiting to be written, coalesced        one writev for many frames
//!  slots        memory that both ends share, for long payloads
//!  sharing      whether a connection has such memory
//!  unflushed    how long bytes wait to be coalesced
//!  connection   one unix socket: outbox + decoder
//!  turn         who polls: the waiting thread itself, or the lane thread     (leader / follower)
//!  alarm        what the lane thread sleeps on
//!  wait         polling with the turn, parking without it
//!  spin         whether polling for a moment pays
//!  watched      a descriptor of somebody else in the reactor, such as an event loop's
//!  listeners    those that take no connections for a while
//!  reactor      epoll over all connections, driven by whoever has the turn
//!  sync         the primitives of all these, so that loom can stand in for them (`tests/loom`)
//! ```
//! A program that reads a socket by a loop of its own, as the raylet does, uses [`Decoder`] and [`encode_head`] alone.
//!
//! Invariants:
//! - `LANE-1 (one-poller)`: at most one thread is inside `epoll_wait` and reads sockets.
//! - `LANE-2 (no-lost-wake-up)`: a thread that waits is either polling, or registered as a follower and unparked when
//!   its condition is met or the turn becomes free.
//! - `LANE-3 (frame-order)`: frames sent on one connection are handed to the peer's handler in the order of `send`.
//! - `LANE-4 (slot-has-one-holder)`: a slot of shared memory is written only after it was found free, and is free again only
//!   when the receiver has dropped the last value in it, and no child that was forked meanwhile can see it.
//! - `LANE-5 (polling-runs-no-python)`: what runs on the thread that polls waits for nothing but locks that are held for a
//!   moment. Handlers keep it: the embedder's code (callbacks, lines to print) only leaves a note there for a thread of its own.

mod alarm;
mod buffer;
mod connection;
mod frame;
mod listeners;
mod outbox;
mod payload;
mod reactor;
mod sharing;
mod slots;
mod spin;
mod sync;
#[doc(hidden)]
pub mod testing;
mod turn;
mod unflushed;
mod wait;
mod watched;

pub use buffer::{PART_ALIGNMENT, aligned_copy};
pub use connection::{Closed, Connection, ConnectionId, Handler, Urgency};
pub use frame::{Decoder, Frame, FrameError, encode_head, encode_whole};
pub use payload::{Payload, PayloadPart, PayloadParts, align_up};
pub use reactor::{Acceptor, Reactor, Ticker};
pub use sharing::NotOffered;
pub use slots::SlotRange;
pub use turn::Waiter;
pub use wait::{SIGNAL_SLICE, WaitEnd};
pub use watched::WatchedFd;
