//! The state of the cluster and how it changes: no clock, no network, no disk.
//!
//! Each public method of [`GcsCore`] is one event: it changes the tables and adds effects to its [`Turn`]. After a batch
//! of events the loop calls [`GcsCore::settle`] once, which places the actors that wait.

pub mod actors;
mod check;
mod departed;
mod error;
pub mod jobs;
pub mod keys;
pub mod nodes;
mod restore;
mod turn;
mod undo;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use aktis_common::checks::{Lookout, Rhythm};
use aktis_common::ids::{ActorId, InvalidId};
use aktis_common::scheduling::{PlacementRequest, WaitQueue};
use aktis_proto::v1::{ClusterStatusReply, publication::Kind};

pub use actors::starts::StartOutcome;
pub use error::GcsError;
pub use keys::table::PutOutcome;
pub use nodes::table::NodeTimeouts;
pub use restore::{RestoreError, Row};
pub use turn::{Effect, Table, Turn, Write};

use actors::displacing::Displacing;
use actors::table::ActorTable;
use departed::Departed;
use jobs::table::{Away, JobTable};
use keys::table::KvTable;
use nodes::table::NodeTable;

/// All that the head knows.
#[derive(Debug)]
pub struct GcsCore {
    session_id: String,
    nodes: NodeTable,
    jobs: JobTable,
    actors: ActorTable,
    kv: KvTable,
    /// Actors without a place.
    waiting: WaitQueue<ActorId, PlacementRequest>,
    /// Why each of them waits.
    reasons: BTreeMap<ActorId, String>,
    /// Something changed that may give a waiting actor its place.
    is_placing_due: bool,
    /// Counts placements, so that equal ones go round the nodes.
    placements: u64,
    /// When the first waiting actor gives up the hope for a node that was lost.
    hope_ends: Option<Duration>,
    displacing: Displacing,
    departed: Departed,
    /// Actors that lost their place before all nodes of the last head were heard: one of those may have them.
    withheld: Vec<ActorId>,
    /// Starts that a raylet may have heard of and did not answer, and since when.
    unanswered: BTreeMap<ActorId, Duration>,
    timeouts: NodeTimeouts,
    lookout: Lookout,
}

impl GcsCore {
    /// A cluster without nodes.
    pub fn new(session_id: String, timeouts: NodeTimeouts) -> Self {
        Self {
            session_id,
            nodes: NodeTable::new(timeouts, 0),
            jobs: JobTable::default(),
            actors: ActorTable::default(),
            kv: KvTable::default(),
            waiting: WaitQueue::new(),
            reasons: BTreeMap::new(),
            is_placing_due: false,
            placements: 0,
            hope_ends: None,
            displacing: Displacing::default(),
            departed: Departed::default(),
            withheld: Vec::new(),
            unanswered: BTreeMap::new(),
            timeouts,
            lookout: Lookout::new(Rhythm::default()),
        }
    }

    /// The same that checks its own state as often as this.
    #[must_use]
    pub fn checked(self, rhythm: Rhythm) -> Self {
        Self {
            lookout: Lookout::new(rhythm),
            ..self
        }
    }

    /// The session.
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// The key-value table.
    pub fn kv(&self) -> &KvTable {
        &self.kv
    }

    /// Time has passed: declares silent nodes dead and tries waiting actors whose turn may have come.
    pub fn tick(&mut self, turn: &mut Turn) {
        for (node, cause) in self.nodes.overdue(turn.now) {
            self.node_died(node, &cause, self.timeouts.driver_grace, turn);
        }
        for news in self.nodes.take_untold(turn.now) {
            turn.publish(Kind::Node(news));
        }
        self.end_overdue_jobs(turn);
        let changes = self.waiting.next_change().into_iter().chain(self.hope_ends);
        if changes.min().is_some_and(|at| at <= turn.now) {
            self.is_placing_due = true;
        }
    }

    /// When [`Self::tick`] has something to do next, if nothing else happens.
    pub fn next_wake(&self) -> Option<Duration> {
        self.nodes
            .next_deadline()
            .into_iter()
            .chain(self.waiting.next_change())
            .chain(self.hope_ends)
            .chain(self.displacing.next_wake())
            .chain(self.jobs.away().map(|(_, away)| away.until))
            .min()
    }

    /// Everything that `aktis status` shows.
    pub fn status(&self, storage: &str) -> ClusterStatusReply {
        let name = |id: &ActorId| {
            let class = self
                .actors
                .get(*id)
                .map_or("", |record| record.options.class_name.as_str());
            if class.is_empty() {
                format!("actor {id}")
            } else {
                format!("actor {class} ({id})")
            }
        };
        ClusterStatusReply {
            nodes: self.nodes.list(),
            actors: self.actors.iter().map(|record| record.news()).collect(),
            jobs: self.jobs.list(),
            session_id: self.session_id.clone(),
            storage: storage.to_owned(),
            waiting: self
                .reasons
                .iter()
                .map(|(id, why)| format!("{}: {why}", name(id)))
                .chain(self.jobs.away().filter(|(job, _)| self.jobs.is_running(*job)).map(|(job, away)| {
                    let Away { node, cause, .. } = away;
                    format!(
                        "job {job}: its driver is away with node {node} ({cause}), and its actors wait for it"
                    )
                }))
                .collect(),
        }
    }
}

/// Reads an id of a request.
fn read_id<T>(field: &'static str, read: Result<T, InvalidId>) -> Result<T, GcsError> {
    read.map_err(|cause| GcsError::InvalidId { field, cause })
}
