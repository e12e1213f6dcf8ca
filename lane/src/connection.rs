//! One unix socket with its outgoing bytes and its decoder.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use aktis_common::fork;
use prost::Message;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, Shutdown, recv, recvmsg,
    shutdown,
};

use super::frame::{Decoder, Frame};
use super::outbox::{Flushed, Outbox};
use super::reactor::Reactor;
use super::sharing::{NotOffered, Sharing};
use super::slots::ReceivedSlots;
use crate::payload::PayloadParts;
use crate::sync::Mutex;
use aktis_common::marks::{Point, mark};

/// Bytes that may wait unflushed before the sender flushes them itself.
const FLUSH_ABOVE_BYTES: usize = 8 << 10;

/// Identifies a connection within its reactor; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The other side is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Closed;

/// When the bytes of a frame have to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// The calling thread writes.
    Now,
    /// Joined with what follows: written when enough waits, when a thread waits, or by the lane thread.
    Soon,
}

/// What happens with a connection's frames. Called by the thread that has the turn.
pub trait Handler: Send + Sync {
    /// A frame has come. An error closes the connection; its text is logged.
    fn on_frame(&self, connection: &Arc<Connection>, frame: Frame<'_>) -> Result<(), String>;
    /// The memory that the peer offers is mapped: the peer is to be told, and then uses it.
    fn on_memory_mapped(&self, _connection: &Arc<Connection>) {}
    /// No more frames will come.
    fn on_closed(&self, connection: &Arc<Connection>);
}

#[derive(Default)]
struct Outgoing {
    outbox: Outbox,
    sharing: Sharing,
    /// The reactor waits for the socket to take more.
    is_blocked: bool,
    /// In the reactor's list of those with unflushed bytes; maybe without any, if they were flushed meanwhile.
    is_listed: bool,
    is_closed: bool,
}

/// A connection driven by a [`Reactor`].
pub struct Connection {
    /// Which one it is.
    pub id: ConnectionId,
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

    /// The peer is a process of this node, at the other end of the socket: long payloads may go through shared memory.
    pub fn share_memory(&self) {
        self.outgoing.lock().sharing.allow();
    }

    /// The peer has mapped the memory that it was offered.
    pub fn use_shared_memory(&self) -> Result<(), NotOffered> {
        self.outgoing.lock().sharing.confirm()
    }

    /// Sends a frame. Frames of one connection arrive in the order of these calls.
    pub fn send<M: Message>(
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
    pub fn enqueue<M: Message>(
        self: &Arc<Self>,
        header: &M,
        payload: &PayloadParts,
        urgency: Urgency,
    ) -> Result<bool, Closed> {
        let mut locked = self.outgoing.lock();
        let outgoing = &mut *locked;
        // The child of a fork would write into memory that its parent shares with the peer.
        if outgoing.is_closed || fork::is_abandoned() {
            return Err(Closed);
        }
        let range = outgoing.sharing.place(payload, &mut outgoing.outbox);
        match range {
            Some(range) => outgoing.outbox.push_shared(header, range),
            None => outgoing.outbox.push(header, payload),
        }
        mark(Point::Queued);
        if outgoing.is_blocked {
            return Ok(false);
        }
        let has_much = outgoing.outbox.waiting_bytes() > FLUSH_ABOVE_BYTES || range.is_some();
        if urgency == Urgency::Now || has_much {
            return Ok(true);
        }
        if !std::mem::replace(&mut outgoing.is_listed, true) {
            drop(locked);
            self.reactor.add_unflushed(Arc::clone(self));
        }
        Ok(false)
    }

    /// Writes what waits; what does not fit goes on when the socket is writable.
    pub fn flush(self: &Arc<Self>) {
        self.flush_locked(&mut self.outgoing.lock());
    }

    /// [`Self::flush`] of a connection that was taken from the reactor's list.
    pub(super) fn flush_listed(self: &Arc<Self>) {
        let mut outgoing = self.outgoing.lock();
        outgoing.is_listed = false;
        self.flush_locked(&mut outgoing);
    }

    fn flush_locked(self: &Arc<Self>, outgoing: &mut Outgoing) {
        let was_blocked = outgoing.is_blocked;
        let waiting_bytes = outgoing.outbox.waiting_bytes();
        if waiting_bytes > 0 {
            mark(Point::Sending);
        }
        match outgoing.outbox.flush(self.socket.as_fd()) {
            Ok(flushed) => {
                if outgoing.outbox.waiting_bytes() < waiting_bytes {
                    mark(Point::Sent);
                }
                outgoing.is_blocked = flushed == Flushed::Blocked;
            }
            Err(error) => {
                outgoing.is_closed = true;
                outgoing.is_blocked = false;
                // The reader sees a peer's end by itself and reports it, with everything that arrived before. Of a failure
                // on this side nobody would tell it.
                if !matches!(error, Errno::PIPE | Errno::CONNRESET) {
                    tracing::warn!(connection = self.id.0, %error, "closing a connection that cannot be written");
                    self.close();
                }
            }
        }
        if outgoing.is_blocked != was_blocked {
            self.reactor.set_write_interest(self, outgoing.is_blocked);
        }
    }

    /// Whether bytes wait that the peer can still receive.
    pub(super) fn has_unwritten(&self) -> bool {
        let outgoing = self.outgoing.lock();
        !outgoing.is_closed && outgoing.outbox.waiting_bytes() > 0
    }

    /// Reads what is there and hands the frames to the handler. False: the connection is over.
    pub(super) fn read_ready(self: &Arc<Self>) -> bool {
        const READS_PER_TURN: usize = 16;
        let mut decoder = self.decoder.lock();
        for _ in 0..READS_PER_TURN {
            let room = decoder.space().len();
            let had_slots = decoder.has_slots();
            let count = match self.read_once(&mut decoder) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => continue,
                Err(_) => return false,
            };
            mark(Point::Received);
            if decoder.has_slots() != had_slots {
                self.handler.on_memory_mapped(self);
            }
            decoder.advance(count);
            if !self.handle_frames(&mut decoder) {
                return false;
            }
            mark(Point::Handled);
            if count < room {
                return true;
            }
        }
        true
    }

    /// Reads what there is room for. The peer sends at most one descriptor: that of its memory.
    fn read_once(&self, decoder: &mut Decoder) -> Result<usize, Errno> {
        if decoder.has_slots() {
            return recv(&self.socket, decoder.space(), RecvFlags::DONTWAIT)
                .map(|(count, _)| count);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut bytes = [IoSliceMut::new(decoder.space())];
        let received = recvmsg(&self.socket, &mut bytes, &mut control, flags)?;
        // With the only descriptor lost, the peer is not told that its memory is mapped, and does without.
        if received.flags.contains(ReturnFlags::CTRUNC) {
            tracing::debug!(
                connection = self.id.0,
                "no descriptor is free for a lane's shared memory"
            );
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
                && let Some(memory) = descriptors.next()
            {
                match ReceivedSlots::new(&memory) {
                    Ok(slots) => decoder.set_slots(slots),
                    Err(error) => {
                        tracing::debug!(connection = self.id.0, %error, "a lane's shared memory cannot be mapped");
                    }
                }
            }
        }
        Ok(received.bytes)
    }

    /// Handles frames that were received before the connection was added to the reactor.
    pub fn handle_buffered(self: &Arc<Self>) {
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
    pub fn close(&self) {
        // Fails only when the peer was faster.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    pub(super) fn report_closed(self: &Arc<Self>) {
        self.outgoing.lock().is_closed = true;
        self.handler.on_closed(self);
    }
}

#[cfg(test)]
mod tests;
