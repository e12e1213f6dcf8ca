//! Claims that wait on other nodes.

use std::time::{Duration, Instant};

use aktis_common::ids::NodeId;
use aktis_common::scheduling::Placement;

use super::{Claim, LeaseTable, Sent};
use crate::core::keys::ReplyTo;

/// How long a claim waits on another node before it may be moved.
const PATIENCE_ELSEWHERE: Duration = Duration::from_millis(500);

/// How long a claim waits here that only other nodes can serve, before it waits at one of them.
const PATIENCE_HERE: Duration = Duration::from_secs(1);

impl LeaseTable {
    /// A claim that was sent elsewhere.
    pub fn forwarded(&self, reply_to: ReplyTo) -> Option<&(Claim, Sent)> {
        self.forwarded.get(&reply_to)
    }

    /// Claims that have waited elsewhere for a while and could be served at once by another node now: they are back in
    /// the queue.
    pub(super) fn take_back_forwarded(&mut self, now: Instant) -> Vec<(ReplyTo, Sent)> {
        let is_movable = |(claim, sent): &(Claim, Sent)| {
            now >= sent.since + PATIENCE_ELSEWHERE
                && matches!(self.place(claim), Placement::Node(node)
                    if node != sent.node && (node != self.here || self.is_open_to(claim)))
        };
        let movable: Vec<ReplyTo> = self
            .forwarded
            .iter()
            .filter(|(_, entry)| is_movable(entry))
            .map(|(reply_to, _)| *reply_to)
            .collect();
        let mut taken = Vec::with_capacity(movable.len());
        for reply_to in movable {
            if let Some((claim, sent)) = self.forwarded.remove(&reply_to) {
                self.queue.push(reply_to, claim);
                self.is_stale = true;
                taken.push((reply_to, sent));
            }
        }
        taken
    }

    /// Until when a claim waits here that this node can never serve.
    pub(super) fn waits_here_until(&self, claim: &Claim) -> Option<Instant> {
        let is_movable = !claim.is_here_only && !claim.is_hopeless && claim.owner().is_some();
        let here = self.view.node(self.here)?;
        (is_movable && !claim.could_run_on(here)).then(|| claim.since + PATIENCE_HERE)
    }

    /// The node at which the claim had better wait. From here a node is only seen to be full. There the claim has its turn
    /// (`SCH-4`), and leases that are merely kept warm are asked back for it: an owner that has a task now and then keeps one
    /// for ever otherwise.
    pub(super) fn where_to_wait(&self, claim: &Claim, now: Instant) -> Option<NodeId> {
        if now < self.waits_here_until(claim)? {
            return None;
        }
        let others = self.view.nodes().iter();
        let others = others.filter(|node| node.id != self.here && claim.could_run_on(node));
        let others: Vec<NodeId> = others.map(|node| node.id).collect();
        let chosen = claim.placement.seed.checked_rem(others.len() as u64)?;
        others.get(usize::try_from(chosen).ok()?).copied()
    }

    /// The other node has answered for good.
    pub(super) fn forward_answered(&mut self, reply_to: ReplyTo) -> Option<Sent> {
        self.forwarded.remove(&reply_to).map(|(_, sent)| sent)
    }

    /// The other node cannot serve the claim: it is back in the queue, and the node is not asked until it reports. Until then it
    /// counts as lost, and not as if it had never been there.
    pub(super) fn forward_failed(&mut self, reply_to: ReplyTo, now: Instant) {
        let Some((claim, sent)) = self.forwarded.remove(&reply_to) else {
            return;
        };
        self.set_other_node(sent.node, None, now);
        self.queue.push(reply_to, claim);
    }
}
