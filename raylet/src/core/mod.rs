//! The decisions of a raylet: state + event -> effects. No sockets, files, clocks or randomness.
//!
//! The state is eight tables. What a table holds is private to its folder; others ask its verbs. A verb changes its own table,
//! says what is to be done (effects), and tells what happened ([`out::TableEvent`]); `step` gives events to tables
//! and passes on what they tell, and decides nothing.
//!
//! ```text
//!  Event ──► step::route ──► a verb ──┬──► effects
//!                              ▲      └──► TableEvent ──► step::news ──► verbs of others
//!                              └──────────────────────────────┘
//!            step::settle ──► claims are served and seated, workers forked, the node reports
//! ```
//!
//! | table | holds | takes | tells |
//! |---|---|---|---|
//! | [`processes`] | who is behind which connection; drivers whose end is awaited | hellos, goodbyes, ends of connections and drivers | `Gone`: to claims, pool |
//! | [`pool`] | the life of each worker, idle ones, shared modules, failures of the zygote | the zygote's news, lanes, lingering, orders to end | `StartFailed`, `NoneCanStart`: to claims. `CutOff`: to deaths. `Ended`, `Lingers`: to claims, deaths, hosting |
//! | [`claims`] | the queue, what is placed or sent elsewhere, leases, what is free here and there, lost nodes | lease requests, returns and withdrawals, answers of other nodes | `Demand`, `GivenBack`, `Orphaned`: to pool. `HasRoom`, `Infeasible`, `Failed`: to hosting. `AskedBack`: to processes |
//! | [`hosting`] | which worker is which actor; starts that wait or are held | starts, ends of constructors | `Wanted`, `GivenUp`, `Constructed`: to claims. `Broken`: to pool |
//! | [`watches`] | who watches which actor, and its newest state | watches, publications, what was fetched | |
//! | [`pulls`] | who waits for which object, and which sources it has | what the store and transfers report | `Arrived`: the node reports |
//! | [`deaths`] | deaths that wait for their cause, and those told too early | last words, ends of processes | `Told`: to processes |
//! | [`node`] | this incarnation's number, the other nodes, the next report | registrations, news of nodes and of processes elsewhere | `Listed`, `Seen`, `LostBefore`, `OwnersDied`: to claims. `Lost`, `WorkerDied`: to claims, processes. `GivenUp`: to claims, hosting. `Kept`: to hosting, pool. `InStep`: to watches, hosting |
//!
//! Each table has a `check` of what holds in all its states; [`RayletCore::check`] calls them all, and adds what holds between
//! tables. It is called after every event by tests, and as often as [`CoreSettings::checks`] says by the core itself.
//!
//! Two things take two tables at once and stand in `step`: a claim gets its worker (`settle`: claims say what they wish, the pool
//! offers), and an actor's start is judged by the state of the worker that was the actor (`calls`).

mod check;
pub mod claims;
pub mod deaths;
pub mod effect;
pub mod event;
pub mod hosting;
pub mod keys;
pub mod node;
pub mod out;
pub mod pool;
pub mod processes;
pub mod pulls;
mod step;
pub mod watches;

use std::time::{Duration, Instant};

use aktis_common::checks::{Lookout, Rhythm};
use aktis_common::ids::NodeId;
use aktis_common::resources::NodeResources;
use aktis_proto::v1::NodeInfo;

use self::claims::LeaseTable;
use self::deaths::Obituaries;
use self::hosting::ActorHosting;
use self::node::Membership;
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
    /// How often its own state is checked.
    pub checks: Rhythm,
}

/// The state of a raylet. What a table holds only that table changes; `step` passes on what follows.
#[derive(Debug)]
pub struct RayletCore {
    processes: ProcessTable,
    pool: WorkerPool,
    claims: LeaseTable,
    hosting: ActorHosting,
    watches: ActorBoard,
    pulls: PullTable,
    deaths: Obituaries,
    node: Membership,
    began: Instant,
    lookout: Lookout,
}

impl RayletCore {
    /// A raylet with nothing connected. `now` is where its clock begins.
    pub fn new(settings: CoreSettings, now: Instant) -> Self {
        let here = settings.node_id;
        let prefix = settings.id_prefix;
        let lease_prefix = u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]);
        let start_timeout = settings.pool.start_timeout;
        Self {
            processes: ProcessTable::new(here),
            pool: WorkerPool::new(settings.pool, prefix),
            claims: LeaseTable::new(here, settings.resources, lease_prefix, now)
                .remembering_lost_nodes(settings.lost_node_memory)
                .naming_gpus(settings.gpu_names),
            hosting: ActorHosting::new(here, settings.actor_patience, start_timeout),
            watches: ActorBoard::default(),
            pulls: PullTable::new(here),
            deaths: Obituaries::new(here, settings.cause_patience),
            node: Membership::new(here, settings.node, settings.report_gap),
            began: now,
            lookout: Lookout::new(settings.checks),
        }
    }

    /// When [`Event::Tick`](event::Event::Tick) is wanted next.
    pub fn next_deadline(&self) -> Option<Instant> {
        [
            self.pool.next_deadline(),
            self.claims.next_deadline(),
            self.hosting.next_deadline(),
            self.deaths.next_deadline(),
            self.node.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// This node as of now. Figures of the store are filled in by whoever has the store.
    pub fn node_info(&self) -> NodeInfo {
        let waiting = self.claims.waiting_reasons();
        self.node.info(&self.claims.open_resources(), waiting)
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
        &self.claims
    }
}

#[cfg(test)]
mod tests;
