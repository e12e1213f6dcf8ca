//! One try to serve a claim.

use std::time::Instant;

use aktis_common::ids::{ActorId, NodeId};
use aktis_common::scheduling::{Attempt, ClusterView, Placement, Standing, solve};

use super::grant::allocate_in_parts;
use super::{
    Claim, Decision, Grant, Holder, LEAST_PAUSE, LeaseTable, PATIENCE_WITHOUT_VIEW, Placed, Purpose,
};
use crate::core::keys::{LeaseId, ReplyTo};

/// A claim that leaves the queue.
pub(super) enum Granted {
    /// It holds resources of this node.
    Here(Placed),
    /// It goes to another one.
    Elsewhere(ReplyTo, Claim, NodeId),
}

/// What comes of serving the queue once.
pub(super) struct Serving {
    now: Instant,
    /// The other nodes, once a claim was tried that this node keeps nothing for.
    others: Option<ClusterView>,
    pub(super) granted: Vec<Granted>,
    pub(super) decisions: Vec<Decision>,
}

impl Serving {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            now,
            others: None,
            granted: Vec::new(),
            decisions: Vec::new(),
        }
    }

    /// The claim goes to another node.
    fn send(&mut self, reply_to: ReplyTo, claim: &Claim, node: NodeId) -> Attempt {
        self.granted
            .push(Granted::Elsewhere(reply_to, claim.clone(), node));
        self.decisions.push(Decision::Forward(reply_to, node));
        Attempt::Granted
    }
}

impl LeaseTable {
    pub(super) fn attempt(
        &mut self,
        reply_to: ReplyTo,
        claim: &mut Claim,
        standing: Standing,
        serving: &mut Serving,
    ) -> Attempt {
        let now = serving.now;
        if standing == Standing::Held {
            return self.attempt_elsewhere(reply_to, claim, serving);
        }
        match self.place(claim) {
            Placement::Node(node) if node == self.here => {
                let lease = self.grant(claim, now).expect("SCH-1: a placement fits");
                serving.granted.push(Granted::Here(Placed {
                    reply_to,
                    claim: claim.clone(),
                    lease,
                }));
                serving.decisions.push(Decision::Placed(reply_to));
                Attempt::Granted
            }
            Placement::Node(node) => {
                self.book(claim, node, serving);
                serving.send(reply_to, claim, node)
            }
            Placement::Wait { reason } => {
                claim.is_hopeless = false;
                claim.is_told_infeasible = false;
                if let Some(node) = self.where_to_wait(claim, now) {
                    return serving.send(reply_to, claim, node);
                }
                claim.waits_for = reason;
                if standing == Standing::Holds && !self.is_worth_holding(claim) {
                    return Attempt::Hopeless;
                }
                Attempt::Waits {
                    short_of: self.resources().short_of(claim.resources()),
                }
            }
            // LEASE-4: impossible now, but not for ever.
            Placement::Infeasible { missing } if self.has_hope(claim, now) => {
                claim.is_hopeless = true;
                claim.is_told_infeasible = false;
                let memory = self.lost.memory().as_secs();
                claim.waits_for = format!(
                    "{missing}; a node that has it was lost, and may come back or be replaced within {memory} s"
                );
                Attempt::Hopeless
            }
            Placement::Infeasible { missing } => {
                claim.is_hopeless = true;
                if !claim.is_told_infeasible && self.may_call_infeasible(claim, now) {
                    claim.is_told_infeasible = true;
                    serving
                        .decisions
                        .push(Decision::Infeasible(reply_to, missing.clone()));
                }
                claim.waits_for = missing;
                Attempt::Hopeless
            }
        }
    }

    /// What is free here is kept for a claim that came before: another node may serve this one.
    fn attempt_elsewhere(
        &mut self,
        reply_to: ReplyTo,
        claim: &mut Claim,
        serving: &mut Serving,
    ) -> Attempt {
        if !claim.is_here_only && self.view.nodes().len() > 1 {
            let others = serving.others.get_or_insert_with(|| self.others());
            if let Placement::Node(node) = solve(others, &claim.placement) {
                self.book(claim, node, serving);
                return serving.send(reply_to, claim, node);
            }
        }
        claim.waits_for.clear();
        Attempt::Waits {
            short_of: Vec::new(),
        }
    }

    /// Booked until the node's next report, so that not everybody is sent there.
    fn book(&mut self, claim: &Claim, node: NodeId, serving: &mut Serving) {
        let views = [Some(&mut self.view), serving.others.as_mut()];
        for view in views.into_iter().flatten() {
            if let Some(other) = view.node_mut(node) {
                let _ = other.resources.allocate(claim.resources());
            }
        }
    }

    pub(super) fn place(&self, claim: &Claim) -> Placement {
        if claim.is_here_only || self.view.nodes().len() == 1 {
            if self.resources().fits(claim.resources()) && claim.is_wanted_on(self.here) {
                return Placement::Node(self.here);
            }
            return solve(&self.only_here(), &claim.placement);
        }
        solve(&self.view, &claim.placement)
    }

    /// Whether a node that is gone could serve the claim. Another raylet that forwarded it knows such nodes itself.
    fn has_hope(&self, claim: &Claim, now: Instant) -> bool {
        !claim.is_here_only && self.lost.hope(&claim.placement, now).is_some()
    }

    /// When the queue is to be served again although nothing happens. Walks the queue, so only once after it was served.
    pub(super) fn next_service(&self, now: Instant) -> Option<Instant> {
        let barrier = self.queue.next_change().map(|at| self.origin + at);
        let untold = self
            .queue
            .iter()
            .filter(|(_, claim)| claim.is_hopeless && !claim.is_told_infeasible)
            .filter_map(|(_, claim)| {
                let hope = self.lost.hope(&claim.placement, now);
                hope.or((!self.is_view_complete).then(|| claim.since + PATIENCE_WITHOUT_VIEW))
            });
        let leaving = self
            .queue
            .iter()
            .filter_map(|(_, claim)| self.waits_here_until(claim));
        untold
            .chain(leaving.filter(|at| *at > now))
            .chain(barrier)
            .min()
            .map(|at| at.max(self.served_at + LEAST_PAUSE))
    }

    /// Before the first snapshot of the cluster other nodes may exist that nobody knows of yet.
    fn may_call_infeasible(&self, claim: &Claim, now: Instant) -> bool {
        self.is_view_complete || now >= claim.since + PATIENCE_WITHOUT_VIEW
    }

    /// Takes what the claim asks for out of what is free, if that is enough (`LEASE-1`).
    fn grant(&mut self, claim: &Claim, now: Instant) -> Option<LeaseId> {
        let (holder, running) = match &claim.purpose {
            Purpose::Tasks { owner, .. } => (Holder::Owner(*owner), None),
            Purpose::Actor { start, running, .. } => {
                let spec = start.spec.as_ref();
                let actor = spec.and_then(|spec| ActorId::from_bytes(&spec.actor_id).ok());
                (
                    Holder::Actor(actor.unwrap_or(ActorId::NIL)),
                    running.as_ref(),
                )
            }
        };
        let (allocation, startup_extra) =
            allocate_in_parts(self.resources_mut(), claim.resources(), running)?;
        let lease = LeaseId(self.lease_prefix | self.next_lease);
        self.next_lease = (self.next_lease + 1) & u64::from(u32::MAX);
        let grant = Grant {
            holder,
            claim_id: claim.claim_id,
            job: claim.job,
            request: claim.resources().clone(),
            allocation,
            startup_extra,
            worker: None,
            since: now,
            is_reclaimed: false,
        };
        self.grants.insert(lease, grant);
        Some(lease)
    }
}
