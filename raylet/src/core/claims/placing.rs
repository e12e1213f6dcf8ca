//! One try to serve a claim.

use std::time::Instant;

use aktis_common::ids::{ActorId, NodeId};
use aktis_common::scheduling::{Attempt, ClusterView, NodeView, Placement, solve};

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

impl LeaseTable {
    pub(super) fn attempt(
        &mut self,
        reply_to: ReplyTo,
        claim: &mut Claim,
        now: Instant,
        granted: &mut Vec<Granted>,
        decisions: &mut Vec<Decision>,
    ) -> Attempt {
        let placement = self.place(claim);
        match placement {
            Placement::Node(node) if node == self.here => {
                let lease = self.grant(claim, now).expect("SCH-1: a placement fits");
                granted.push(Granted::Here(Placed {
                    reply_to,
                    claim: claim.clone(),
                    lease,
                }));
                decisions.push(Decision::Placed(reply_to));
                Attempt::Granted
            }
            Placement::Node(node) => {
                // Booked until the node's next report, so that not everybody is sent there.
                if let Some(other) = self.view.node_mut(node) {
                    let _ = other.resources.allocate(claim.resources());
                }
                granted.push(Granted::Elsewhere(reply_to, claim.clone(), node));
                decisions.push(Decision::Forward(reply_to, node));
                Attempt::Granted
            }
            Placement::Wait { reason } => {
                claim.is_hopeless = false;
                claim.is_told_infeasible = false;
                if let Some(node) = self.where_to_wait(claim, now) {
                    granted.push(Granted::Elsewhere(reply_to, claim.clone(), node));
                    decisions.push(Decision::Forward(reply_to, node));
                    return Attempt::Granted;
                }
                claim.waits_for = reason;
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
                    decisions.push(Decision::Infeasible(reply_to, missing.clone()));
                }
                claim.waits_for = missing;
                Attempt::Hopeless
            }
        }
    }

    pub(super) fn place(&self, claim: &Claim) -> Placement {
        if claim.is_here_only || self.view.nodes().len() == 1 {
            if self.resources().fits(claim.resources()) && claim.is_wanted_on(self.here) {
                return Placement::Node(self.here);
            }
            let only_here = ClusterView::new(vec![NodeView {
                id: self.here,
                resources: self.resources().clone(),
            }]);
            return solve(&only_here, &claim.placement);
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
