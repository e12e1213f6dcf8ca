//! The problem that [`solve`](super::solve) is given, and its answer.

use super::solve::solve;
use crate::ids::NodeId;
use crate::resources::{NodeResources, ResourceRequest};

/// The nodes that are alive, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    nodes: Vec<NodeView>,
}

/// One node that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Which node.
    pub id: NodeId,
    /// What it has and what is free, as far as the viewer knows.
    pub resources: NodeResources,
}

impl ClusterView {
    /// A view of these nodes; their order does not matter.
    pub fn new(mut nodes: Vec<NodeView>) -> Self {
        nodes.sort_by_key(|node| node.id);
        Self { nodes }
    }

    /// The nodes, in order of their ids.
    pub fn nodes(&self) -> &[NodeView] {
        &self.nodes
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&NodeView> {
        self.position(id).ok().map(|at| &self.nodes[at])
    }

    /// The same, to book what was just placed before the next request is solved.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut NodeView> {
        self.position(id).ok().map(|at| &mut self.nodes[at])
    }

    /// Adds a node, or what is new about it.
    pub fn set(&mut self, node: NodeView) {
        match self.position(node.id) {
            Ok(at) => self.nodes[at] = node,
            Err(at) => self.nodes.insert(at, node),
        }
    }

    /// Takes a node out.
    pub fn remove(&mut self, id: NodeId) -> Option<NodeView> {
        let at = self.position(id).ok()?;
        Some(self.nodes.remove(at))
    }

    /// The same nodes with everything free: what there is room for in all.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let emptied = |node: &NodeView| NodeView {
            id: node.id,
            resources: node.resources.emptied(),
        };
        Self {
            nodes: self.nodes.iter().map(emptied).collect(),
        }
    }

    /// Places the request and takes what it needs, so that the next one finds the rest. `None`: there is no room for it now.
    pub fn book(&mut self, request: &PlacementRequest) -> Option<NodeId> {
        let Placement::Node(id) = solve(self, request) else {
            return None;
        };
        // SCH-1 (fits-now).
        let node = self.node_mut(id)?;
        node.resources.allocate(&request.resources).map(|_| id)
    }

    fn position(&self, id: NodeId) -> Result<usize, usize> {
        self.nodes.binary_search_by_key(&id, |node| node.id)
    }
}

impl ClusterView {
    /// Names of the resources that the request waits for, on the node that comes closest to having room for it.
    pub fn short_of(&self, request: &PlacementRequest) -> Vec<String> {
        let closest = self.closest(request);
        closest.map_or_else(Vec::new, |view| view.resources.short_of(&request.resources))
    }

    /// The node that comes closest to having room for the request, of those that could have it.
    pub fn closest(&self, request: &PlacementRequest) -> Option<&NodeView> {
        let wanted = &request.resources;
        let is_bound_elsewhere = |view: &NodeView| match request.strategy {
            Strategy::NodeAffinity {
                node,
                is_soft: false,
            } => node != view.id,
            _ => false,
        };
        let candidates = self.nodes.iter().filter(|view| !is_bound_elsewhere(view));
        let able = candidates.filter(|view| view.resources.could_ever_fit(wanted));
        able.min_by_key(|view| view.resources.short_of(wanted).len())
    }
}

/// How a node is chosen among those with room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Fill nodes up to half, then spread; near its data and its caller.
    #[default]
    Default,
    /// The least used node.
    Spread,
    /// This node.
    NodeAffinity {
        /// Which node.
        node: NodeId,
        /// Another node may be taken when this one is gone or full.
        is_soft: bool,
    },
}

/// One thing to place.
#[derive(Debug, Clone, Default)]
pub struct PlacementRequest {
    /// What it needs.
    pub resources: ResourceRequest,
    /// How to choose.
    pub strategy: Strategy,
    /// Node of the caller, preferred when it is as good as any.
    pub local_node: Option<NodeId>,
    /// Bytes of arguments that lie on a node already.
    pub locality: Vec<(NodeId, u64)>,
    /// Decides between equals; callers count it up.
    pub seed: u64,
}

impl PlacementRequest {
    /// Whether a node such as this one, that is gone, could serve the request if it came back or another took its place.
    ///
    /// A request that is bound to a node waits for no other; and the node itself is gone, which its owner wanted to hear of
    /// (Ray: hard affinity to a node that is dead fails).
    pub fn may_run_like_on(&self, node: &NodeView) -> bool {
        let is_bound = matches!(self.strategy, Strategy::NodeAffinity { is_soft: false, .. });
        !is_bound && node.resources.could_ever_fit(&self.resources)
    }
}

/// Where the request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// There, now.
    Node(NodeId),
    /// Nowhere now, but a node could serve it later.
    Wait {
        /// What is needed and what is free, for people.
        reason: String,
    },
    /// No node of the cluster could ever serve it.
    Infeasible {
        /// What is missing, for people: `needs {"GPU": 2}, but the largest node has {"GPU": 1}`.
        missing: String,
    },
}
