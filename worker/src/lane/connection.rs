//! One unix socket with its outgoing bytes and its decoder.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use prost::Message;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, Shutdown, recv, recvmsg, shutdown,
};

use super::frame::{Decoder, Frame};
use super::outbox::{Flushed, Outbox};
use super::reactor::Reactor;
use super::slots::{ReceivedSlots, SentSlots, SlotRange};
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

/// Memory for long payloads that the peer has mapped.
#[derive(Default)]
enum Sharing {
    /// The peer is not known to be on this node.
    #[default]
    Off,
    /// There can be no more such memory.
    Refused,
    /// To be made for the first long payload.
    Possible,
    On(SentSlots),
}

#[derive(Default)]
struct Outgoing {
    outbox: Outbox,
    sharing: Sharing,
    /// The reactor waits for the socket to take more.
    is_blocked: bool,
    /// Listed with the reactor as having unflushed bytes.
    is_dirty: bool,
    is_closed: bool,
}

impl Outgoing {
    /// Puts a long payload where the peer sees it. `None`: it is to go through the socket.
    fn place(&mut self, payload: &PayloadParts) -> Option<SlotRange> {
        if !SentSlots::suits(payload.len_bytes()) {
            return None;
        }
        if let Sharing::Possible = self.sharing {
            self.sharing = Sharing::Refused;
            let (slots, memory) = SentSlots::new()?;
            self.outbox.attach(memory);
            self.sharing = Sharing::On(slots);
        }
        match &mut self.sharing {
            Sharing::On(slots) => slots.place(payload),
            Sharing::Off | Sharing::Refused | Sharing::Possible => None,
        }
    }
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

    /// The peer is a process of this node, at the other end of the socket: long payloads may go through shared memory.
    pub(crate) fn share_memory(&self) {
        let sharing = &mut self.outgoing.lock().sharing;
        // A second memory would not be received: the peer looks for one descriptor.
        if let Sharing::Off = sharing {
            *sharing = Sharing::Possible;
        }
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
        let range = outgoing.place(payload);
        match range {
            Some(range) => outgoing.outbox.push_shared(header, range),
            None => outgoing.outbox.push(header, payload),
        }
        mark(Stage::Queued);
        if outgoing.is_blocked {
            return Ok(false);
        }
        let has_much = outgoing.outbox.waiting_bytes() > FLUSH_ABOVE_BYTES || range.is_some();
        if urgency == Urgency::Now || has_much {
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
        let waiting_bytes = outgoing.outbox.waiting_bytes();
        if waiting_bytes > 0 {
            mark(Stage::Sending);
        }
        match outgoing.outbox.flush(self.socket.as_fd()) {
            Ok(flushed) => {
                if outgoing.outbox.waiting_bytes() < waiting_bytes {
                    mark(Stage::Sent);
                }
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
            let room = decoder.space().len();
            let count = match self.read_once(&mut decoder) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => continue,
                Err(_) => return false,
            };
            mark(Stage::Received);
            decoder.advance(count);
            if !self.handle_frames(&mut decoder) {
                return false;
            }
            mark(Stage::Handled);
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
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
                && let Some(memory) = descriptors.next()
            {
                decoder.set_slots(ReceivedSlots::new(&memory)?);
            }
        }
        Ok(received.bytes)
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
