//! Everything a raylet can do to the world.

use std::time::Duration;

use aktis_common::ids::{JobId, NodeId, WorkerId};
use aktis_proto::v1::{
    AddJobRequest, Address, ClusterReply, FinishJobRequest, ForwardedLeaseRequest, LeaseReclaim,
    LeaseReturn, NodeInfo, ReportActorStartedRequest, ReportWorkerDeathRequest, node_frame,
    store_get_reply,
};
use bytes::Bytes;

use super::event::CallAnswer;
use super::keys::{CallId, ConnectionId, ReplyTo, StartupToken};

/// One thing to do.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "moved once or twice; a box per frame costs more"
)]
pub enum Effect {
    /// Send a frame to a process.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// The number of the request it answers, 0 for an event.
        request_id: u64,
        /// What to say.
        kind: node_frame::Kind,
        /// The bytes behind it.
        payload: Bytes,
    },
    /// Send the hello reply, with the arena's descriptor.
    Welcome {
        /// To whom.
        connection: ConnectionId,
        /// The number of its hello.
        request_id: u64,
        /// The job of a driver, empty for a worker.
        job_id: Bytes,
        /// The namespace of a driver.
        namespace: String,
    },
    /// Tell when a worker's lane socket is there.
    AwaitLane {
        /// The worker.
        worker: WorkerId,
    },
    /// Close a process's connection.
    Close {
        /// Whose.
        connection: ConnectionId,
    },
    /// Answer a call.
    Answer {
        /// Which.
        call: CallId,
        /// With what.
        answer: CallAnswer,
    },
    /// Fail a request because no worker could be started: `cause`, the log file's name and its last lines.
    FailWithLog {
        /// Who asked.
        reply_to: ReplyTo,
        /// Whether the answer is that to an actor's start.
        is_actor_start: bool,
        /// The worker that did not start, if its log may say why; else the zygote's log is quoted.
        worker: Option<WorkerId>,
        /// What went wrong.
        cause: String,
    },
    /// Ask the zygote for a worker.
    Fork {
        /// The number of the start.
        token: StartupToken,
        /// The worker's id.
        worker: WorkerId,
        /// Python modules that it shares with others.
        shared_modules: Vec<String>,
    },
    /// Ask the zygote to import these modules when it has nothing else to do.
    Preload {
        /// Names of Python modules.
        modules: Vec<String>,
    },
    /// Kill the process group of a worker.
    Kill {
        /// Process id of its leader.
        pid: u32,
    },
    /// The process of this worker has ended, so its log files are complete: answered by
    /// [`Event::LogEnded`](super::event::Event::LogEnded).
    EndLog {
        /// The worker.
        worker: WorkerId,
        /// Whose lines they are, if it had a job.
        epitaph: Option<Epitaph>,
    },
    /// Tell when the process behind a connection has ended. For drivers; the zygote tells of workers.
    WatchProcess {
        /// The connection.
        connection: ConnectionId,
    },
    /// Tell when this process has ended, which nobody else may tell of any more.
    AwaitEnd {
        /// Its process id.
        pid: u32,
    },
    /// Look whether the process of a dead worker has ended; answered by `DeadLookedAt`.
    LookAtDead {
        /// The worker.
        worker: WorkerId,
        /// Its process id.
        pid: u32,
    },
    /// Tell a process what nodes there are: this one, whose store only the loop knows, and the others.
    Describe {
        /// Who asked.
        connection: ConnectionId,
        /// Its number for the question.
        request_id: u64,
        /// This node.
        this: Box<NodeInfo>,
        /// The others, and what lost ones had.
        others: ClusterReply,
    },
    /// Tell the gcs; kept until it has heard.
    Report(GcsReport),
    /// Tell the gcs the state of this node; the newest is enough.
    ReportNode(Box<NodeInfo>),
    /// Forward a call of a process to the gcs.
    CallGcs {
        /// Who called.
        connection: ConnectionId,
        /// Its number for the call.
        request_id: u64,
        /// Name of the method.
        method: String,
        /// The request, encoded.
        body: Bytes,
    },
    /// Ask the gcs for the state of an actor.
    FetchActor {
        /// Which.
        actor_id: Bytes,
    },
    /// The addresses of the nodes have changed.
    NoteNode {
        /// Which.
        node: NodeId,
        /// Its gRPC address; `None` when it is gone.
        raylet_address: Option<String>,
    },
    /// Forward a lease request to another node.
    ForwardLease {
        /// Who asked.
        reply_to: ReplyTo,
        /// The node.
        node: NodeId,
        /// What to send.
        request: Box<ForwardedLeaseRequest>,
    },
    /// Withdraw a forwarded lease request.
    CancelForward {
        /// Who had asked.
        reply_to: ReplyTo,
    },
    /// Tell another node something that needs no answer.
    Tell {
        /// The node.
        node: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// Change the store.
    Store(NodeStoreEffect),
}

/// Whose lines a worker printed, once it is gone from the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epitaph {
    /// The job it served.
    pub job: JobId,
    /// Its process id.
    pub pid: u32,
    /// What its lines are headed with unless they say it themselves.
    pub label: String,
}

/// What is told to other raylets.
#[derive(Debug, Clone)]
pub enum PeerMessage {
    /// A lease of that node is over.
    ReturnLease(LeaseReturn),
    /// Others wait for a lease that a process of that node holds.
    ReclaimLease {
        /// The holder.
        owner: Address,
        /// What to tell it.
        reclaim: LeaseReclaim,
    },
    /// A forwarded claim is withdrawn, and what was granted for it.
    WithdrawClaim {
        /// The number of the claim.
        claim_id: u64,
    },
    /// Objects that nobody references any more.
    FreeObjects(Vec<Bytes>),
}

/// What is told to the gcs without fail.
#[derive(Debug, Clone)]
pub enum GcsReport {
    /// A process ended.
    WorkerDeath(ReportWorkerDeathRequest),
    /// An actor's constructor ended.
    ActorStarted(ReportActorStartedRequest),
    /// A driver connected.
    AddJob(AddJobRequest),
    /// A driver ended.
    FinishJob(FinishJobRequest),
}

/// What is asked of the store and of the transfers into it.
#[derive(Debug)]
pub enum NodeStoreEffect {
    /// A process is gone: its references and half-made objects go.
    ClientGone {
        /// Its connection.
        connection: ConnectionId,
    },
    /// An owner is gone: its objects go.
    OwnerGone {
        /// The owner.
        owner: WorkerId,
    },
    /// All owners of a node are gone.
    OwnersOfNodeGone {
        /// The node.
        node: NodeId,
    },
    /// All owners of other nodes have given up what they have here.
    ForeignOwnersGone,
    /// Nobody references these objects any more.
    Free {
        /// Which.
        object_ids: Vec<Bytes>,
    },
    /// Copy an object, or the rest of it, from a node.
    Pull {
        /// The object.
        object_id: Bytes,
        /// Who owns it.
        owner: Address,
        /// The node to copy from.
        node: NodeId,
    },
    /// Say when so much time has passed, with this number.
    PausePull {
        /// The object.
        object_id: Bytes,
        /// Of the pause.
        number: u64,
        /// How long it is.
        pause: Duration,
    },
    /// Nobody wants the copy any more, or nobody has one.
    AbandonPull {
        /// The object.
        object_id: Bytes,
    },
    /// A get is withdrawn or hopeless. Whoever still waits is told the outcome.
    EndGet {
        /// Who waits.
        reply_to: ReplyTo,
        /// What became of it.
        outcome: store_get_reply::Outcome,
    },
}
