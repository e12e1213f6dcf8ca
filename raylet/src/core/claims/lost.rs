//! Nodes that are gone, and may come back or be replaced.
//!
//! A claim that no node can serve now, but one could that was there lately, waits as if that node were busy
//! (`LEASE-4 (now-is-not-for-ever)`): a machine that is cut off, restarted or replaced costs time and no work. What no node has
//! been able to serve is a mistake, and its owner hears of it at once.

use std::time::{Duration, Instant};

use aktis_common::ids::NodeId;
use aktis_common::scheduling::{NodeView, PlacementRequest};

/// The nodes that were lost lately.
#[derive(Debug, Default)]
pub(super) struct LostNodes {
    memory: Duration,
    nodes: Vec<Lost>,
}

#[derive(Debug)]
struct Lost {
    node: NodeView,
    until: Instant,
}

impl LostNodes {
    /// Remembers for so long.
    pub(super) fn remembering(memory: Duration) -> Self {
        Self {
            memory,
            nodes: Vec::new(),
        }
    }

    /// A node was lost, `ago` before now.
    pub(super) fn add(&mut self, node: NodeView, ago: Duration, now: Instant) {
        self.found(node.id);
        self.forget_old(now);
        let left = self.memory.saturating_sub(ago);
        if !left.is_zero() {
            let until = now + left;
            self.nodes.push(Lost { node, until });
        }
    }

    /// The node is there.
    pub(super) fn found(&mut self, node: NodeId) {
        self.nodes.retain(|lost| lost.node.id != node);
    }

    /// Until when the request may wait for a node that is gone; `None` when none of them could serve it.
    pub(super) fn hope(&self, request: &PlacementRequest, now: Instant) -> Option<Instant> {
        self.nodes
            .iter()
            .filter(|lost| lost.until > now && request.may_run_like_on(&lost.node))
            .map(|lost| lost.until)
            .max()
    }

    /// The nodes that are remembered.
    pub(super) fn nodes(&self, now: Instant) -> impl Iterator<Item = &NodeView> {
        let lost = self.nodes.iter().filter(move |lost| lost.until > now);
        lost.map(|lost| &lost.node)
    }

    /// How long a node is remembered.
    pub(super) fn memory(&self) -> Duration {
        self.memory
    }

    fn forget_old(&mut self, now: Instant) {
        self.nodes.retain(|lost| lost.until > now);
    }
}
