//! The nodes of the cluster as the gcs publishes them.

use aktis_common::ids::NodeId;
use aktis_common::scheduling::NodeView;
use aktis_proto::convert::node_view;
use aktis_proto::v1::NodeInfo;
use rustc_hash::FxHashMap;

/// The other nodes that are alive.
#[derive(Debug, Default)]
pub(super) struct ClusterDirectory {
    nodes: FxHashMap<NodeId, NodeInfo>,
}

impl ClusterDirectory {
    /// Whether the node that is known was declared dead since, and came back before this node heard of it.
    pub(super) fn was_given_up(&self, id: NodeId, given_up_generation: u64) -> bool {
        let known = self.nodes.get(&id);
        given_up_generation != 0
            && known.is_some_and(|known| known.generation <= given_up_generation)
    }

    /// Replaces everything that is known. Gives the nodes that are no longer there, and those that were not all the while.
    pub(super) fn replace(&mut self, nodes: Vec<NodeInfo>, here: NodeId) -> Vec<NodeId> {
        let alive: FxHashMap<NodeId, NodeInfo> = nodes
            .into_iter()
            .filter(|node| node.is_alive)
            .filter_map(|node| Some((NodeId::from_bytes(&node.node_id).ok()?, node)))
            .filter(|(id, _)| *id != here)
            .collect();
        let is_gone = |id: &NodeId| {
            let there = alive.get(id);
            there.is_none_or(|node| self.was_given_up(*id, node.given_up_generation))
        };
        let gone = self.nodes.keys().filter(|id| is_gone(id)).copied();
        let gone = gone.collect();
        self.nodes = alive;
        gone
    }

    /// News of a node.
    pub(super) fn insert(&mut self, id: NodeId, node: NodeInfo) {
        self.nodes.insert(id, node);
    }

    /// A node is gone.
    pub(super) fn remove(&mut self, id: NodeId) {
        self.nodes.remove(&id);
    }

    /// The other nodes, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &NodeInfo)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// The other nodes as the placement policy sees them.
    pub(super) fn views(&self) -> Vec<NodeView> {
        self.nodes
            .values()
            .filter_map(|node| node_view(node).ok())
            .collect()
    }
}
