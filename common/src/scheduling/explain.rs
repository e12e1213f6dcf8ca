//! Texts that say why a request waits or can never be served.

use std::collections::BTreeMap;

use super::view::{NodeView, PlacementRequest, Strategy};
use crate::resources::{GPU, Quantity, ResourceRequest, ResourceSet, format_bytes};

/// Why no node of the cluster could serve the request, or `None` when one could if it were empty.
pub(super) fn missing(nodes: &[NodeView], request: &PlacementRequest) -> Option<String> {
    let wanted = &request.resources;
    if let Strategy::NodeAffinity {
        node,
        is_soft: false,
    } = request.strategy
    {
        let Some(view) = nodes.iter().find(|view| view.id == node) else {
            return Some(format!("needs node {node}, but no such node is alive"));
        };
        let has = view.resources.total();
        return (!view.resources.could_ever_fit(wanted))
            .then(|| format!("needs {wanted}, but node {node} has {has}"));
    }
    if nodes
        .iter()
        .any(|view| view.resources.could_ever_fit(wanted))
    {
        return None;
    }
    if nodes.is_empty() {
        return Some(format!("needs {wanted}, but the cluster has no nodes"));
    }
    Some(missing_resource(nodes, wanted))
}

fn missing_resource(nodes: &[NodeView], wanted: &ResourceRequest) -> String {
    let totals: Vec<ResourceSet> = nodes.iter().map(|view| view.resources.total()).collect();
    let names: Vec<&str> = wanted.resources().iter().map(|(name, _)| name).collect();
    let largest: ResourceSet = names
        .iter()
        .map(|name| {
            (
                *name,
                totals
                    .iter()
                    .map(|total| total.get(name))
                    .max()
                    .unwrap_or_default(),
            )
        })
        .collect();
    let short = largest.short_of(wanted.resources());
    if !short.is_empty() {
        let needs = wanted.resources().only(&short);
        return format!(
            "needs {needs}, but the largest node has {}",
            spelled(&largest, &short)
        );
    }
    let device_bytes = || nodes.iter().flat_map(|view| view.resources.gpus());
    let largest_gpu = device_bytes().map(|gpu| gpu.memory_total_bytes).max();
    if wanted.gpu_memory_bytes() > largest_gpu.unwrap_or(0) {
        let needs = format_bytes(wanted.gpu_memory_bytes());
        return match largest_gpu {
            None => format!("needs {needs} of GPU memory, but the cluster has no GPU"),
            Some(0) => {
                format!("needs {needs} of GPU memory, but the GPUs are logical and have none")
            }
            Some(most) => {
                format!(
                    "needs {needs} of GPU memory, but the largest GPU has {}",
                    format_bytes(most)
                )
            }
        };
    }
    let mut shapes: BTreeMap<String, usize> = BTreeMap::new();
    for total in &totals {
        *shapes.entry(spelled(total, &names)).or_default() += 1;
    }
    let shapes: Vec<String> = shapes
        .into_iter()
        .map(|(shape, n)| format!("{n} x {shape}"))
        .collect();
    format!(
        "needs {wanted} on one node, but the nodes are {}",
        shapes.join(", ")
    )
}

/// Why the request waits: what is free on the node that comes closest.
pub(super) fn waiting(nodes: &[NodeView], wanted: &ResourceRequest) -> String {
    let could = nodes
        .iter()
        .filter(|view| view.resources.could_ever_fit(wanted));
    let Some(closest) = could.min_by_key(|view| (view.resources.short_of(wanted).len(), view.id))
    else {
        return format!("needs {wanted}; every node that has it is busy");
    };
    let short = closest.resources.short_of(wanted);
    let names: Vec<&str> = short.iter().map(String::as_str).collect();
    let free = spelled(&closest.resources.available(), &names);
    let split =
        closest.resources.available().get(GPU) >= wanted.resources().get(GPU).max(Quantity::ONE);
    let hint = if names.contains(&GPU) && split {
        " split over several GPUs"
    } else {
        ""
    };
    format!("needs {wanted}; free on the best node: {free}{hint}")
}

/// Like the `Display` of a set, but with zeros for the names it lacks.
fn spelled(set: &ResourceSet, names: &[&str]) -> String {
    let parts: Vec<String> = names
        .iter()
        .map(|name| {
            let part = set.only(&[name]);
            if part.is_empty() {
                format!("\"{name}\": 0")
            } else {
                part.to_string().trim_matches(['{', '}']).to_owned()
            }
        })
        .collect();
    format!("{{{}}}", parts.join(", "))
}
