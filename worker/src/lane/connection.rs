//! One unix socket with its outgoing bytes and its decoder.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use prost::Message;
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};

use super::frame::{Decoder, Frame};
use super::outbox::{Flushed, Outbox};
use super::reactor::Reactor;
use crate::stages::{Stage, mark};
use crate::sync::Mutex;
use crate::value::PayloadParts;

/// Bytes that may wait unflushed before the sender flushes them itself.
const FLUSH_ABOVE_BYTES: usize = 8 << 10;

/// Identifies a connection within its reactor; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// The other side is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub(crate) struct Closed;

/// When the bytes of a frame have to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The calling thread writes.
    Now,
    /// Joined with what follows: written when enough waits, when a thread waits, or by the lane thread.
    Soon,
}

/// What happens with a connection's frames. Called by the thread that has the turn.
pub(crate) trait Handler: Send + Sync {
    /// A frame has come. An error closes the connection; its text is logged.
    fn on_frame(&self, connection: &Arc<Connection>, frame: Frame<'_>) -> Result<(), String>;
    /// No more frames will come.
    fn on_closed(&self, connection: &Arc<Connection>);
}

#[derive(Default)]
struct Outgoing {
    outbox: Outbox,
    /// The reactor waits for the socket to take more.
    is_blocked: bool,
    /// Listed with the reactor as having unflushed bytes.
    is_dirty: bool,
    is_closed: bool,
}

/// A connection driven by a [`Reactor`].
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    socket: OwnedFd,
    outgoing: Mutex<Outgoing>,
    decoder: Mutex<Decoder>,
    handler: Arc<dyn Handler>,
    reactor: Arc<Reactor>,
}

impl Connection {
    pub(super) fn new(
        id: ConnectionId,
        socket: OwnedFd,
        decoder: Decoder,
        handler: Arc<dyn Handler>,
        reactor: Arc<Reactor>,
    ) -> Arc<Self> {
        let decoder = Mutex::new(decoder);
        Arc::new(Self {
            id,
            socket,
            outgoing: Mutex::default(),
            decoder,
            handler,
            reactor,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a frame. Frames of one connection arrive in the order of these calls.
    pub(crate) fn send<M: Message>(
        self: &Arc<Self>,
        header: &M,
        payload: &PayloadParts,
        urgency: Urgency,
    ) -> Result<(), Closed> {
        if self.enqueue(header, payload, urgency)? {
            self.flush();
        }
        Ok(())
    }

    /// Appends a frame without writing, so that locks may be held. True: [`Self::flush`] is due.
    pub(crate) fn enqueue<M: Message>(
        self: &Arc<Self>,
        header: &M,
        payload: &PayloadParts,
        urgency: Urgency,
    ) -> Result<bool, Closed> {
        let mut outgoing = self.outgoing.lock();
        if outgoing.is_closed {
            return Err(Closed);
        }
        outgoing.outbox.push(header, payload);
        if outgoing.is_blocked {
            return Ok(false);
        }
        if urgency == Urgency::Now || outgoing.outbox.waiting_bytes() > FLUSH_ABOVE_BYTES {
            return Ok(true);
        }
        if !outgoing.is_dirty {
            outgoing.is_dirty = true;
            drop(outgoing);
            self.reactor.add_unflushed(Arc::clone(self));
        }
        Ok(false)
    }

    /// Writes what waits; what does not fit goes on when the socket is writable.
    pub(crate) fn flush(self: &Arc<Self>) {
        self.flush_locked(&mut self.outgoing.lock());
    }

    fn flush_locked(self: &Arc<Self>, outgoing: &mut Outgoing) {
        outgoing.is_dirty = false;
        let was_blocked = outgoing.is_blocked;
        match outgoing.outbox.flush(self.socket.as_fd()) {
            Ok(flushed) => {
                mark(Stage::Sent);
                outgoing.is_blocked = flushed == Flushed::Blocked;
            }
            Err(_) => {
                // The reader sees the same end and reports it, with everything that arrived before.
                outgoing.is_closed = true;
                outgoing.is_blocked = false;
            }
        }
        if outgoing.is_blocked != was_blocked {
            self.reactor.set_write_interest(self, outgoing.is_blocked);
        }
    }

    /// Reads what is there and hands the frames to the handler. False: the connection is over.
    pub(super) fn read_ready(self: &Arc<Self>) -> bool {
        const READS_PER_TURN: usize = 16;
        let mut decoder = self.decoder.lock();
        for _ in 0..READS_PER_TURN {
            let space = decoder.space();
            let room = space.len();
            let count = match recv(&self.socket, space, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return false,
                Ok((count, _)) => count,
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => continue,
                Err(_) => return false,
            };
            mark(Stage::Received);
            decoder.advance(count);
            if !self.handle_frames(&mut decoder) {
                return false;
            }
            if count < room {
                return true;
            }
        }
        true
    }

    /// Handles frames that were received before the connection was added to the reactor.
    pub(crate) fn handle_buffered(self: &Arc<Self>) {
        if !self.handle_frames(&mut self.decoder.lock()) {
            self.close();
        }
    }

    fn handle_frames(self: &Arc<Self>, decoder: &mut Decoder) -> bool {
        loop {
            let handled = match decoder.next_frame() {
                Ok(None) => return true,
                Ok(Some(frame)) => self.handler.on_frame(self, frame),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = handled {
                tracing::error!(
                    connection = self.id.0,
                    reason,
                    "closing a connection that sent a bad frame"
                );
                return false;
            }
        }
    }

    /// Ends the connection from this side; the reactor then reports it closed.
    pub(crate) fn close(&self) {
        // Fails only when the peer was faster.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    pub(super) fn report_closed(self: &Arc<Self>) {
        self.outgoing.lock().is_closed = true;
        self.handler.on_closed(self);
    }
}
