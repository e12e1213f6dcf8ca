//! Making the stages fit into the cluster.

use super::job::{Edge, JobPlan, StagePlan};
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
pub fn fit(mut job: JobPlan, nodes: &[NodeCapacity]) -> Result<JobPlan, FitError> {
    for stage in job.stages.iter().filter(|stage| stage.has_map) {
        check_feasible(stage, nodes)?;
    }
    if all_fit(&job.stages, nodes) {
        return Ok(job);
    }
    for stage in job.stages.iter_mut().filter(|stage| !stage.has_map) {
        stage.compute.resources.clear();
    }
    while !all_fit(&job.stages, nodes) {
        let Some((edge, merged)) = mergeable(&job, nodes) else {
            return Ok(job);
        };
        tracing::warn!(
            "{} and {} run in the same workers: there is no room for both",
            job.stages[edge.from].name(),
            job.stages[edge.to].name()
        );
        job.merge(edge, merged);
    }
    Ok(job)
}

/// The same for a cluster that has lost nodes lately. If a stage only fits on those, all are planned with: its workers wait for
/// them, or for others in their place. Gives the nodes that were planned with.
pub fn fit_with_lost(
    job: JobPlan,
    nodes: Vec<NodeCapacity>,
    lost: &[NodeCapacity],
) -> Result<(JobPlan, Vec<NodeCapacity>), FitError> {
    let missing = match fit(job.clone(), &nodes) {
        Ok(fitted) => return Ok((fitted, nodes)),
        Err(missing) => missing,
    };
    let all = [&nodes[..], lost].concat();
    match fit(job, &all) {
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

/// The first edge whose ends fit on a node together, and what they are as one stage.
fn mergeable(job: &JobPlan, nodes: &[NodeCapacity]) -> Option<(Edge, StagePlan)> {
    job.edges.iter().find_map(|&edge| {
        let merged = job.merged(edge)?;
        let has_room = Placement::new(nodes).place(&merged.compute.resources);
        has_room.then_some((edge, merged))
    })
}

fn check_feasible(stage: &StagePlan, nodes: &[NodeCapacity]) -> Result<(), FitError> {
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
        stage: stage.name(),
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
