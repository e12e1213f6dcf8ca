//! The nodes of the cluster as the gcs publishes them.

use aktis_common::ids::NodeId;
use aktis_common::scheduling::NodeView;
use aktis_proto::convert::node_view;
use aktis_proto::v1::NodeInfo;
use rustc_hash::FxHashMap;

/// The other nodes that are alive.
#[derive(Debug, Default)]
pub struct ClusterDirectory {
    nodes: FxHashMap<NodeId, NodeInfo>,
}

impl ClusterDirectory {
    /// A node that is known.
    pub fn get(&self, id: NodeId) -> Option<&NodeInfo> {
        self.nodes.get(&id)
    }

    /// Replaces everything that is known. Gives the nodes that are no longer there, and those that were not all the while.
    pub fn replace(&mut self, nodes: Vec<NodeInfo>, here: NodeId) -> Vec<NodeId> {
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
    pub fn insert(&mut self, id: NodeId, node: NodeInfo) {
        self.nodes.insert(id, node);
    }

    /// A node is gone. False if it was not known.
    pub fn remove(&mut self, id: NodeId) -> bool {
        self.nodes.remove(&id).is_some()
    }

    /// The other nodes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &NodeInfo)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// The other nodes as the placement policy sees them.
    pub fn views(&self) -> Vec<NodeView> {
        self.nodes
            .values()
            .filter_map(|node| node_view(node).ok())
            .collect()
    }
}
