use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;
use crate::frame::FrameError;
use crate::turn::Waiter;
use crate::wait::WaitEnd;

/// Header of a frame that says that the peer's memory is mapped; all others have 0.
const MAPPED: u32 = 1;
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
        match u32::decode(frame.header).expect("a number") {
            MAPPED => lane.use_shared_memory().expect("offered"),
            _ => self.payloads.lock().push(frame.payload.into_bytes()),
        }
        self.frames.count_down();
        Ok(())
    }

    fn on_memory_mapped(&self, lane: &Arc<Connection>) {
        let sent = lane.send(&MAPPED, &PayloadParts::default(), Urgency::Now);
        sent.expect("open");
    }

    fn on_closed(&self, _: &Arc<Connection>) {}
}

fn send_long(lane: &Arc<Connection>) -> Vec<u8> {
    let (frame, payload) = (0u32, bytes(50_000));
    lane.send(&frame, &payload, Urgency::Now).expect("open");
    payload.concat()
}

fn is_sharing(lane: &Connection) -> bool {
    lane.outgoing.lock().sharing.is_on()
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
    PayloadParts::from(vec![7; len])
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
    let (frame, payload) = (0u32, bytes(8 << 20));
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
    assert_eq!(*far_end.payloads.lock(), [first, second], "LANE-3");
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
        outbox.push(&0u32, &bytes(100));
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
    let (frame, nothing) = (0u32, PayloadParts::default());
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
