//! Making the stages fit into the cluster.

use super::cut::StagePlan;
use crate::executor::core::sizing::{NodeCapacity, Placement};
use crate::plan::RESOURCE_UNIT;

/// A stage that no node can ever run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: each worker needs {needed} {resource}, but {there}")]
pub struct FitError {
    /// The stage.
    pub stage: String,
    /// What it asks for.
    pub resource: String,
    /// How much.
    pub needed: String,
    /// What there is.
    pub there: String,
}

/// The stages, changed as little as needed so that one worker of each has room at the same time:
///
/// 1. a stage without functions needs no processor of its own (it waits for the disk, or the others do);
/// 2. neighbours become one stage with the larger of both requests.
pub fn fit(mut stages: Vec<StagePlan>, nodes: &[NodeCapacity]) -> Result<Vec<StagePlan>, FitError> {
    for (index, stage) in stages.iter().enumerate().filter(|(_, stage)| stage.has_map) {
        check_feasible(stage, index == 0, nodes)?;
    }
    if all_fit(&stages, nodes) {
        return Ok(stages);
    }
    for stage in stages.iter_mut().filter(|stage| !stage.has_map) {
        stage.compute.resources.clear();
    }
    while stages.len() > 1 && !all_fit(&stages, nodes) {
        let Some(index) = mergeable(&stages, nodes) else {
            return Ok(stages);
        };
        let next = stages.remove(index + 1);
        let first = stages.remove(index);
        let names = (first.name(index == 0), next.name(false));
        tracing::warn!(
            "{} and {} run in the same workers: there is no room for both",
            names.0,
            names.1
        );
        stages.insert(index, first.merged(next));
    }
    Ok(stages)
}

/// The same for a cluster that has lost nodes lately. If a stage only fits on those, all are planned with: its workers wait for
/// them, or for others in their place. Gives the nodes that were planned with.
pub fn fit_with_lost(
    stages: Vec<StagePlan>,
    nodes: Vec<NodeCapacity>,
    lost: &[NodeCapacity],
) -> Result<(Vec<StagePlan>, Vec<NodeCapacity>), FitError> {
    let missing = match fit(stages.clone(), &nodes) {
        Ok(fitted) => return Ok((fitted, nodes)),
        Err(missing) => missing,
    };
    let all = [&nodes[..], lost].concat();
    match fit(stages, &all) {
        Ok(fitted) => Ok((fitted, all)),
        Err(_) => Err(missing),
    }
}

/// What a job that waits for the impossible plans with beside the nodes that it knows: for each stage a node that can take one
/// worker of it.
pub fn awaited_nodes(stages: &[StagePlan]) -> Vec<NodeCapacity> {
    let stages = stages.iter().filter(|stage| stage.has_map);
    let needs = stages.map(|stage| stage.compute.resources.clone());
    needs.map(|totals| NodeCapacity { totals }).collect()
}

fn all_fit(stages: &[StagePlan], nodes: &[NodeCapacity]) -> bool {
    let mut placement = Placement::new(nodes);
    stages
        .iter()
        .all(|stage| placement.place(&stage.compute.resources))
}

/// The first neighbours that fit on a node together. A limit between two stages keeps them apart.
fn mergeable(stages: &[StagePlan], nodes: &[NodeCapacity]) -> Option<usize> {
    (0..stages.len() - 1).find(|&index| {
        let merged = stages[index].clone().merged(stages[index + 1].clone());
        let has_room = Placement::new(nodes).place(&merged.compute.resources);
        let may_join = stages[index].row_limit.is_none() && !stages[index + 1].is_apart;
        may_join && has_room
    })
}

fn check_feasible(
    stage: &StagePlan,
    is_first: bool,
    nodes: &[NodeCapacity],
) -> Result<(), FitError> {
    if Placement::new(nodes).place(&stage.compute.resources) {
        return Ok(());
    }
    let most = |name: &str| {
        nodes
            .iter()
            .map(|node| node.totals.get(name).copied().unwrap_or(0))
            .max()
            .unwrap_or(0)
    };
    let missing = stage
        .compute
        .resources
        .iter()
        .find(|(name, amount)| **amount > most(name));
    let (resource, needed, there) = match missing {
        Some((name, amount)) => (
            name.clone(),
            whole(*amount),
            format!("no node has more than {}", whole(most(name))),
        ),
        None => {
            let all: Vec<String> = stage
                .compute
                .resources
                .iter()
                .map(|(name, amount)| format!("{} {name}", whole(*amount)))
                .collect();
            (
                String::new(),
                all.join(" and "),
                "no single node has all of it".to_owned(),
            )
        }
    };
    Err(FitError {
        stage: stage.name(is_first),
        resource,
        needed,
        there,
    })
}

fn whole(amount: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let number = amount as f64 / RESOURCE_UNIT as f64;
    number.to_string()
}
