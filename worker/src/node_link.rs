//! The connection to the raylet of this node.
//!
//! The hello is exchanged before the connection joins the reactor, since its reply carries the arena's descriptor.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_lane::{
    Connection, Decoder, PayloadParts, Reactor, SIGNAL_SLICE, Urgency, WaitEnd, Waiter,
    encode_whole,
};
use aktis_proto::v1 as wire;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use rustc_hash::FxHashMap;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use wire::node_frame::Kind;

use crate::core::leases::LeaseRequestKey;
use crate::error::TaskFailure;

const HELLO_TIMEOUT: Duration = Duration::from_secs(30);

/// What the raylet said at the beginning.
pub(crate) struct Greeting {
    pub(crate) socket: OwnedFd,
    pub(crate) decoder: Decoder,
    pub(crate) reply: wire::HelloReply,
    pub(crate) arena_fd: Option<OwnedFd>,
}

/// Connects and says hello.
pub(crate) fn greet(socket_path: &Path, hello: wire::Hello) -> Result<Greeting, TaskFailure> {
    let unreachable = |what: &str, error: &dyn std::fmt::Display| {
        TaskFailure::new(
            ErrorCode::NotConnected,
            format!(
                "{what} the raylet at {}: {error}; is the node still running?",
                socket_path.display()
            ),
        )
    };
    let mut stream = UnixStream::connect(socket_path)
        .map_err(|error| unreachable("cannot connect to", &error))?;
    stream
        .set_read_timeout(Some(HELLO_TIMEOUT))
        .map_err(|error| unreachable("cannot set up the connection to", &error))?;
    let frame = wire::NodeFrame {
        request_id: 1,
        kind: Some(Kind::Hello(hello)),
    };
    std::io::Write::write_all(&mut stream, &encode_whole(&frame, &PayloadParts::default()))
        .map_err(|error| unreachable("cannot say hello to", &error))?;
    let (mut decoder, mut arena_fd) = (Decoder::new(), None);
    let kind = loop {
        let count = receive_with_descriptor(&stream, decoder.space(), &mut arena_fd)
            .map_err(|error| unreachable("got no answer from", &error))?;
        if count == 0 {
            return Err(unreachable("was refused by", &"the connection was closed"));
        }
        decoder.advance(count);
        let frame = decoder
            .next_frame()
            .map_err(|error| unreachable("cannot understand", &error))?;
        if let Some(frame) = frame {
            let frame = wire::NodeFrame::decode(frame.header)
                .map_err(|error| unreachable("cannot understand", &error))?;
            break frame.kind;
        }
    };
    let reply = match kind {
        Some(Kind::HelloReply(reply)) => reply,
        Some(Kind::Failure(failure)) => return Err(TaskFailure::from_wire(failure)),
        _ => {
            return Err(unreachable(
                "cannot understand",
                &"its first frame is no hello reply",
            ));
        }
    };
    stream
        .set_read_timeout(None)
        .map_err(|error| unreachable("cannot set up the connection to", &error))?;
    stream
        .set_nonblocking(true)
        .map_err(|error| unreachable("cannot set up the connection to", &error))?;
    Ok(Greeting {
        socket: stream.into(),
        decoder,
        reply,
        arena_fd,
    })
}

fn receive_with_descriptor(
    stream: &UnixStream,
    space: &mut [u8],
    descriptor: &mut Option<OwnedFd>,
) -> std::io::Result<usize> {
    if descriptor.is_some() {
        return Read::read(&mut &*stream, space);
    }
    let mut control = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut control);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(
        stream.as_fd(),
        &mut [IoSliceMut::new(space)],
        &mut control,
        flags,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            *descriptor = descriptors.into_iter().next().or(descriptor.take());
        }
    }
    Ok(received.bytes)
}

/// The answer to a request, or the failure that took its place.
pub(crate) type Answer = Result<(Kind, Bytes), TaskFailure>;

/// What happens with an answer that no thread waits for.
pub(crate) type AnswerCallback = Box<dyn FnOnce(Answer) + Send>;

enum Pending {
    Thread(Arc<Slot>),
    Callback(AnswerCallback),
    Lease(LeaseRequestKey),
}

struct Slot {
    waiter: Arc<Waiter>,
    answer: Mutex<Option<Answer>>,
}

/// An answer that belongs to the core rather than to a waiting thread.
#[allow(
    clippy::large_enum_variant,
    reason = "taken apart by the caller at once"
)]
pub(crate) enum Unclaimed {
    Lease(LeaseRequestKey, Answer),
    Nobody,
}

/// Requests to the raylet and their answers.
pub(crate) struct NodeLink {
    connection: Mutex<Option<Arc<Connection>>>,
    pending: Mutex<FxHashMap<u64, Pending>>,
    next_request: AtomicU64,
}

impl NodeLink {
    pub(crate) fn new() -> Self {
        Self {
            connection: Mutex::new(None),
            pending: Mutex::default(),
            next_request: AtomicU64::new(2),
        }
    }

    pub(crate) fn attach(&self, connection: Arc<Connection>) {
        *self.connection.lock() = Some(connection);
    }

    /// Sends a frame that is not answered. Nothing happens when the raylet is gone: its end is noticed elsewhere.
    pub(crate) fn tell(&self, kind: Kind, urgency: Urgency) {
        self.send(0, kind, urgency);
    }

    fn send(&self, request_id: u64, kind: Kind, urgency: Urgency) -> bool {
        let connection = self.connection.lock().clone();
        let frame = wire::NodeFrame {
            request_id,
            kind: Some(kind),
        };
        connection.is_some_and(|open| open.send(&frame, &PayloadParts::default(), urgency).is_ok())
    }

    /// Asks for a worker. The answers (there may be several) go to the core.
    pub(crate) fn request_lease(&self, key: LeaseRequestKey, request: wire::LeaseRequest) -> bool {
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        self.pending.lock().insert(id, Pending::Lease(key));
        self.send(id, Kind::LeaseRequest(request), Urgency::Now)
    }

    /// The worker is not wanted any more. A grant that crosses this on the way is returned by the caller of
    /// [`Self::take`], which finds nobody waiting.
    pub(crate) fn cancel_lease(&self, key: LeaseRequestKey) {
        let mut pending = self.pending.lock();
        let found = pending
            .iter()
            .find(|(_, waiting)| matches!(waiting, Pending::Lease(open) if *open == key))
            .map(|(id, _)| *id);
        let Some(request_id) = found else { return };
        pending.remove(&request_id);
        drop(pending);
        self.tell(
            Kind::LeaseCancel(wire::LeaseCancel { request_id }),
            Urgency::Soon,
        );
    }

    /// Asks, and calls back from the polling thread.
    pub(crate) fn request_async(&self, kind: Kind, callback: AnswerCallback) -> u64 {
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        self.pending.lock().insert(id, Pending::Callback(callback));
        if !self.send(id, kind, Urgency::Now) {
            // Unlocked before the callback runs, which may ask for something itself.
            let unanswered = self.pending.lock().remove(&id);
            if let Some(Pending::Callback(callback)) = unanswered {
                callback(Err(raylet_gone()));
            }
        }
        id
    }

    /// Asks and waits. `interrupt` is asked now and then, and after signals; `true` ends the wait.
    pub(crate) fn request(
        &self,
        reactor: &Reactor,
        kind: Kind,
        deadline: Option<Instant>,
        interrupt: fn() -> bool,
    ) -> Answer {
        let slot = Arc::new(Slot {
            waiter: Waiter::new(1),
            answer: Mutex::new(None),
        });
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        self.pending
            .lock()
            .insert(id, Pending::Thread(Arc::clone(&slot)));
        if !self.send(id, kind, Urgency::Now) {
            self.pending.lock().remove(&id);
            return Err(raylet_gone());
        }
        let end = loop {
            match reactor.wait(&slot.waiter, deadline, Some(SIGNAL_SLICE)) {
                WaitEnd::Interrupted if !interrupt() => {}
                end => break end,
            }
        };
        if end != WaitEnd::Done {
            self.pending.lock().remove(&id);
        }
        if end == WaitEnd::Interrupted {
            let interrupted = TaskFailure::new(ErrorCode::Cancelled, "interrupted by a signal");
            return Err(interrupted);
        }
        slot.answer.lock().take().unwrap_or_else(|| {
            Err(TaskFailure::new(
                ErrorCode::Timeout,
                "the raylet did not answer in time; see `aktis status`",
            ))
        })
    }

    /// Delivers an answer. What no thread claims is handed back.
    pub(crate) fn take(&self, request_id: u64, kind: Kind, payload: Bytes) -> Unclaimed {
        let is_final = !matches!(
            &kind,
            Kind::LeaseReply(wire::LeaseReply {
                outcome: Some(wire::lease_reply::Outcome::Infeasible(_))
            })
        );
        let answer = match kind {
            Kind::Failure(failure) => Err(TaskFailure::from_wire(failure)),
            kind => Ok((kind, payload)),
        };
        let mut pending = self.pending.lock();
        if let (false, Some(Pending::Lease(key))) = (is_final, pending.get(&request_id)) {
            return Unclaimed::Lease(*key, answer);
        }
        let waiting = pending.remove(&request_id);
        drop(pending);
        match waiting {
            Some(Pending::Thread(slot)) => {
                *slot.answer.lock() = Some(answer);
                slot.waiter.count_down();
                Unclaimed::Nobody
            }
            Some(Pending::Callback(callback)) => {
                callback(answer);
                Unclaimed::Nobody
            }
            Some(Pending::Lease(key)) => Unclaimed::Lease(key, answer),
            None => match answer {
                // A grant for a request that was cancelled meanwhile: the caller returns it.
                Ok((kind @ Kind::LeaseReply(_), payload)) => {
                    let nobody = LeaseRequestKey {
                        class: crate::core::leases::ClassId(u32::MAX),
                        number: 0,
                    };
                    Unclaimed::Lease(nobody, Ok((kind, payload)))
                }
                _ => Unclaimed::Nobody,
            },
        }
    }

    /// The raylet is gone: nobody waits in vain.
    pub(crate) fn fail_all(&self) {
        *self.connection.lock() = None;
        let pending = std::mem::take(&mut *self.pending.lock());
        for waiting in pending.into_values() {
            match waiting {
                Pending::Thread(slot) => {
                    *slot.answer.lock() = Some(Err(raylet_gone()));
                    slot.waiter.count_down();
                }
                Pending::Callback(callback) => callback(Err(raylet_gone())),
                Pending::Lease(_) => {}
            }
        }
    }
}

pub(crate) fn raylet_gone() -> TaskFailure {
    TaskFailure::new(
        ErrorCode::NotConnected,
        "the session is over: the raylet of this node has ended; call init() to begin a new session",
    )
}
