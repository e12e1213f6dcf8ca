//! Who may use which resources of this node, who waits for them, and who is sent to another node.
//!
//! Owns: the queue of claims, the grants, the free resources of this node and the view of the others. Does not own:
//! worker processes (the pool), wire messages.
//!
//! ```text
//!  submit ──► queue ──pump──► placed (resources held, no worker yet) ──attach──► grant with a worker ──end──► (gone)
//!               │  ▲
//!               ▼  │ not reachable
//!            forwarded ──► answered by the other node
//! ```
//!
//! - `LEASE-1 (never-over-commits)`: a grant is only made out of free resources; the sum of all grants never exceeds
//!   the node's total, but for CPUs that a woken worker takes back.
//! - `LEASE-2 (end-gives-back)`: ending a grant gives back exactly what it holds.
//! - `LEASE-3 (one-place)`: a claim is in exactly one of: queue, placed, forwarded.
//! - `LEASE-4 (now-is-not-for-ever)`: a claim that a node could serve which was there lately is not called infeasible.
//!
//! What frees is kept for the claim that has waited longest, if the end of tasks can serve it ([`holding`]).

mod check;
mod claim;
mod forwarding;
mod grant;
mod holding;
mod lost;
mod owners;
mod placing;
mod reclaim;
mod requests;
mod serving;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aktis_common::ids::{NodeId, WorkerId};
use aktis_common::resources::NodeResources;
use aktis_common::scheduling::{ClusterView, NodeView, WaitQueue};
use aktis_proto::v1::LeaseReclaim;
use rustc_hash::FxHashMap;

pub use self::claim::{Claim, Owner, Purpose};
pub use self::grant::{Grant, Holder};
use self::lost::LostNodes;
use self::placing::{Granted, Serving};
use crate::core::keys::{CallId, LeaseId, ReplyTo};

/// Least time between two rounds that only the clock asks for: a claim that another one holds back is not tried.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// How long a request that this node cannot serve waits for the first snapshot of the cluster.
const PATIENCE_WITHOUT_VIEW: Duration = Duration::from_millis(700);

/// What happens to claims and leases.
#[derive(Debug)]
pub enum ClaimEvent {
    /// An owner claims a worker: more will be wanted.
    Demand,
    /// The claim that this call made has its resources.
    HasRoom(CallId),
    /// The claim that this call made for an actor has ended: this node can never serve it.
    Infeasible(CallId),
    /// The claim that this call made has ended without a worker, and was answered.
    Failed(CallId),
    /// The owner that leased a worker is gone.
    Orphaned {
        /// The worker, which may be running that owner's tasks.
        worker: WorkerId,
        /// What became of its owner.
        cause: String,
    },
    /// An owner gives a lease of a worker back.
    GivenBack {
        /// The lease.
        lease: LeaseId,
        /// Its worker.
        worker: WorkerId,
        /// The owner cannot use that any more.
        is_unusable: bool,
    },
    /// Others wait for what a process of this node leases.
    AskedBack {
        /// The process.
        owner: WorkerId,
        /// What to tell it.
        reclaim: LeaseReclaim,
    },
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    /// It holds resources here, and wants a worker.
    Placed(ReplyTo),
    /// It is to be sent to another node.
    Forward(ReplyTo, NodeId),
    /// Nothing in the cluster can serve it; it stays in the queue.
    Infeasible(ReplyTo, String),
}

/// A claim that holds resources and waits for a worker.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Who waits.
    pub reply_to: ReplyTo,
    /// What for.
    pub claim: Claim,
    /// The grant that holds the resources.
    pub lease: LeaseId,
}

/// Where a withdrawn claim was.
#[derive(Debug)]
enum Withdrawn {
    /// It waited here, maybe with resources.
    Here,
    /// It was sent to another node.
    Forwarded(Sent),
}

/// Where a claim was sent, and under which number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The node.
    pub node: NodeId,
    /// The number.
    pub claim_id: u64,
    /// When.
    pub since: Instant,
}

/// Claims, grants and resources.
#[derive(Debug)]
pub struct LeaseTable {
    here: NodeId,
    /// How CUDA names the GPUs of this node, by their ids.
    gpu_names: Vec<String>,
    /// Where the clock of the queue begins.
    origin: Instant,
    view: ClusterView,
    queue: WaitQueue<ReplyTo, Claim>,
    /// Names of the resources of which nothing is free here but for claims that have waited for long.
    held: Vec<String>,
    placed: VecDeque<Placed>,
    forwarded: FxHashMap<ReplyTo, (Claim, Sent)>,
    grants: FxHashMap<LeaseId, Grant>,
    lease_prefix: u64,
    next_lease: u64,
    next_claim: u64,
    is_view_complete: bool,
    lost: LostNodes,
    seed: u64,
    /// Something was freed or joined since the queue was served.
    is_stale: bool,
    /// Whether a lease can be asked back, or is needed back, that was not so when claims that wait were last served.
    are_reclaims_due: bool,
    /// When the queue was served last.
    served_at: Instant,
    /// When it is to be served again although nothing happens; as of then.
    serve_again_at: Option<Instant>,
}

impl LeaseTable {
    /// A table for node `here` with everything free. Lease numbers begin with `lease_prefix`, so that those of different
    /// nodes differ.
    pub fn new(here: NodeId, resources: NodeResources, lease_prefix: u32, origin: Instant) -> Self {
        Self {
            here,
            gpu_names: Vec::new(),
            origin,
            view: ClusterView::new(vec![NodeView {
                id: here,
                resources,
            }]),
            queue: WaitQueue::new(),
            held: Vec::new(),
            placed: VecDeque::new(),
            forwarded: FxHashMap::default(),
            grants: FxHashMap::default(),
            lease_prefix: u64::from(lease_prefix) << 32,
            next_lease: 1,
            next_claim: 1,
            is_view_complete: false,
            lost: LostNodes::default(),
            seed: 0,
            is_stale: false,
            are_reclaims_due: false,
            served_at: origin,
            serve_again_at: None,
        }
    }

    /// The same that remembers nodes that are gone for so long.
    #[must_use]
    pub fn remembering_lost_nodes(self, memory: Duration) -> Self {
        Self {
            lost: LostNodes::remembering(memory),
            ..self
        }
    }

    /// The same that tells workers these names of GPUs.
    #[must_use]
    pub fn naming_gpus(self, gpu_names: Vec<String>) -> Self {
        Self { gpu_names, ..self }
    }

    /// The resources of this node.
    pub fn resources(&self) -> &NodeResources {
        &self
            .view
            .node(self.here)
            .expect("the view holds this node for life")
            .resources
    }

    fn resources_mut(&mut self) -> &mut NodeResources {
        let node = self
            .view
            .node_mut(self.here)
            .expect("the view holds this node for life");
        &mut node.resources
    }

    /// What is known of the other nodes: all of them, replacing what was known.
    pub fn set_other_nodes(&mut self, others: Vec<NodeView>, now: Instant) {
        let mut nodes = others;
        nodes.retain(|node| node.id != self.here);
        nodes.push(NodeView {
            id: self.here,
            resources: self.resources().clone(),
        });
        let before = std::mem::replace(&mut self.view, ClusterView::new(nodes));
        for node in before.nodes() {
            if self.view.node(node.id).is_none() {
                self.lost.add(node.clone(), Duration::ZERO, now);
            }
        }
        self.view
            .nodes()
            .iter()
            .for_each(|node| self.lost.found(node.id));
        self.is_view_complete = true;
        self.is_stale = true;
    }

    /// News of one other node; `None` when it is gone.
    pub fn set_other_node(&mut self, id: NodeId, resources: Option<NodeResources>, now: Instant) {
        if id == self.here {
            return;
        }
        match resources {
            Some(resources) => {
                self.lost.found(id);
                self.view.set(NodeView { id, resources });
            }
            None => {
                if let Some(node) = self.view.remove(id) {
                    self.lost.add(node, Duration::ZERO, now);
                }
            }
        }
        self.is_stale = true;
    }

    /// A node was lost before this one knew of it.
    pub fn note_lost_node(&mut self, node: NodeView, ago: Duration, now: Instant) {
        if node.id != self.here && self.view.node(node.id).is_none() {
            self.lost.add(node, ago, now);
        }
    }

    /// The other nodes that claims may be sent to.
    pub fn other_nodes(&self) -> impl Iterator<Item = NodeId> {
        let nodes = self.view.nodes().iter().map(|node| node.id);
        nodes.filter(|node| *node != self.here)
    }

    /// Nodes that were lost lately.
    pub fn lost_nodes(&self, now: Instant) -> impl Iterator<Item = &NodeView> {
        self.lost.nodes(now)
    }

    /// Enters a claim; [`Self::pump`] decides on it.
    pub fn submit(&mut self, reply_to: ReplyTo, mut claim: Claim) {
        self.seed = self.seed.wrapping_add(1);
        claim.placement.seed = self.seed;
        claim.placement.local_node = Some(self.here);
        let is_alone = self.queue.is_empty();
        // With others waiting, a claim that does not fit changes nothing for anybody.
        self.is_stale |= is_alone
            // It comes first, and the leases that it lacks are asked back: an owner whose own claims wait keeps them else.
            || claim.owner().is_none()
            || self.view.nodes().len() > 1
            || (self.resources().fits(claim.resources()) && self.is_open_to(&claim))
            || !self.resources().could_ever_fit(claim.resources());
        if claim.owner().is_some() {
            self.queue.push(reply_to, claim);
        } else {
            // An actor has waited at the gcs already (ADR 093): what it lacks is kept for it at once (ADR 132).
            self.queue
                .push_holding(reply_to, claim, |other| other.owner().is_some());
        }
    }

    /// Whether the queue may be served differently than before.
    pub fn needs_pump(&self, now: Instant) -> bool {
        self.is_stale || self.next_deadline().is_some_and(|at| at <= now)
    }

    /// Serves the queue, if anything has changed for it.
    fn pump(&mut self, now: Instant) -> Vec<Decision> {
        if !self.needs_pump(now) {
            return Vec::new();
        }
        self.is_stale = false;
        self.served_at = now;
        let mut serving = Serving::new(now);
        let mut queue = std::mem::take(&mut self.queue);
        self.held = queue.serve(
            now - self.origin,
            Claim::needs,
            |reply_to, claim, standing| self.attempt(*reply_to, claim, standing, &mut serving),
        );
        self.queue = queue;
        let Serving {
            granted, decisions, ..
        } = serving;
        for placed in granted {
            match placed {
                Granted::Here(placed) => self.placed.push_back(placed),
                Granted::Elsewhere(reply_to, claim, node) => {
                    let claim_id = self.lease_prefix | self.next_claim;
                    self.next_claim = (self.next_claim + 1) & u64::from(u32::MAX);
                    let sent = Sent {
                        node,
                        claim_id,
                        since: now,
                    };
                    self.forwarded.insert(reply_to, (claim, sent));
                }
            }
        }
        self.serve_again_at = self.next_service(now);
        decisions
    }

    /// Claims that hold resources and want a worker, in order.
    pub fn placed(&self) -> &VecDeque<Placed> {
        &self.placed
    }

    /// The claim at `position` of [`Self::placed`] has got a worker, which is busy with its lease from now on (`LEASE-5`).
    pub fn attach(&mut self, position: usize, worker: WorkerId) -> Placed {
        let placed = self
            .placed
            .remove(position)
            .expect("position is one of placed()");
        let grant = self
            .grants
            .get_mut(&placed.lease)
            .expect("a placed claim has a grant");
        grant.worker = Some(worker);
        self.are_reclaims_due = true;
        placed
    }

    /// No worker could be started for the claim at `position` of [`Self::placed`]: it ends.
    fn drop_placed(&mut self, position: usize) -> Option<Placed> {
        let placed = self.placed.remove(position)?;
        self.end(placed.lease);
        Some(placed)
    }

    /// A claim is withdrawn by whoever made it, or because they are gone.
    fn withdraw(&mut self, reply_to: ReplyTo) -> Option<Withdrawn> {
        if self.queue.remove(&reply_to).is_some() {
            self.is_stale = true;
            return Some(Withdrawn::Here);
        }
        if let Some(position) = self
            .placed
            .iter()
            .position(|placed| placed.reply_to == reply_to)
        {
            self.drop_placed(position);
            return Some(Withdrawn::Here);
        }
        let (_, sent) = self.forwarded.remove(&reply_to)?;
        Some(Withdrawn::Forwarded(sent))
    }

    /// Every claim for which `is_meant` says so.
    pub fn claims_where(&self, is_meant: impl Fn(ReplyTo, &Claim) -> bool) -> Vec<ReplyTo> {
        let queued = self
            .queue
            .iter()
            .map(|(reply_to, claim)| (*reply_to, claim));
        let placed = self
            .placed
            .iter()
            .map(|placed| (placed.reply_to, &placed.claim));
        let forwarded = self
            .forwarded
            .iter()
            .map(|(reply_to, (claim, _))| (*reply_to, claim));
        queued
            .chain(placed)
            .chain(forwarded)
            .filter(|(reply_to, claim)| is_meant(*reply_to, claim))
            .map(|(reply_to, _)| reply_to)
            .collect()
    }

    /// A grant.
    pub fn get(&self, lease: LeaseId) -> Option<&Grant> {
        self.grants.get(&lease)
    }

    /// All grants, in no order.
    pub fn grants(&self) -> impl Iterator<Item = (LeaseId, &Grant)> {
        self.grants.iter().map(|(lease, grant)| (*lease, grant))
    }

    /// Workers that may hold so many bytes: those for which memory was asked for, and enough for a process to begin with.
    pub fn memory_limits(&self) -> impl Iterator<Item = (WorkerId, u64)> {
        let grants = self.grants.values();
        grants.filter_map(|grant| grant.worker.zip(grant.memory_limit()))
    }

    /// Ends a grant and gives back what it holds (`LEASE-2`).
    pub fn end(&mut self, lease: LeaseId) -> Option<Grant> {
        let grant = self.grants.remove(&lease)?;
        grant.release_into(self.resources_mut());
        self.is_stale = true;
        Some(grant)
    }

    /// The worker of a lease waits for others.
    fn block(&mut self, lease: LeaseId) {
        self.with_allocation(lease, NodeResources::block);
        self.is_stale = true;
    }

    /// The worker of a lease goes on.
    fn unblock(&mut self, lease: LeaseId) {
        self.with_allocation(lease, NodeResources::unblock);
        self.are_reclaims_due = true;
    }

    fn with_allocation(
        &mut self,
        lease: LeaseId,
        change: fn(&mut NodeResources, &mut aktis_common::resources::Allocation),
    ) {
        let Some(mut grant) = self.grants.remove(&lease) else {
            return;
        };
        change(self.resources_mut(), &mut grant.allocation);
        self.grants.insert(lease, grant);
    }

    /// An actor's constructor has ended: what only its start needed is free.
    pub fn end_startup(&mut self, lease: LeaseId) {
        let extra = self
            .grants
            .get_mut(&lease)
            .and_then(|grant| grant.startup_extra.take());
        if let Some(extra) = extra {
            self.resources_mut().release(&extra);
            self.is_stale = true;
        }
    }

    /// Leases of these holders.
    pub fn leases_where(&self, is_meant: impl Fn(&Grant) -> bool) -> Vec<LeaseId> {
        self.grants()
            .filter(|(_, grant)| is_meant(grant))
            .map(|(lease, _)| lease)
            .collect()
    }

    /// Why requests wait, for people: each reason once, with how many wait for it.
    pub fn waiting_reasons(&self) -> Vec<String> {
        let mut counts: FxHashMap<String, usize> = FxHashMap::default();
        let mut reasons: Vec<String> = Vec::new();
        for (_, claim) in self.queue.iter() {
            let reason = claim.reason();
            let count = counts.entry(reason.clone()).or_insert(0);
            if *count == 0 {
                reasons.push(reason);
            }
            *count += 1;
        }
        reasons
            .into_iter()
            .map(|reason| format!("{} x {reason}", counts[&reason]))
            .collect()
    }

    /// When the queue is to be served again although nothing happened.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.serve_again_at
    }
}

#[cfg(test)]
mod tests;
