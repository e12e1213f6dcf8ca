//! The decisions of a raylet: state + event -> effects. No sockets, files, clocks or randomness.
//!
//! ```text
//!  Event ──► RayletCore::handle ──► settle ──► Vec<Effect>
//!               │                     │
//!               │ frames, calls,      │ serve the queue of claims, seat workers,
//!               │ publications,       │ fork what is short, ask leases back,
//!               │ zygote, store       │ report the node
//!               ▼
//!  ProcessTable  WorkerPool  LeaseTable  ActorHosting  ActorBoard  PullTable  ClusterDirectory
//! ```

mod calls;
pub mod claims;
pub mod deaths;
pub mod effect;
mod ends;
pub mod event;
mod frames;
pub mod hosting;
pub mod keys;
mod lingering;
pub mod node;
pub mod pool;
pub mod processes;
mod publications;
pub mod pulls;
mod registration;
mod seating;
mod staffing;
mod transfers;
pub mod watches;
mod zygote_news;

use std::time::{Duration, Instant};

use aktis_common::ids::NodeId;
use aktis_common::resources::NodeResources;
use aktis_proto::v1::{LeaseReply, NodeInfo, node_frame};
use bytes::Bytes;
use rustc_hash::FxHashSet;

use self::claims::LeaseTable;
use self::deaths::Obituaries;
use self::effect::Effect;
use self::event::{CallAnswer, Event, Exit};
use self::hosting::ActorHosting;
use self::keys::{ConnectionId, ReplyTo};
use self::node::cluster::ClusterDirectory;
use self::node::report::ReportSchedule;
use self::pool::{PoolLimits, WorkerPool};
use self::processes::ProcessTable;
use self::pulls::PullTable;
use self::watches::ActorBoard;

/// What a core is made of.
#[derive(Debug, Clone)]
pub struct CoreSettings {
    /// This node as it describes itself; the figures that change are filled in.
    pub node: NodeInfo,
    /// Its id.
    pub node_id: NodeId,
    /// Its resources, all free.
    pub resources: NodeResources,
    /// How CUDA names its GPUs, by their ids.
    pub gpu_names: Vec<String>,
    /// The worker pool.
    pub pool: PoolLimits,
    /// How long the start of an actor waits here for resources.
    pub actor_patience: Duration,
    /// How long the news of a death waits for its cause.
    pub cause_patience: Duration,
    /// Least time between two reports of the node's state.
    pub report_gap: Duration,
    /// How long a node that is gone counts as one that may come back.
    pub lost_node_memory: Duration,
    /// First bytes of the ids of workers.
    pub id_prefix: [u8; 8],
}

/// The state of a raylet.
#[derive(Debug)]
pub struct RayletCore {
    settings: CoreSettings,
    generation: u64,
    processes: ProcessTable,
    pool: WorkerPool,
    leases: LeaseTable,
    actors: ActorHosting,
    board: ActorBoard,
    pulls: PullTable,
    cluster: ClusterDirectory,
    obituaries: Obituaries,
    /// Connections of drivers that have ended, while their processes may be using the store.
    unended: FxHashSet<ConnectionId>,
    report: ReportSchedule,
    zygote_failures: u32,
}

/// Where the parts of the core put what is to be done.
type Effects = Vec<Effect>;

impl RayletCore {
    /// A raylet with nothing connected. `now` is where its clock begins.
    pub fn new(settings: CoreSettings, now: Instant) -> Self {
        let prefix = settings.id_prefix;
        let lease_prefix = u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]);
        Self {
            generation: 0,
            processes: ProcessTable::default(),
            pool: WorkerPool::new(settings.pool.clone(), prefix),
            leases: LeaseTable::new(
                settings.node_id,
                settings.resources.clone(),
                lease_prefix,
                now,
            )
            .remembering_lost_nodes(settings.lost_node_memory),
            actors: ActorHosting::default(),
            board: ActorBoard::default(),
            pulls: PullTable::default(),
            cluster: ClusterDirectory::default(),
            obituaries: Obituaries::default(),
            unended: FxHashSet::default(),
            report: ReportSchedule::new(settings.report_gap),
            zygote_failures: 0,
            settings,
        }
    }

    /// Takes note of an event, and says what is to be done.
    pub fn handle(&mut self, event: Event, now: Instant, effects: &mut Effects) {
        match event {
            Event::Frame {
                connection,
                request_id,
                kind,
                payload,
            } => {
                self.on_frame(connection, request_id, kind, payload, now, effects);
            }
            Event::Disconnected { connection } => self.on_disconnected(connection, now, effects),
            Event::ClientEnded { connection } => self.on_client_ended(connection, effects),
            Event::ProcessEnded { pid } => {
                self.on_exited(pid, Exit::of("ended with the zygote"), now, effects);
            }
            Event::LogEnded { worker, last_words } => {
                self.on_log_ended(worker, last_words, effects);
            }
            Event::OutOfDescriptors { cause } => {
                self.on_out_of_descriptors(&cause, now, effects);
            }
            Event::LaneOpen { worker } => self.pool.lane_open(worker, now),
            Event::Zygote(news) => self.on_zygote(news, now, effects),
            Event::Call { call, request } => self.on_call(call, request, now, effects),
            Event::CallDropped { call } => self.on_call_dropped(call, effects),
            Event::GrantUntaken { lease } => self.return_lease(lease, false, now, effects),
            Event::ForwardEnded {
                reply_to,
                claim_id,
                outcome,
            } => {
                self.on_forward_ended(reply_to, claim_id, outcome, now, effects);
            }
            Event::Published(publication) => self.on_publication(publication, now, effects),
            Event::Registered(registration) => self.on_registered(*registration, now, effects),
            Event::ActorFetched { actor_id, outcome } => {
                self.on_actor_fetched(&actor_id, outcome, effects);
            }
            Event::Store(news) => self.on_store(news, effects),
            Event::Tick => self.on_tick(now, effects),
        }
        self.settle(now, effects);
    }

    /// When [`Event::Tick`] is wanted next.
    pub fn next_deadline(&self) -> Option<Instant> {
        [
            self.pool.next_deadline(),
            self.leases.next_deadline(),
            self.actors.next_deadline(),
            self.obituaries.next_deadline(),
            self.report.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The node this core decides for.
    pub fn node_id(&self) -> NodeId {
        self.settings.node_id
    }

    /// The processes that are connected.
    pub fn processes(&self) -> &ProcessTable {
        &self.processes
    }

    /// The workers of the node.
    pub fn pool(&self) -> &WorkerPool {
        &self.pool
    }

    /// The leases of the node.
    pub fn leases(&self) -> &LeaseTable {
        &self.leases
    }

    fn on_tick(&mut self, now: Instant, effects: &mut Effects) {
        self.do_pool_chores(now, effects);
        for report in self.obituaries.overdue(now) {
            self.announce_death(report, effects);
        }
        self.give_up_overdue_starts(now, effects);
    }

    /// Brings claims, workers and news into order after an event.
    fn settle(&mut self, now: Instant, effects: &mut Effects) {
        if self.leases.needs_pump(now) {
            self.serve_claims(now, effects);
        }
        let without_worker = self.seat_claims(now, effects);
        if self.leases.are_reclaims_due() {
            self.ask_leases_back(effects);
        }
        self.fork_what_is_short(without_worker, now, effects);
        self.report_if_due(now, effects);
    }
}

/// Sends a frame that answers a request of a process.
fn reply(connection: ConnectionId, request_id: u64, kind: node_frame::Kind, effects: &mut Effects) {
    effects.push(Effect::Send {
        connection,
        request_id,
        kind,
        payload: Bytes::new(),
    });
}

/// Sends a frame that nobody asked for.
fn notify(connection: ConnectionId, kind: node_frame::Kind, effects: &mut Effects) {
    reply(connection, 0, kind, effects);
}

/// Answers whoever claims a worker.
fn answer_claim(reply_to: ReplyTo, outcome: LeaseReply, effects: &mut Effects) {
    match reply_to {
        ReplyTo::Process {
            connection,
            request_id,
        } => {
            reply(
                connection,
                request_id,
                node_frame::Kind::LeaseReply(outcome),
                effects,
            );
        }
        ReplyTo::Call(call) => {
            effects.push(Effect::Answer {
                call,
                answer: CallAnswer::Lease(outcome),
            });
        }
    }
}

#[cfg(test)]
mod tests;
