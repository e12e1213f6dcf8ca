//! What reaches the loop, and the way there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aktis_common::ids::{NodeId, ObjectId, WorkerId};
use aktis_object_store::IoDone;
use aktis_proto::v1::{Failure, node_frame::Kind};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::core::event::{CallAnswer, CallRequest, Event, PullFailure};
use crate::core::keys::{CallId, ConnectionId, ReplyTo};
use crate::io::frames::ProcessFrame;
use crate::io::held::Measured;
use crate::transfer::{PullOrder, PullPlace, ReadGrant};

/// Frames that may wait for the loop before their readers wait too.
const FRAME_CAPACITY: usize = 1024;
/// Requests of other nodes and publications that may wait for the loop before their senders wait too.
const REQUEST_CAPACITY: usize = 256;

/// Why a raylet ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RayletEnd {
    /// Somebody wants it to: who, or how.
    Asked(String),
    /// It cannot go on: why, and what to do.
    Failed(String),
}

impl RayletEnd {
    /// What the gcs is told.
    pub(crate) fn cause(&self) -> &str {
        match self {
            Self::Asked(cause) | Self::Failed(cause) => cause,
        }
    }
}

/// One thing for the loop.
#[derive(Debug)]
pub(crate) enum Message {
    /// For the core.
    Event(Event),
    /// A process's socket takes more.
    Writable(ConnectionId),
    /// A frame for a process, from a task that served its request.
    Send {
        connection: ConnectionId,
        request_id: u64,
        kind: Kind,
    },
    /// A call over the network.
    Call {
        call: CallId,
        request: CallRequest,
        answer: oneshot::Sender<CallAnswer>,
    },
    /// What a worker holds was measured.
    Measured(Measured),
    /// Background work of the store has ended.
    StoreIo(IoDone),
    /// A transfer knows the size of its object, and wants a place for it.
    PullSized {
        pull: PullOrder,
        total_bytes: u64,
        place: oneshot::Sender<Result<PullPlace, PullFailure>>,
    },
    /// A transfer from one node has ended.
    PullEnded {
        pull: PullOrder,
        result: Result<(), PullFailure>,
    },
    /// A pause before the sources of an object are asked again is over.
    PullPauseEnded { object: ObjectId, number: u64 },
    /// Another node wants to read an object.
    ReadObject {
        call: CallId,
        object: ObjectId,
        reader: NodeId,
        grant: oneshot::Sender<Result<ReadGrant, Failure>>,
    },
    /// It has read it.
    ReadEnded { call: CallId, object: ObjectId },
    /// Lines of a worker's output.
    LogLines {
        worker: WorkerId,
        is_stderr: bool,
        /// The function that printed them, if it is known.
        source: String,
        lines: Vec<String>,
        /// Given back when the lines are on their way: so many bytes may wait.
        room: Option<OwnedSemaphorePermit>,
    },
    /// What could not be started, with its last words.
    NotStarted {
        reply_to: ReplyTo,
        is_actor_start: bool,
        failure: Failure,
    },
    /// End everything, and say when it is done.
    Shutdown {
        end: RayletEnd,
        done: Option<oneshot::Sender<()>>,
    },
}

/// News of one connection, in the order in which they happened.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are frames; a box for each costs more"
)]
pub(crate) enum ProcessNews {
    /// It begins.
    Connected(Arc<UnixStream>),
    /// The process said something.
    Frame(ProcessFrame),
    /// It has ended.
    Disconnected,
}

/// Sends messages to the loop. Cheap to clone.
///
/// What others begin waits for room: frames of processes, requests of other nodes, publications of the gcs. The rest is what the
/// loop let begin, or asked for, and how that went: a few messages for each, which are never in anybody's way. So they are as many
/// as what is under way: connections, processes, answers, copies, store work; lines of output are bounded by their room.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    messages: mpsc::UnboundedSender<Message>,
    processes: mpsc::Sender<(ConnectionId, ProcessNews)>,
    requests: mpsc::Sender<Message>,
    next_call: Arc<AtomicU64>,
}

/// The loop's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// How things went that the loop knows of.
    pub(crate) messages: mpsc::UnboundedReceiver<Message>,
    /// What other nodes want, and what the gcs publishes. Bounded: one that floods waits.
    pub(crate) requests: mpsc::Receiver<Message>,
    /// News of processes. Bounded: a process that floods waits.
    pub(crate) processes: mpsc::Receiver<(ConnectionId, ProcessNews)>,
}

/// A mailbox and its inbox.
pub(crate) fn channel() -> (Mailbox, Inbox) {
    let (message_sender, messages) = mpsc::unbounded_channel();
    let (process_sender, processes) = mpsc::channel(FRAME_CAPACITY);
    let (request_sender, requests) = mpsc::channel(REQUEST_CAPACITY);
    let mailbox = Mailbox {
        messages: message_sender,
        processes: process_sender,
        requests: request_sender,
        next_call: Arc::new(AtomicU64::new(1)),
    };
    let inbox = Inbox {
        messages,
        requests,
        processes,
    };
    (mailbox, inbox)
}

impl Mailbox {
    /// Sends a message. After the end of the loop nobody needs it.
    pub(crate) fn send(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    /// Sends what another node or the gcs has to say, waiting while the loop is behind. After its end nobody answers.
    pub(crate) async fn ask(&self, request: Message) {
        let _ = self.requests.send(request).await;
    }

    /// A number for a call of another node.
    pub(crate) fn next_call(&self) -> CallId {
        CallId(self.next_call.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends an event for the core.
    pub(crate) fn event(&self, event: Event) {
        self.send(Message::Event(event));
    }

    /// Sends news of a process, waiting while the loop is behind. False after the end of the loop.
    pub(crate) async fn process(&self, connection: ConnectionId, news: ProcessNews) -> bool {
        self.processes.send((connection, news)).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn processes_and_nodes_that_flood_wait_for_room_and_what_the_loop_let_begin_does_not() {
        let (mailbox, mut inbox) = channel();
        for number in 0..2 * FRAME_CAPACITY as u64 {
            let mailbox = mailbox.clone();
            let news = ProcessNews::Disconnected;
            tokio::spawn(async move { mailbox.process(ConnectionId(number), news).await });
        }
        for number in 0..2 * REQUEST_CAPACITY as u64 {
            let mailbox = mailbox.clone();
            let request = Message::Writable(ConnectionId(number));
            tokio::spawn(async move { mailbox.ask(request).await });
        }
        while inbox.processes.len() < FRAME_CAPACITY || inbox.requests.len() < REQUEST_CAPACITY {
            tokio::task::yield_now().await;
        }
        mailbox.event(Event::Tick);
        assert_eq!(inbox.messages.len(), 1);
        for _ in 0..2 * FRAME_CAPACITY {
            assert!(inbox.processes.len() <= FRAME_CAPACITY);
            inbox.processes.recv().await.expect("all of them arrive");
        }
        for _ in 0..2 * REQUEST_CAPACITY {
            assert!(inbox.requests.len() <= REQUEST_CAPACITY);
            inbox.requests.recv().await.expect("all of them arrive");
        }
    }
}
