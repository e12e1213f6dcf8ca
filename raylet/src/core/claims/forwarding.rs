//! Claims that wait on other nodes.

use std::time::{Duration, Instant};

use aktis_common::scheduling::Placement;

use super::{Claim, LeaseTable, Sent};
use crate::core::keys::ReplyTo;

/// How long a claim waits on another node before it may be moved.
const PATIENCE_ELSEWHERE: Duration = Duration::from_millis(500);

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
                && matches!(self.place(claim), Placement::Node(node) if node != sent.node)
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
