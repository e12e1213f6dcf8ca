//! Making the stages fit into the cluster.

use std::fmt;

use aktis_common::ids::NodeId;
use aktis_common::resources::{
    GPU, GpuDevice, NodeResources, Quantity, ResourceRequest, format_bytes,
};
use aktis_common::scheduling::{ClusterView, NodeView, PlacementRequest};

use super::edge::Edge;
use super::job::{JobPlan, StagePlan};

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
pub fn fit(mut job: JobPlan, view: &ClusterView) -> Result<JobPlan, FitError> {
    for stage in job.stages.iter().filter(|stage| stage.has_map) {
        check_feasible(stage, view)?;
    }
    if all_fit(&job.stages, view) {
        return Ok(job);
    }
    for stage in job.stages.iter_mut().filter(|stage| !stage.has_map) {
        stage.compute.resources = ResourceRequest::default();
    }
    while !all_fit(&job.stages, view) {
        let Some((edge, merged)) = mergeable(&job, view) else {
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
    view: ClusterView,
    lost: &[NodeView],
) -> Result<(JobPlan, ClusterView), FitError> {
    let missing = match fit(job.clone(), &view) {
        Ok(fitted) => return Ok((fitted, view)),
        Err(missing) => missing,
    };
    let mut all = view;
    lost.iter().for_each(|node| all.set(node.clone()));
    match fit(job, &all) {
        Ok(fitted) => Ok((fitted, all)),
        Err(_) => Err(missing),
    }
}

/// What a job that waits for the impossible plans with beside the nodes that it knows: for each stage a node that can take one
/// worker of it.
pub fn awaited_nodes(stages: &[StagePlan]) -> Vec<NodeView> {
    let stages = stages.iter().filter(|stage| stage.has_map);
    let pools = stages.flat_map(|stage| stage.compute.pools());
    pools.map(|pool| awaited(&pool.resources)).collect()
}

fn awaited(request: &ResourceRequest) -> NodeView {
    let bytes = request.gpu_memory_bytes();
    let device = (bytes > 0).then(|| GpuDevice::new(0, bytes));
    let mut total = request.resources().clone();
    if request.wants_gpu() {
        let count = i64::try_from(request.gpu_count()).unwrap_or(i64::MAX);
        total.set(GPU, Quantity::from_whole(count));
    }
    NodeView {
        id: NodeId::random(),
        resources: NodeResources::new(total, device.into_iter().collect(), [].into()),
    }
}

fn all_fit(stages: &[StagePlan], view: &ClusterView) -> bool {
    let mut room = view.emptied();
    stages.iter().all(|stage| {
        let pools = stage.compute.pools();
        pools
            .iter()
            .any(|pool| has_room(&mut room, &pool.resources))
    })
}

/// Takes the room of one worker.
fn has_room(room: &mut ClusterView, request: &ResourceRequest) -> bool {
    let request = PlacementRequest {
        resources: request.clone(),
        ..PlacementRequest::default()
    };
    room.book(&request).is_some()
}

/// The first edge whose ends fit on a node together, and what they are as one stage.
fn mergeable(job: &JobPlan, view: &ClusterView) -> Option<(Edge, StagePlan)> {
    job.edges.iter().find_map(|&edge| {
        let merged = job.merged(edge)?;
        let fits = has_room(&mut view.emptied(), &merged.compute.resources);
        fits.then_some((edge, merged))
    })
}

/// One kind of its workers is enough: the others are waited for meanwhile.
fn check_feasible(stage: &StagePlan, view: &ClusterView) -> Result<(), FitError> {
    let shortages = stage
        .compute
        .pools()
        .into_iter()
        .map(|pool| shortage(&pool.resources, view));
    let shortages: Vec<Option<Shortage>> = shortages.collect();
    let name = stage.name();
    if shortages.iter().any(Option::is_none) {
        for shortage in shortages.iter().flatten() {
            tracing::warn!("{name}: workers of one kind wait, others do the work: {shortage}");
        }
        return Ok(());
    }
    let first = shortages.into_iter().flatten().next();
    first.map_or(Ok(()), |shortage| Err(shortage.of(name)))
}

/// Why no node can ever take a worker.
#[derive(Debug)]
pub(crate) struct Shortage {
    resource: String,
    needed: String,
    there: String,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resource,
            needed,
            there,
        } = self;
        write!(f, "each needs {needed} {resource}, but {there}")
    }
}

impl Shortage {
    fn of(self, stage: String) -> FitError {
        FitError {
            stage,
            resource: self.resource,
            needed: self.needed,
            there: self.there,
        }
    }
}

/// Why no node can ever take a worker with these resources; `None`: one can.
pub(crate) fn shortage(request: &ResourceRequest, view: &ClusterView) -> Option<Shortage> {
    let nodes = || view.nodes().iter().map(|node| &node.resources);
    if nodes().any(|node| node.could_ever_fit(request)) {
        return None;
    }
    let most = |name: &str| {
        let totals = nodes().map(|node| node.total().get(name));
        totals.max().unwrap_or_default()
    };
    let most_gpu_bytes = nodes()
        .flat_map(|node| node.gpus())
        .map(|gpu| gpu.memory_total_bytes)
        .max();
    let mut wanted = request.resources().iter();
    let missing = wanted.find(|(name, amount)| *amount > most(name));
    let (resource, needed, there) = match missing {
        Some((name, amount)) => (
            name.to_owned(),
            whole(amount),
            format!("no node has more than {}", whole(most(name))),
        ),
        None if request.gpu_memory_bytes() > most_gpu_bytes.unwrap_or(0) => (
            "of GPU memory".to_owned(),
            format_bytes(request.gpu_memory_bytes()),
            format!(
                "no GPU has more than {}",
                format_bytes(most_gpu_bytes.unwrap_or(0))
            ),
        ),
        None => {
            let wanted = request.resources().iter();
            let all: Vec<String> = wanted
                .map(|(name, amount)| format!("{} {name}", whole(amount)))
                .collect();
            (
                String::new(),
                all.join(" and "),
                "no single node has all of it".to_owned(),
            )
        }
    };
    Some(Shortage {
        resource,
        needed,
        there,
    })
}

fn whole(amount: Quantity) -> String {
    amount.as_f64().to_string()
}
