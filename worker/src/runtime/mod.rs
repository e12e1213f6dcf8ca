//! The runtime of one process: everything a driver or worker does with tasks, actors and objects.
//!
//! ```text
//!   api        putting and watching objects
//!   waiting    get and wait
//!   remote     functions and methods with their options, to be called many times
//!   submit     tasks and calls
//!   control    questions to the raylet and the gcs
//!   incoming   frames from lanes and from the raylet -> core
//!   gate       the way to the core
//!   carry_out  effects of the core -> lanes, raylet
//!   objects    objects of the node's store, which `store::client` reads and writes
//!   fetching   reading many stored objects side by side
//!   calls      running tasks: what comes in is queued for the executor, what it returns is sent back
//!   object_stream  the items of a generator, for its consumer
//!   streams    generators: consumers, and producers that wait for them
//!   cancel     cancelling tasks, as their owner and as their worker
//!   at_work    what this process does at the moment, for people who look
//!   actors     creating, watching and ending actors
//!   lingering  the end of a worker in good order
//!   departures processes that are gone, and what they leave
//!   obituaries why workers died, and what waits to hear that
//! ```

mod actor_start;
mod actors;
mod api;
mod at_work;
mod births;
mod calls;
mod cancel;
mod carry_out;
mod control;
mod departures;
mod executor;
mod fetching;
mod gate;
mod incoming;
mod lane_table;
mod lanes;
mod lingering;
mod node_events;
mod obituaries;
mod object_stream;
mod objects;
mod postponed;
mod remote;
mod rest;
mod start;
mod strangers;
mod streams;
mod submit;
mod waiting;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aktis_common::fork;
use aktis_common::ids::{JobId, ObjectId};
use aktis_lane::{Reactor, Ticker};
use aktis_proto::v1 as wire;
use parking_lot::Mutex;

use crate::execution::ExecutionQueue;
use crate::life::Life;
use crate::node_link::NodeLink;
use crate::reference::ProcessAddress;
use crate::store::client::StoreClient;

pub use actor_start::ActorStart;
pub use actors::ActorHandle;
pub use at_work::WaitNote;
pub use calls::{CallInputs, CallOutcome, LeaseMark, ReceivedCall};
pub use cancel::Canceller;
pub use executor::LoopWatch;
pub use object_stream::ObjectStream;
pub use remote::{RemoteFunction, RemoteMethod};
pub use rest::LENDS_AFTER;
pub use start::{ProcessRole, RuntimeConfig};
pub use waiting::{GetError, Interrupt};

/// How often it is looked whether a forked child has ended that could see what is not needed any more.
const KEPT_PAUSE: Duration = Duration::from_millis(100);

/// Receives output lines of workers, in drivers.
pub type LogSink = Box<dyn Fn(wire::LogLines) + Send + Sync>;

/// The runtime of this process. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    life: Arc<Life>,
    me: ProcessAddress,
    role: ProcessRole,
    /// Drivers: their own; workers: the job they serve.
    job: Mutex<JobId>,
    assignment: Mutex<Assignment>,
    hello: wire::HelloReply,
    reactor: Arc<Reactor>,
    core: gate::CoreGate,
    node: Arc<NodeLink>,
    lanes: lane_table::Lanes,
    store: StoreClient,
    queue: ExecutionQueue,
    waits: at_work::Waits,
    stream_windows: streams::StreamWindows,
    /// How the embedder ends user code that runs.
    canceller: OnceLock<cancel::Canceller>,
    log_sink: Option<LogSink>,
    interrupt: fn() -> bool,
    queued_limit_bytes: u64,
    /// When the lane thread gives freed memory back to the system: a while after a table has shrunk, since what lay in it
    /// goes one by one.
    trim_at: Mutex<Option<Instant>>,
    /// Why workers died, as the raylet said, to explain closed lanes.
    obituaries: Mutex<obituaries::Obituaries>,
    births: births::Births,
    rest: rest::Rest,
    /// What waits for a descriptor.
    postponed: Mutex<postponed::Postponed>,
    lane_thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What this process works under at the moment.
#[derive(Debug, Clone, Default)]
pub struct Assignment {
    /// Namespace in which names are looked up.
    pub namespace: String,
    /// Resources that the lease or the actor holds, in units of 1/10000.
    pub resources: crate::options::ResourceMap,
    /// How often the actor was restarted.
    pub restarts: u32,
    /// For how long its node has held the actor's resources, before this process was given the actor.
    pub held_before: Duration,
    /// The job wants work that no node can run to wait for one that can.
    pub waits_when_infeasible: bool,
}

impl Assignment {
    fn of_actor(start: &wire::StartActor) -> Self {
        let options = start.options.clone().unwrap_or_default();
        let held = options
            .running_resources
            .and_then(|request| request.resources)
            .unwrap_or_default();
        Self {
            namespace: options.namespace,
            resources: held.quantities.into_iter().collect(),
            restarts: start.restarts,
            held_before: Duration::from_nanos(start.held_nanos),
            waits_when_infeasible: options.waits_when_infeasible,
        }
    }
}

static CURRENT: OnceLock<Mutex<Option<Runtime>>> = OnceLock::new();

impl Runtime {
    /// The runtime of this process, if it was started and not shut down.
    pub fn current() -> Option<Self> {
        if fork::is_abandoned() {
            return None;
        }
        CURRENT.get()?.lock().clone()
    }

    fn set_current(runtime: Option<Self>) {
        *CURRENT.get_or_init(|| Mutex::new(None)).lock() = runtime;
    }

    /// This process.
    pub fn address(&self) -> ProcessAddress {
        self.0.me
    }

    /// The job that this process runs (driver) or serves (worker).
    pub fn job(&self) -> JobId {
        *self.0.job.lock()
    }

    /// Whether this process is a driver or a worker.
    pub fn role(&self) -> ProcessRole {
        self.0.role
    }

    /// Whole CPUs that the lease or the actor holds.
    pub fn held_cpus(&self) -> i64 {
        let held = self.0.assignment.lock().resources.get("CPU").copied();
        held.unwrap_or_default() / aktis_common::resources::Quantity::SCALE
    }

    /// Namespace, resources and restarts of what runs here.
    pub fn assignment(&self) -> Assignment {
        self.0.assignment.lock().clone()
    }

    /// What the raylet said at the start: folders, addresses, limits.
    pub fn greeting(&self) -> &wire::HelloReply {
        &self.0.hello
    }

    /// Whether the session is over. It is for the child of a fork: handles on its parent's session do nothing there.
    pub fn is_closed(&self) -> bool {
        self.0.life.is_closed()
    }

    pub(crate) fn queue(&self) -> &ExecutionQueue {
        &self.0.queue
    }

    pub(crate) fn reactor(&self) -> &Arc<Reactor> {
        &self.0.reactor
    }

    pub(crate) fn object_size(&self, id: ObjectId) -> Option<u64> {
        use crate::core::objects::ObjectState;
        self.0.core.look(|core| match core.objects.state(id)? {
            ObjectState::Inline(value) => Some(value.data_bytes() as u64),
            ObjectState::Stored(stored) => Some(stored.size_bytes),
            ObjectState::Pending | ObjectState::Failed(_) | ObjectState::Lost => None,
        })
    }

    pub(crate) fn release_reference(&self, id: ObjectId) {
        if !self.is_closed() {
            self.with_core(|core, effects| core.release_handle(id, effects));
        }
    }
}

struct RuntimeTicker(Runtime);

impl Ticker for RuntimeTicker {
    fn tick(&self, now: Instant) -> Option<Duration> {
        if self.0.is_closed() {
            return None;
        }
        let unexplained = self.0.bury_unexplained(now);
        let core = self.0.with_core(|core, effects| core.tick(effects));
        let reads = self.0.0.store.expire_reads(now);
        let trim = self.0.trim_if_due(now);
        let kept = fork::drop_unseen().then_some(KEPT_PAUSE);
        let interrupt = self.0.repeat_interrupt(now);
        let postponed = self.0.say_postponed(now);
        unexplained
            .into_iter()
            .chain(core)
            .chain(reads)
            .chain(trim)
            .chain(kept)
            .chain(interrupt)
            .chain(postponed)
            .min()
    }
}
