//! The placement policy.
//!
//! The default is the hybrid of Ray: a node counts as equally good as long as its most used resource is below half
//! (so work packs), and by its utilisation above (so work spreads). Among the best fifth of the nodes the seed decides,
//! so that many callers with the same view do not all take the same node.

use std::cmp::Reverse;

use super::explain;
use super::view::{ClusterView, NodeView, Placement, PlacementRequest, Strategy};
use crate::ids::NodeId;
use crate::resources::Quantity;

/// Below this utilisation nodes count as equally empty.
const PACK_BELOW: Quantity = Quantity::from_units(Quantity::SCALE / 2);
/// One in this many of the nodes with room are candidates of the default strategy.
const TOP_NODES_ONE_IN: usize = 5;
/// Arguments of at least this many bytes draw the work to their node.
const LOCALITY_BYTES: u64 = 1 << 20;

/// Chooses the node for one request.
pub fn solve(view: &ClusterView, request: &PlacementRequest) -> Placement {
    // `SCH-3`: what no node could serve if it were empty does not wait.
    if let Some(missing) = explain::missing(view.nodes(), request) {
        return Placement::Infeasible { missing };
    }
    let with_room: Vec<&NodeView> = view
        .nodes()
        .iter()
        .filter(|node| node.resources.fits(&request.resources))
        .collect();
    let chosen = match request.strategy {
        Strategy::NodeAffinity { node, is_soft } => {
            let preferred = with_room.iter().find(|candidate| candidate.id == node);
            match preferred {
                Some(candidate) => Some(candidate.id),
                None if is_soft => pick_hybrid(&with_room, request),
                None => None,
            }
        }
        Strategy::Spread => pick_spread(&with_room, request.seed),
        Strategy::Default => {
            pick_near_data(&with_room, request).or_else(|| pick_hybrid(&with_room, request))
        }
    };
    match chosen {
        Some(id) => Placement::Node(id),
        None => Placement::Wait {
            reason: explain::waiting(view.nodes(), &request.resources),
        },
    }
}

/// The node with most of the arguments, when those are worth moving to.
fn pick_near_data(nodes: &[&NodeView], request: &PlacementRequest) -> Option<NodeId> {
    let bytes_on = |id: NodeId| -> u64 {
        request
            .locality
            .iter()
            .filter(|(node, _)| *node == id)
            .map(|(_, bytes)| *bytes)
            .sum()
    };
    nodes
        .iter()
        .map(|node| (bytes_on(node.id), Reverse(node.id)))
        .filter(|(bytes, _)| *bytes >= LOCALITY_BYTES)
        .max()
        .map(|(_, Reverse(id))| id)
}

/// Pack below half, then spread; GPU nodes last for work without GPUs; the caller's node first among equals.
fn pick_hybrid(nodes: &[&NodeView], request: &PlacementRequest) -> Option<NodeId> {
    let wants_gpu = request.resources.wants_gpu();
    let mut ranked: Vec<(bool, Quantity, NodeId)> = nodes
        .iter()
        .map(|node| {
            let used = node.resources.utilisation();
            let score = if used < PACK_BELOW {
                Quantity::ZERO
            } else {
                used
            };
            (node.resources.has_gpus() && !wants_gpu, score, node.id)
        })
        .collect();
    ranked.sort_unstable();
    let (best_wastes_gpu, best_score, _) = *ranked.first()?;
    let is_as_good = |&&(wastes_gpu, score, id): &&(bool, Quantity, NodeId)| {
        Some(id) == request.local_node && wastes_gpu == best_wastes_gpu && score == best_score
    };
    if let Some((_, _, id)) = ranked.iter().find(is_as_good) {
        return Some(*id);
    }
    let top = ranked
        .iter()
        .take_while(|(wastes_gpu, ..)| *wastes_gpu == best_wastes_gpu)
        .count();
    Some(ranked[pick(request.seed, top.div_ceil(TOP_NODES_ONE_IN))].2)
}

/// The least used node; the seed decides between equals.
fn pick_spread(nodes: &[&NodeView], seed: u64) -> Option<NodeId> {
    let least = nodes
        .iter()
        .map(|node| node.resources.utilisation())
        .min()?;
    let equals: Vec<NodeId> = nodes
        .iter()
        .filter(|node| node.resources.utilisation() == least)
        .map(|node| node.id)
        .collect();
    Some(equals[pick(seed, equals.len())])
}

/// A position below `len`, spread evenly over consecutive seeds. There is no other chance here (`SCH-2`).
fn pick(seed: u64, len: usize) -> usize {
    usize::try_from(seed % len.max(1) as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests;
