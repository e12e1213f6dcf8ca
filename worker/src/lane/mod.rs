//! Lanes: how frames travel between local processes, and which thread moves them.
//!
//! ```text
//!  frame        u32 rest | u32 header | header | payload      encoding and incremental decoding
//!  payload      what a frame carries beside its header
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
//! ```
//!
//! Invariants:
//! - `LANE-1 (one-poller)`: at most one thread is inside `epoll_wait` and reads sockets.
//! - `LANE-2 (no-lost-wake-up)`: a thread that waits is either polling, or registered as a follower and unparked when
//!   its condition is met or the turn becomes free.
//! - `LANE-3 (frame-order)`: frames sent on one connection are handed to the peer's handler in the order of `send`.
//! - `LANE-4 (slot-has-one-holder)`: a slot of shared memory is written only after it was found free, and is free again only
//!   when the receiver has dropped the last value in it, and no child that was forked meanwhile can see it.
//! - `LANE-5 (polling-runs-no-python)`: what runs on the thread that polls waits for nothing but locks that are held for a
//!   moment. The embedder's code (callbacks, lines to print) only leaves a note there for a thread of its own.
//! - `LANE-6 (few-strangers)`: at most 256 incoming lanes are kept whose callers have not said hello, or a quarter of the
//!   descriptors if that is less. A caller that says hello within ten seconds is never one of those that give way.

pub(crate) mod alarm;
pub(crate) mod connection;
pub(crate) mod frame;
mod listeners;
pub(crate) mod outbox;
pub(crate) mod payload;
pub(crate) mod reactor;
mod sharing;
mod slots;
mod spin;
pub(crate) mod turn;
mod unflushed;
pub(crate) mod wait;
pub(crate) mod watched;
