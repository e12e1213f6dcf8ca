//! Everything that can happen to a raylet.

use aktis_common::ids::{NodeId, WorkerId};
use aktis_proto::v1::{
    ActorUpdate, Address, Failure, FreeObjectsRequest, KillWorkerRequest, LeaseReclaim, LeaseReply,
    LeaseRequest, LeaseReturn, NodeInfo, Publication, RegisterNodeReply, StartActorReply,
    StartActorRequest, StoreGet, node_frame,
};
use bytes::Bytes;

use super::keys::{CallId, ConnectionId, LeaseId, ReplyTo, StartupToken};

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// A process sent a frame.
    Frame {
        /// Who sent it.
        connection: ConnectionId,
        /// The sender's number for the request.
        request_id: u64,
        /// What it says.
        kind: node_frame::Kind,
        /// The bytes behind it.
        payload: Bytes,
    },
    /// A process's connection ended. The process is to end, but may not have.
    Disconnected {
        /// Whose.
        connection: ConnectionId,
    },
    /// The process behind a connection has ended, or cannot be watched: then the end of its connection stands for it.
    ClientEnded {
        /// The connection.
        connection: ConnectionId,
    },
    /// A process that [`Effect::AwaitEnd`](super::effect::Effect::AwaitEnd) was about has ended.
    ProcessEnded {
        /// Its process id.
        pid: u32,
    },
    /// The process of a dead worker was looked at.
    DeadLookedAt {
        /// The worker.
        worker: WorkerId,
        /// It has ended, and its parent has not yet asked how.
        has_ended: bool,
    },
    /// The last output of a dead worker has been read.
    LogEnded {
        /// The worker.
        worker: WorkerId,
        /// Its last lines, for an error message; empty if it printed nothing.
        last_words: String,
    },
    /// A worker holds more memory than it may.
    Overgrown(Overgrown),
    /// The store holds more or less than the node has reported.
    StoreUseChanged,
    /// This process has no descriptor left to take a connection with.
    OutOfDescriptors {
        /// What the system says, and what helps.
        cause: String,
    },
    /// What a process needs to join could not be given to it.
    NotWelcomed {
        /// It said hello here.
        connection: ConnectionId,
        /// What the system says, and what helps.
        cause: String,
    },
    /// A worker that said hello takes lanes.
    LaneOpen {
        /// The worker.
        worker: WorkerId,
    },
    /// The zygote said something, or is gone.
    Zygote(ZygoteEvent),
    /// Another raylet, the gcs or the command line called.
    Call {
        /// The call to answer.
        call: CallId,
        /// What it wants.
        request: CallRequest,
    },
    /// Whoever made this call no longer waits for its answer.
    CallDropped {
        /// The call.
        call: CallId,
    },
    /// Nobody took the grant that answers a call.
    GrantUntaken {
        /// The lease.
        lease: LeaseId,
    },
    /// Another raylet answered a lease request that was forwarded to it.
    ForwardEnded {
        /// Who asked.
        reply_to: ReplyTo,
        /// The number of the claim.
        claim_id: u64,
        /// The answer, or why there is none.
        outcome: Result<LeaseReply, String>,
    },
    /// The gcs published something.
    Published(Publication),
    /// The node is registered (again), and a snapshot of the nodes was taken.
    Registered(Box<Registration>),
    /// The gcs told the state of an actor somebody watches, or that it has none.
    ActorFetched {
        /// Which actor.
        actor_id: Bytes,
        /// Its state.
        outcome: Result<ActorUpdate, Failure>,
    },
    /// The store, or a transfer into it, reports.
    Store(StoreEvent),
    /// Time passed.
    Tick,
}

/// What the gcs said when it took the node in.
#[derive(Debug, Default)]
pub struct Registration {
    /// Number of this incarnation, and what the gcs holds true of the node.
    pub reply: RegisterNodeReply,
    /// The nodes as the gcs knows them, those that died lately too.
    pub nodes: Vec<NodeInfo>,
    /// The clock of the gcs when it listed them.
    pub now_unix_millis: u64,
}

/// What the zygote reports.
#[derive(Debug)]
pub enum ZygoteEvent {
    /// It takes requests.
    Ready,
    /// A worker process exists.
    Forked {
        /// From the request.
        token: StartupToken,
        /// The worker's process id.
        pid: u32,
    },
    /// A fork failed.
    ForkFailed {
        /// From the request.
        token: StartupToken,
        /// What the system said.
        error: String,
    },
    /// A worker process ended.
    Exited {
        /// Its process id.
        pid: u32,
        /// How.
        exit: Exit,
    },
    /// The zygote ended, or could not be started. A new one is being started.
    Lost {
        /// What is known about it.
        cause: String,
        /// It never became ready.
        is_start_failure: bool,
    },
}

/// How a process has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// In words.
    pub cause: String,
    /// The kernel took it because memory ran out.
    pub is_out_of_memory: bool,
    /// Something outside of it killed it: what it had begun might be done by another one.
    pub is_killed: bool,
}

impl Exit {
    /// An end for which memory is not to blame.
    pub fn of(cause: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            is_out_of_memory: false,
            is_killed: false,
        }
    }
}

/// A worker that holds more memory than was asked for it (`memory=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overgrown {
    /// Which.
    pub worker: WorkerId,
    /// What it holds alone.
    pub held_bytes: u64,
    /// What it may hold.
    pub limit_bytes: u64,
}

/// What a call over the network wants.
#[derive(Debug)]
pub enum CallRequest {
    /// A lease for an owner on another node.
    Lease {
        /// The request as the owner's raylet got it.
        request: LeaseRequest,
        /// Whose it is.
        owner: Address,
        /// The number by which it may be withdrawn.
        claim_id: u64,
    },
    /// Such a request, and what was granted for it, is withdrawn.
    WithdrawClaim {
        /// Its number.
        claim_id: u64,
    },
    /// A lease is over.
    ReturnLease(LeaseReturn),
    /// Others wait for a lease that a process of this node holds elsewhere.
    ReclaimLease {
        /// Who holds it.
        owner: Address,
        /// What to tell it.
        reclaim: LeaseReclaim,
    },
    /// Host an actor.
    StartActor(Box<StartActorRequest>),
    /// End a worker.
    KillWorker(KillWorkerRequest),
    /// Objects that nobody references any more.
    FreeObjects(FreeObjectsRequest),
    /// The state of this node.
    Status,
}

/// The answer to a call.
#[derive(Debug)]
pub enum CallAnswer {
    /// To a lease request.
    Lease(LeaseReply),
    /// To an actor start.
    ActorStart(StartActorReply),
    /// To a status request.
    Status(Box<NodeInfo>),
    /// It is done.
    Done,
}

/// What the store, and the transfers into it, report.
#[derive(Debug)]
pub enum StoreEvent {
    /// A get found nothing here; it waits in the store for the object to be sealed.
    Missing {
        /// Who waits.
        reply_to: ReplyTo,
        /// What was asked for.
        get: StoreGet,
    },
    /// A copy from another node is sealed here.
    Pulled {
        /// The object.
        object_id: Bytes,
    },
    /// A node could not give its copy, or not all of it.
    PullFailed {
        /// The object.
        object_id: Bytes,
        /// The node.
        node: NodeId,
        /// Why.
        cause: PullFailure,
        /// Whether bytes of it arrived before that.
        has_given: bool,
    },
    /// A pause before sources are asked again is over.
    PullPauseEnded {
        /// The object.
        object_id: Bytes,
        /// Of the pause.
        number: u64,
    },
    /// An object left this node while these wait for it here.
    Gone {
        /// Who waits.
        waiters: Vec<ReplyTo>,
    },
}

/// Why a transfer ended without an object.
#[derive(Debug)]
pub enum PullFailure {
    /// The source has none, or cannot be reached: another source may do.
    Source(String),
    /// The source has it and cannot read it now: another source may do, or this one a little later.
    Unreadable(Failure),
    /// This node cannot take it: no source helps.
    Here(Failure),
}
