//! The nodes of the cluster: who is alive, what is free there.
//!
//! ```text
//!  register ──► ALIVE ──reports──► ALIVE
//!                 │ not heard of for the node time-out, or its connection is closed and the grace is over, or it left
//!                 ▼
//!               DEAD ──register──► ALIVE (higher generation)
//! ```
//! - `NODE-G1 (generations-grow)`: every registration gets a number higher than any before; reports under another
//!   number than the node's last are answered with `must_register`.
//! - `NODE-G2 (booked-until-reported)`: what is free on a node is what it reported, less what was placed there since.
//! - `NODE-G3 (dead-is-told-once)`: of a dead node only its death is told.

mod check;

use std::collections::BTreeMap;
use std::time::Duration;

use aktis_common::ids::{ActorId, NodeId};
use aktis_common::resources::{Allocation, NodeResources, ResourceRequest, ResourceSet};
use aktis_common::scheduling::{ClusterView, NodeView, PlacementRequest};
use aktis_proto::convert::node_resources;
use aktis_proto::v1::NodeInfo;

/// Dead nodes that stay listed.
const DEAD_KEPT: usize = 100;
/// Least time between two news of one node, however few there are.
const LEAST_NEWS_GAP: Duration = Duration::from_millis(20);
/// The same for each node of the cluster, of at most so many: so all nodes together hear of `200 n` changes a second, and not of
/// `50 n` squared.
const NEWS_GAP_PER_NODE: Duration = Duration::from_millis(5);
const LONGEST_NEWS_GAP: u32 = 200;

/// When a node counts as dead.
#[derive(Debug, Clone, Copy)]
pub struct NodeTimeouts {
    /// Not heard of for this long.
    pub silence: Duration,
    /// Not heard of for this long after its connection closed.
    pub disconnected: Duration,
    /// How long it counts as one that may come back, once it is dead.
    pub lost_memory: Duration,
    /// How long the jobs of drivers go on that run there, once it is dead.
    pub driver_grace: Duration,
}

/// All nodes, dead ones for a while too.
#[derive(Debug)]
pub struct NodeTable {
    nodes: BTreeMap<NodeId, NodeRecord>,
    last_generation: u64,
    timeouts: NodeTimeouts,
}

#[derive(Debug)]
struct NodeRecord {
    info: NodeInfo,
    /// As reported, less what was placed there since.
    resources: NodeResources,
    /// What was placed there since the last report.
    bookings: BTreeMap<ActorId, Allocation>,
    last_heard: Duration,
    /// Number of its latest subscription.
    subscription: u64,
    /// Since when that is closed.
    disconnected_at: Option<Duration>,
    /// It said that it has no room, whatever its last report says.
    is_full: bool,
    /// Known from an earlier head only: it has not registered with this one.
    is_unheard: bool,
    /// Its next report is to be a registration.
    must_register: bool,
    /// Once it is dead: until when it counts as one that may come back.
    lost_until: Duration,
    /// When the others were last told of it.
    told_at: Duration,
    /// They have not been told its last change.
    is_untold: bool,
}

impl NodeTable {
    /// A table without nodes.
    pub fn new(timeouts: NodeTimeouts, last_generation: u64) -> Self {
        Self {
            nodes: BTreeMap::new(),
            last_generation,
            timeouts,
        }
    }

    /// Puts back a node after a restart. It has the full time-out to report; until then nobody knows what is free there.
    pub fn restore(&mut self, id: NodeId, info: NodeInfo, now: Duration) {
        self.last_generation = self.last_generation.max(info.generation);
        let record = NodeRecord {
            is_full: true,
            is_unheard: true,
            ..NodeRecord::new(info, now)
        };
        self.nodes.insert(id, record);
    }

    /// A node that is not known tells of what is there. It has the full time-out to register.
    pub fn expect(&mut self, id: NodeId, now: Duration) {
        if !self.is_known(id) {
            let info = NodeInfo {
                node_id: id.to_wire(),
                generation: self.last_generation + 1,
                is_alive: true,
                ..NodeInfo::default()
            };
            self.restore(id, info, now);
        }
    }

    /// The time is known again: how long dead nodes still count as ones that may come back.
    pub fn resume(&mut self, now: Duration, unix_millis: u64) {
        let memory = self.timeouts.lost_memory;
        for record in self.nodes.values_mut().filter(|it| !it.info.is_alive) {
            let ago = unix_millis.saturating_sub(record.info.died_unix_millis);
            record.lost_until = now + memory.saturating_sub(Duration::from_millis(ago));
        }
    }

    /// Adds a node, or a node anew; gives its generation, which is higher than any before (`NODE-G1`).
    pub fn register(&mut self, id: NodeId, info: NodeInfo, now: Duration) -> u64 {
        // A head whose disk was full may have given more numbers than its tables tell.
        self.last_generation = self.last_generation.max(info.generation) + 1;
        let before = self.nodes.get(&id);
        let info = NodeInfo {
            generation: self.last_generation,
            is_alive: true,
            death_cause: String::new(),
            died_unix_millis: 0,
            given_up_generation: before.map_or(0, |before| before.info.given_up_generation),
            ..info
        };
        self.nodes.insert(id, NodeRecord::new(info, now));
        self.last_generation
    }

    /// Whether a node that was alive with an earlier head has neither registered with this one nor died.
    pub fn has_unheard(&self) -> bool {
        let mut nodes = self.nodes.values();
        nodes.any(|record| record.is_unheard && record.info.is_alive)
    }

    /// The node is to register anew, whereupon it hears what is to be there, and ends everything else.
    pub fn demand_registration(&mut self, id: NodeId) {
        if let Some(record) = self.nodes.get_mut(&id) {
            record.must_register = true;
        }
    }

    /// Living nodes that share their process with a gcs.
    pub fn of_heads(&self) -> Vec<NodeId> {
        let heads = self
            .nodes
            .iter()
            .filter(|(_, record)| record.info.is_alive && record.info.is_head);
        heads.map(|(id, _)| *id).collect()
    }

    /// The highest generation given so far.
    #[cfg(test)]
    pub(in crate::core) fn last_generation(&self) -> u64 {
        self.last_generation
    }

    /// Takes a report; `None` when the node must register, else whether anything changed.
    pub fn report(&mut self, id: NodeId, report: &NodeInfo, now: Duration) -> Option<bool> {
        let record = self
            .nodes
            .get_mut(&id)
            .filter(|record| record.info.is_alive)?;
        let must_register = record.must_register || record.is_unheard;
        if record.info.generation != report.generation || must_register {
            return None;
        }
        let merged = NodeInfo {
            available: report.available.clone(),
            gpu_available: report.gpu_available.clone(),
            store_capacity_bytes: report.store_capacity_bytes,
            store_used_bytes: report.store_used_bytes,
            store_disk_bytes: report.store_disk_bytes,
            waiting: report.waiting.clone(),
            ..record.info.clone()
        };
        let has_changed = merged != record.info || !record.bookings.is_empty() || record.is_full;
        record.info = merged;
        record.resources = node_resources(&record.info);
        record.bookings.clear();
        record.last_heard = now;
        record.is_full = false;
        Some(has_changed)
    }

    /// Marks a node as dead; gives its last state if it was alive.
    pub fn die(
        &mut self,
        id: NodeId,
        cause: &str,
        now: Duration,
        unix_millis: u64,
    ) -> Option<NodeInfo> {
        let lost_until = now + self.timeouts.lost_memory;
        let record = self
            .nodes
            .get_mut(&id)
            .filter(|record| record.info.is_alive)?;
        record.info.is_alive = false;
        record.info.died_unix_millis = unix_millis;
        record.info.given_up_generation = record.info.generation;
        record.lost_until = lost_until;
        record.is_untold = false;
        cause.clone_into(&mut record.info.death_cause);
        record.info.waiting.clear();
        Some(record.info.clone())
    }

    /// Takes the oldest dead nodes off the list when there are too many.
    pub fn prune(&mut self) -> Vec<NodeId> {
        let mut dead: Vec<(Duration, NodeId)> = self
            .nodes
            .iter()
            .filter(|(_, record)| !record.info.is_alive)
            .map(|(id, record)| (record.last_heard, *id))
            .collect();
        dead.sort_unstable();
        dead.truncate(dead.len().saturating_sub(DEAD_KEPT));
        dead.iter().for_each(|(_, id)| {
            self.nodes.remove(id);
        });
        dead.into_iter().map(|(_, id)| id).collect()
    }

    /// The node has opened a subscription.
    pub fn subscribed(&mut self, id: NodeId, number: u64) {
        if let Some(record) = self.nodes.get_mut(&id) {
            record.subscription = record.subscription.max(number);
            record.disconnected_at = None;
        }
    }

    /// A subscription is closed; that counts only if the node has not opened another one since.
    pub fn unsubscribed(&mut self, id: NodeId, number: u64, now: Duration) {
        if let Some(record) = self.nodes.get_mut(&id).filter(|r| r.subscription == number) {
            record.disconnected_at = Some(now);
        }
    }

    /// Living nodes whose time is over, with the cause of their death.
    pub fn overdue(&self, now: Duration) -> Vec<(NodeId, String)> {
        let mut overdue = Vec::new();
        for (id, record) in self.nodes.iter().filter(|(_, record)| record.info.is_alive) {
            if now >= self.deadline(record) {
                let silent = now.saturating_sub(record.last_heard).as_secs_f64();
                let how = match record.disconnected_at {
                    Some(_) => "its connection closed and it was",
                    None => "it was",
                };
                overdue.push((*id, format!("{how} not heard of for {silent:.1} s")));
            }
        }
        overdue
    }

    /// This process could not listen for so long: nobody is to blame for that silence.
    pub fn forgive(&mut self, stall: Duration) {
        for record in self.nodes.values_mut() {
            record.last_heard += stall;
            record.disconnected_at = record.disconnected_at.map(|at| at + stall);
        }
    }

    /// When the next node is overdue if nothing is heard, or the next change is to be told.
    pub fn next_deadline(&self) -> Option<Duration> {
        let gap = self.news_gap();
        let alive = self.nodes.values().filter(|record| record.info.is_alive);
        alive
            .map(|record| {
                let news = record.is_untold.then(|| record.told_at + gap);
                let deadline = self.deadline(record);
                news.map_or(deadline, |news| news.min(deadline))
            })
            .min()
    }

    fn deadline(&self, record: &NodeRecord) -> Duration {
        let silence = record.last_heard + self.timeouts.silence;
        let closed = record.disconnected_at;
        closed.map_or(silence, |at| {
            silence.min(at.max(record.last_heard) + self.timeouts.disconnected)
        })
    }

    /// The node, if it is alive.
    pub fn living(&self, id: NodeId) -> Option<&NodeInfo> {
        self.nodes
            .get(&id)
            .map(|record| &record.info)
            .filter(|info| info.is_alive)
    }

    /// Whether the node is on the list, dead or alive.
    pub fn is_known(&self, id: NodeId) -> bool {
        self.nodes.contains_key(&id)
    }

    /// Until when the request may wait for a node that is gone; `None` when none of them could serve it.
    pub fn hope(&self, request: &PlacementRequest, now: Duration) -> Option<Duration> {
        let may_return = |record: &&NodeRecord| !record.info.is_alive && record.lost_until > now;
        let lost = self.nodes.iter().filter(|(_, record)| may_return(record));
        lost.filter(|(id, record)| {
            let resources = record.resources.clone();
            request.may_run_like_on(&NodeView {
                id: **id,
                resources,
            })
        })
        .map(|(_, record)| record.lost_until)
        .max()
    }

    /// A change of the node is to be told: the node as it is, if the others may hear of it now. Otherwise it is one of
    /// [`Self::take_untold`] soon. Of a dead node nothing is told (`NODE-G3`).
    pub fn tell(&mut self, id: NodeId, now: Duration) -> Option<NodeInfo> {
        let gap = self.news_gap();
        let record = self.nodes.get_mut(&id).filter(|it| it.info.is_alive)?;
        record.is_untold = true;
        record.take_news(gap, now)
    }

    /// Nodes whose last change is to be told now.
    pub fn take_untold(&mut self, now: Duration) -> Vec<NodeInfo> {
        let gap = self.news_gap();
        let records = self.nodes.values_mut();
        records
            .filter_map(|record| record.take_news(gap, now))
            .collect()
    }

    /// Least time between two news of one node. Each goes to all others, so it grows with their number.
    fn news_gap(&self) -> Duration {
        let nodes = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        (NEWS_GAP_PER_NODE * nodes.min(LONGEST_NEWS_GAP)).max(LEAST_NEWS_GAP)
    }

    /// All nodes.
    pub fn list(&self) -> Vec<NodeInfo> {
        self.nodes
            .values()
            .map(|record| record.info.clone())
            .collect()
    }

    /// The living nodes for the scheduler, less those that said they are full.
    pub fn view(&self) -> ClusterView {
        let open = |record: &&NodeRecord| record.info.is_alive;
        let view = |(id, record): (&NodeId, &NodeRecord)| {
            let resources = if record.is_full {
                // It can serve the request later, but not now: nothing of it is free.
                let total = record.resources.total();
                let mut gpus = record.resources.gpus().to_vec();
                gpus.iter_mut()
                    .for_each(|gpu| gpu.free = Default::default());
                let labels = record.resources.labels().clone();
                NodeResources::reported(total, ResourceSet::new(), gpus, labels)
            } else {
                record.resources.clone()
            };
            NodeView { id: *id, resources }
        };
        ClusterView::new(
            self.nodes
                .iter()
                .filter(|(_, record)| open(record))
                .map(view)
                .collect(),
        )
    }

    /// The living nodes that were heard, as they are without anything on them.
    pub fn emptied(&self) -> ClusterView {
        let nodes = self.nodes.iter();
        let heard = nodes.filter(|(_, record)| record.info.is_alive && !record.is_unheard);
        let view = |(id, record): (&NodeId, &NodeRecord)| NodeView {
            id: *id,
            resources: record.resources.emptied(),
        };
        ClusterView::new(heard.map(view).collect())
    }

    /// An actor was placed there: what it takes is not free any more, until a report says so itself (`NODE-G2`).
    pub fn book(&mut self, id: NodeId, actor: ActorId, request: &ResourceRequest) {
        let Some(record) = self.nodes.get_mut(&id) else {
            return;
        };
        // One that begins anew there takes what it had.
        if let Some(before) = record.bookings.remove(&actor) {
            record.resources.release(&before);
        }
        if let Some(allocation) = record.resources.allocate(request) {
            record.bookings.insert(actor, allocation);
        }
    }

    /// What was booked for the actor is free again, less `kept`.
    pub fn unbook(&mut self, id: NodeId, actor: ActorId, kept: &ResourceRequest) {
        if let Some(record) = self.nodes.get_mut(&id)
            && let Some(allocation) = record.bookings.remove(&actor)
        {
            record.resources.release(&allocation);
            if let Some(kept) = record.resources.allocate(kept) {
                record.bookings.insert(actor, kept);
            }
            record.is_full = false;
        }
    }

    /// The node said that it has no room: nothing is placed there before its next report.
    pub fn set_full(&mut self, id: NodeId) {
        if let Some(record) = self.nodes.get_mut(&id) {
            record.is_full = true;
        }
    }
}

impl NodeRecord {
    fn new(info: NodeInfo, now: Duration) -> Self {
        Self {
            resources: node_resources(&info),
            info,
            bookings: BTreeMap::new(),
            last_heard: now,
            subscription: 0,
            disconnected_at: None,
            is_full: false,
            is_unheard: false,
            must_register: false,
            lost_until: Duration::ZERO,
            told_at: now,
            is_untold: false,
        }
    }

    fn take_news(&mut self, gap: Duration, now: Duration) -> Option<NodeInfo> {
        if !self.is_untold || now < self.told_at + gap {
            return None;
        }
        self.is_untold = false;
        self.told_at = now;
        Some(self.info.clone())
    }
}
