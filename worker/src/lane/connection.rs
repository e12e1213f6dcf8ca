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
    /// The memory that the peer offers is mapped: the peer is to be told, and then uses it.
    fn on_memory_mapped(&self, _connection: &Arc<Connection>) {}
    /// No more frames will come.
    fn on_closed(&self, connection: &Arc<Connection>);
}

/// The peer says that it has mapped memory of which it was told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shared memory is said to be mapped that was not offered")]
pub(crate) struct NotOffered;

/// Memory for long payloads that the peer maps, see [`super::slots`].
#[derive(Default)]
enum Sharing {
    /// The peer is not known to be on this node.
    #[default]
    Off,
    /// There can be no more such memory.
    Refused,
    /// To be made for the first long payload.
    Possible,
    /// Its descriptor is sent, or about to be; whether the peer can map it is not known.
    Offered(SentSlots),
    /// The peer has mapped it.
    On(SentSlots),
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

impl Outgoing {
    /// Puts a long payload where the peer sees it. `None`: it is to go through the socket.
    fn place(&mut self, payload: &PayloadParts) -> Option<SlotRange> {
        if !SentSlots::suits(payload.len_bytes()) {
            return None;
        }
        match &mut self.sharing {
            Sharing::On(slots) => return slots.place(payload),
            Sharing::Possible => self.offer(),
            Sharing::Off | Sharing::Refused | Sharing::Offered(_) => {}
        }
        None
    }

    /// Makes the memory, and has its descriptor sent.
    fn offer(&mut self) {
        self.sharing = match SentSlots::new() {
            Some((slots, memory)) => {
                self.outbox.attach(memory);
                Sharing::Offered(slots)
            }
            None => Sharing::Refused,
        };
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

    /// The peer has mapped the memory that it was offered.
    pub(crate) fn use_shared_memory(&self) -> Result<(), NotOffered> {
        let sharing = &mut self.outgoing.lock().sharing;
        match std::mem::take(sharing) {
            Sharing::Offered(slots) => {
                *sharing = Sharing::On(slots);
                Ok(())
            }
            other => {
                *sharing = other;
                Err(NotOffered)
            }
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
        // The child of a fork would write into memory that its parent shares with the peer.
        if outgoing.is_closed || fork::is_abandoned() {
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
        if !std::mem::replace(&mut outgoing.is_listed, true) {
            drop(outgoing);
            self.reactor.add_unflushed(Arc::clone(self));
        }
        Ok(false)
    }

    /// Writes what waits; what does not fit goes on when the socket is writable.
    pub(crate) fn flush(self: &Arc<Self>) {
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
            mark(Stage::Sending);
        }
        match outgoing.outbox.flush(self.socket.as_fd()) {
            Ok(flushed) => {
                if outgoing.outbox.waiting_bytes() < waiting_bytes {
                    mark(Stage::Sent);
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
            mark(Stage::Received);
            if decoder.has_slots() != had_slots {
                self.handler.on_memory_mapped(self);
            }
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use aktis_proto::v1 as wire;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use wire::lane_frame::Kind;

    use super::*;
    use crate::lane::frame::FrameError;
    use crate::lane::turn::Waiter;
    use crate::lane::wait::WaitEnd;
    use crate::value::{Format, Value};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Counts down when the connection has ended.
    struct UntilClosed(Arc<Waiter>);

    impl Handler for UntilClosed {
        fn on_frame(&self, _: &Arc<Connection>, _: Frame<'_>) -> Result<(), String> {
            Ok(())
        }

        fn on_closed(&self, _: &Arc<Connection>) {
            self.0.count_down();
        }
    }

    /// Both ends of a lane: keeps the payloads that come, and says of the peer's memory that it is mapped.
    struct Confirming {
        payloads: Mutex<Vec<bytes::Bytes>>,
        frames: Arc<Waiter>,
    }

    impl Confirming {
        fn until(frames: usize) -> Arc<Self> {
            Arc::new(Self {
                payloads: Mutex::default(),
                frames: Waiter::new(frames),
            })
        }

        fn wait(&self, reactor: &Reactor) {
            let end = reactor.wait(&self.frames, Some(Instant::now() + PATIENCE), None);
            assert_eq!(end, WaitEnd::Done);
        }
    }

    impl Handler for Confirming {
        fn on_frame(&self, lane: &Arc<Connection>, frame: Frame<'_>) -> Result<(), String> {
            let header = wire::LaneFrame::decode(frame.header).expect("a lane's frame");
            match header.kind {
                Some(Kind::SharedMemoryMapped(_)) => lane.use_shared_memory().expect("offered"),
                _ => self.payloads.lock().push(frame.payload.into_bytes()),
            }
            self.frames.count_down();
            Ok(())
        }

        fn on_memory_mapped(&self, lane: &Arc<Connection>) {
            let mapped = Kind::SharedMemoryMapped(wire::SharedMemoryMapped {});
            let frame = wire::LaneFrame { kind: Some(mapped) };
            let sent = lane.send(&frame, &PayloadParts::default(), Urgency::Now);
            sent.expect("open");
        }

        fn on_closed(&self, _: &Arc<Connection>) {}
    }

    fn send_long(lane: &Arc<Connection>) -> Vec<u8> {
        let (frame, payload) = (wire::LaneFrame::default(), bytes(50_000));
        lane.send(&frame, &payload, Urgency::Now).expect("open");
        payload.concat()
    }

    fn is_sharing(lane: &Connection) -> bool {
        matches!(lane.outgoing.lock().sharing, Sharing::On(_))
    }

    /// The next frame of a peer that takes no descriptors.
    fn receive_bytes(socket: &OwnedFd, decoder: &mut Decoder) -> Result<Vec<u8>, FrameError> {
        loop {
            if let Some(frame) = decoder.next_frame()? {
                return Ok(frame.payload.into_bytes().to_vec());
            }
            let received = recv(socket, decoder.space(), RecvFlags::DONTWAIT);
            decoder.advance(received.expect("the frame was sent whole").0);
        }
    }

    fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, kind, flags, None).expect("a pair of sockets")
    }

    fn bytes(len: usize) -> PayloadParts {
        let mut payload = PayloadParts::default();
        Value::inband(Format::Bytes, vec![7; len]).append_to(&mut payload);
        payload
    }

    #[test]
    fn lane_that_cannot_be_written_is_reported_closed() {
        // A socket with messages takes none that is longer than its buffer.
        let (near, _far) = pair(SocketType::SEQPACKET);
        let reactor = Reactor::new().expect("a reactor");
        let closed = Waiter::new(1);
        let handler = Arc::new(UntilClosed(Arc::clone(&closed)));
        let lane = reactor
            .add_connection(near, Decoder::new(), handler)
            .expect("added");
        let (frame, payload) = (wire::LaneFrame::default(), bytes(8 << 20));
        lane.send(&frame, &payload, Urgency::Now).expect("open");
        let end = reactor.wait(&closed, Some(Instant::now() + PATIENCE), None);
        assert_eq!(end, WaitEnd::Done);
        assert_eq!(lane.send(&frame, &payload, Urgency::Now), Err(Closed));
    }

    #[test]
    fn long_payloads_go_through_the_socket_until_the_peer_has_mapped_the_memory() {
        let (near, far) = pair(SocketType::STREAM);
        let reactor = Reactor::new().expect("a reactor");
        let lane = reactor
            .add_connection(near, Decoder::new(), Confirming::until(0))
            .expect("added");
        lane.share_memory();
        let mut decoder = Decoder::new();
        for _ in 0..2 {
            let sent = send_long(&lane);
            assert_eq!(receive_bytes(&far, &mut decoder), Ok(sent));
        }
        lane.use_shared_memory().expect("it was offered");
        send_long(&lane);
        let received = receive_bytes(&far, &mut decoder);
        assert!(matches!(received, Err(FrameError::NoSuchSlot(_))));
        assert_eq!(lane.use_shared_memory(), Err(NotOffered));
    }

    #[test]
    fn long_payloads_lie_in_the_memory_that_both_ends_have_mapped() {
        let (near, far) = pair(SocketType::STREAM);
        let reactor = Reactor::new().expect("a reactor");
        let (near_end, far_end) = (Confirming::until(1), Confirming::until(2));
        let add = |socket, handler: &Arc<Confirming>| {
            let handler = Arc::clone(handler) as Arc<dyn Handler>;
            let added = reactor.add_connection(socket, Decoder::new(), handler);
            added.expect("added")
        };
        let (lane, _other) = (add(near, &near_end), add(far, &far_end));
        lane.share_memory();
        let first = send_long(&lane);
        assert!(!is_sharing(&lane));
        near_end.wait(&reactor);
        assert!(is_sharing(&lane));
        let second = send_long(&lane);
        far_end.wait(&reactor);
        assert_eq!(*far_end.payloads.lock(), [first, second]);
    }

    #[test]
    fn memory_that_cannot_be_mapped_does_not_end_the_lane() {
        let (near, far) = pair(SocketType::STREAM);
        let reactor = Reactor::new().expect("a reactor");
        let end = Confirming::until(2);
        let handler = Arc::clone(&end) as Arc<dyn Handler>;
        reactor
            .add_connection(near, Decoder::new(), handler)
            .expect("added");
        let mut outbox = Outbox::default();
        // It is no memory at all.
        outbox.attach(far.try_clone().expect("a descriptor"));
        for _ in 0..2 {
            outbox.push(&wire::LaneFrame::default(), &bytes(100));
            assert_eq!(outbox.flush(far.as_fd()), Ok(Flushed::Everything));
        }
        end.wait(&reactor);
        assert_eq!(end.payloads.lock().len(), 2);
    }

    #[test]
    fn connection_is_listed_once_however_often_it_is_flushed_meanwhile() {
        let (near, _far) = pair(SocketType::STREAM);
        let reactor = Reactor::new().expect("a reactor");
        let lane = reactor
            .add_connection(near, Decoder::new(), Confirming::until(0))
            .expect("added");
        let (frame, nothing) = (wire::LaneFrame::default(), PayloadParts::default());
        for round in 0..2 {
            for _ in 0..3 {
                for urgency in [Urgency::Soon, Urgency::Now] {
                    lane.send(&frame, &nothing, urgency).expect("open");
                }
            }
            assert_eq!(reactor.unflushed_connections(), 1, "round {round}");
            reactor.flush();
        }
    }
}
