//! How many workers each stage gets: a pure function of what they need and what the cluster has.

use aktis_common::resources::{CPU, MEMORY, Quantity, ResourceRequest};
use aktis_common::scheduling::{ClusterView, NodeView, PlacementRequest};

/// What a worker counts for whose memory nobody has said: its interpreter with the libraries that functions use, a batch on its way in,
/// and one on its way out. Where this is more than a processor's share of a node, not all of its processors get a worker.
const WORKER_MEMORY: Quantity = Quantity::from_whole(96 << 20);

/// What a stage needs.
#[derive(Debug, Clone, PartialEq)]
pub struct StageDemand {
    /// For each worker.
    pub resources: ResourceRequest,
    /// Fewest workers.
    pub min_workers: usize,
    /// Most workers as long as the cost is not known, if that was asked for.
    pub initial_workers: Option<usize>,
    /// Most workers, if that was asked for.
    pub max_workers: Option<usize>,
    /// Most workers that can have something to do, once that is known: what they do not need is for others.
    pub useful_workers: Option<usize>,
    /// Work for each row of the source, in any unit, if it is known.
    pub cost: Option<f64>,
    /// Whether it is over.
    pub is_done: bool,
}

impl StageDemand {
    /// Most workers on a cluster with so many processors.
    fn most(&self, cpus: usize) -> usize {
        let unlimited = if self.resources.is_empty() {
            // What needs nothing would otherwise grow without end.
            cpus.max(1)
        } else {
            usize::MAX
        };
        let most = self.max_workers.unwrap_or(unlimited);
        let most = most.min(self.useful_workers.unwrap_or(usize::MAX).max(1));
        match (self.cost, self.initial_workers) {
            (None, Some(initial)) => initial.max(self.min_workers).min(most),
            _ => most,
        }
    }

    /// Workers that it has before others get more than these.
    fn least(&self, cpus: usize) -> usize {
        self.min_workers.min(self.most(cpus))
    }

    /// What one worker is placed with. `counts_memory`: it takes memory although nobody has said how much.
    fn placement(&self, counts_memory: bool) -> PlacementRequest {
        let mut resources = self.resources.clone();
        let is_told = !resources.resources().get(MEMORY).is_zero();
        if counts_memory && !is_told && !resources.is_empty() {
            let with_memory = resources.resources().clone().with(MEMORY, WORKER_MEMORY);
            if let Ok(with_memory) = ResourceRequest::new(with_memory, resources.gpu_memory_bytes())
            {
                resources = with_memory;
            }
        }
        PlacementRequest {
            resources,
            ..PlacementRequest::default()
        }
    }
}

/// Whether all nodes say how much memory tasks may have.
fn is_memory_known(view: &ClusterView) -> bool {
    let total = |node: &NodeView| node.resources.total().get(MEMORY);
    view.nodes().iter().all(|node| !total(node).is_zero())
}

/// Workers for every stage: one each first, then up to the minima, then one by one to the stage that is the bottleneck,
/// as long as there is room: they are placed as the cluster would place them. Stages whose cost is not known count as
/// equal.
pub fn pool_sizes(stages: &[StageDemand], view: &ClusterView) -> Vec<usize> {
    let mut room = view.emptied();
    let cpus = room
        .nodes()
        .iter()
        .map(|node| node.resources.total().get(CPU).whole());
    let cpus = usize::try_from(cpus.sum::<i64>()).unwrap_or(0);
    let counts_memory = is_memory_known(view);
    let requests = stages.iter().map(|stage| stage.placement(counts_memory));
    let requests: Vec<PlacementRequest> = requests.collect();
    let most: Vec<usize> = stages.iter().map(|stage| stage.most(cpus)).collect();
    let mut counts = vec![0usize; stages.len()];
    let rounds = stages.iter().map(|stage| stage.min_workers).max();
    for round in 0..rounds.unwrap_or(0) {
        for (index, stage) in stages.iter().enumerate() {
            let wants = !stage.is_done && round < stage.least(cpus);
            // The first worker is owed even where there is no room now: it will wait for it.
            if wants && (room.book(&requests[index]).is_some() || round == 0) {
                counts[index] += 1;
            }
        }
    }
    let all_known = stages
        .iter()
        .all(|stage| stage.is_done || stage.cost.is_some());
    let cost = |stage: &StageDemand| {
        if all_known {
            stage.cost.unwrap_or(0.0)
        } else {
            1.0
        }
    };
    let mut is_full: Vec<bool> = (0..stages.len())
        .map(|index| stages[index].is_done || counts[index] >= most[index])
        .collect();
    loop {
        #[expect(clippy::cast_precision_loss, reason = "a handful of workers")]
        let slowness = |index: &usize| cost(&stages[*index]) / counts[*index].max(1) as f64;
        let candidates = (0..stages.len()).filter(|&index| !is_full[index]);
        let Some(next) = candidates.max_by(|a, b| slowness(a).total_cmp(&slowness(b))) else {
            return counts;
        };
        // More workers beside a slower stage that cannot grow would only wait.
        if room.book(&requests[next]).is_some() {
            counts[next] += 1;
            is_full[next] = counts[next] >= most[next];
        } else {
            is_full[next] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use aktis_common::ids::NodeId;
    use aktis_common::resources::{GPU, GpuDevice, NodeResources, ResourceSet};

    use super::*;

    fn resources(cpus: f64, gpus: f64) -> ResourceSet {
        ResourceSet::from_numbers([(CPU, cpus), (GPU, gpus)]).expect("are quantities")
    }

    fn node(id: u8, total: ResourceSet, gpus: Vec<GpuDevice>) -> NodeView {
        NodeView {
            id: NodeId::new([id; 16]),
            resources: NodeResources::new(total, gpus, [].into()),
        }
    }

    fn view(nodes: &[(f64, f64)]) -> ClusterView {
        let nodes = (1..).zip(nodes);
        let node = |(id, &(cpus, gpus))| node(id, resources(cpus, gpus), Vec::new());
        ClusterView::new(nodes.map(node).collect())
    }

    fn stage(cpus: f64, gpus: f64, min: usize, max: usize, cost: Option<f64>) -> StageDemand {
        StageDemand {
            resources: ResourceRequest::new(resources(cpus, gpus), 0).expect("makes sense"),
            min_workers: min,
            initial_workers: None,
            max_workers: Some(max),
            useful_workers: None,
            cost,
            is_done: false,
        }
    }

    #[test]
    fn one_stage_fills_the_machine() {
        assert_eq!(
            pool_sizes(
                &[stage(1.0, 0.0, 1, 100, None)],
                &view(&[(2.0, 0.0), (4.0, 0.0)])
            ),
            [6]
        );
    }

    #[test]
    fn pool_begins_with_its_first_size_and_grows_when_its_cost_is_known() {
        let mut pool = stage(1.0, 0.0, 1, 100, None);
        pool.initial_workers = Some(2);
        assert_eq!(
            pool_sizes(std::slice::from_ref(&pool), &view(&[(8.0, 0.0)])),
            [2]
        );
        pool.cost = Some(1.0);
        assert_eq!(pool_sizes(&[pool], &view(&[(8.0, 0.0)])), [8]);
    }

    #[test]
    fn bottleneck_gets_the_workers() {
        let stages = [
            stage(1.0, 0.0, 1, 100, Some(1.0)),
            stage(1.0, 0.0, 1, 100, Some(3.0)),
        ];
        assert_eq!(pool_sizes(&stages, &view(&[(8.0, 0.0)])), [2, 6]);
    }

    #[test]
    fn workers_are_as_many_as_have_memory() {
        let of = |cpus, memory_mib: i64| {
            let total = resources(cpus, 0.0).with(MEMORY, Quantity::from_whole(memory_mib << 20));
            ClusterView::new(vec![node(1, total, Vec::new())])
        };
        let untold = stage(1.0, 0.0, 1, 100, None);
        assert_eq!(
            pool_sizes(std::slice::from_ref(&untold), &of(8.0, 350)),
            [3]
        );
        assert_eq!(
            pool_sizes(std::slice::from_ref(&untold), &of(8.0, 8000)),
            [8]
        );
        // One is owed to each stage, whatever there is.
        let stages = [untold.clone(), untold.clone()];
        assert_eq!(pool_sizes(&stages, &of(8.0, 10)), [1, 1]);
        let mut told = untold;
        let asked = told.resources.resources().clone();
        let asked = asked.with(MEMORY, Quantity::from_whole(200 << 20));
        told.resources = ResourceRequest::new(asked, 0).expect("makes sense");
        assert_eq!(pool_sizes(&[told], &of(8.0, 1000)), [5]);
    }

    #[test]
    fn fractions_never_straddle_devices() {
        let stages = [stage(0.0, 0.6, 1, 100, None)];
        assert_eq!(pool_sizes(&stages, &view(&[(8.0, 3.0)])), [3]);
    }

    #[test]
    fn processors_and_devices_do_not_compete() {
        let stages = [stage(1.0, 0.0, 1, 100, None), stage(0.0, 0.5, 1, 4, None)];
        assert_eq!(pool_sizes(&stages, &view(&[(2.0, 2.0)])), [2, 4]);
    }

    #[test]
    fn finished_stage_leaves_its_room_to_others() {
        let mut stages = [stage(1.0, 0.0, 1, 100, None), stage(1.0, 0.0, 1, 100, None)];
        stages[0].is_done = true;
        assert_eq!(pool_sizes(&stages, &view(&[(4.0, 0.0)])), [0, 4]);
    }

    #[test]
    fn stage_leaves_what_it_has_no_work_for_to_others() {
        let mut stages = [stage(1.0, 0.0, 3, 100, None), stage(1.0, 0.0, 1, 100, None)];
        assert_eq!(pool_sizes(&stages, &view(&[(8.0, 0.0)])), [4, 4]);
        stages[0].useful_workers = Some(2);
        assert_eq!(pool_sizes(&stages, &view(&[(8.0, 0.0)])), [2, 6]);
        // Blocks may get lost yet, and be made again.
        stages[0].useful_workers = Some(0);
        assert_eq!(pool_sizes(&stages, &view(&[(8.0, 0.0)])), [1, 7]);
    }

    #[test]
    fn every_stage_gets_a_worker_even_without_room() {
        let stages = [stage(2.0, 0.0, 1, 1, None), stage(2.0, 0.0, 1, 1, None)];
        assert_eq!(pool_sizes(&stages, &view(&[(2.0, 0.0)])), [1, 1]);
    }

    /// What only some nodes have is counted there, and nowhere else.
    #[test]
    fn custom_resources_and_gpu_memory_bound_a_pool() {
        let licences = ResourceSet::of_cpus(8).with("licence", Quantity::from_whole(3));
        let gpus = vec![GpuDevice::new(0, 40 << 30), GpuDevice::new(1, 16 << 30)];
        let nodes = vec![
            node(1, licences, Vec::new()),
            node(2, ResourceSet::of_cpus(8), gpus),
        ];
        let view = ClusterView::new(nodes);
        let one = ResourceSet::new().with("licence", Quantity::ONE);
        let mut licensed = stage(0.0, 0.0, 1, 100, None);
        licensed.resources = ResourceRequest::new(one, 0).expect("makes sense");
        let mut model = stage(0.0, 0.0, 1, 100, None);
        model.resources = ResourceRequest::new(ResourceSet::new(), 12 << 30).expect("makes sense");
        assert_eq!(pool_sizes(&[licensed, model], &view), [3, 4]);
    }

    #[test]
    fn stage_that_needs_nothing_is_as_wide_as_the_cluster_has_processors() {
        let mut reading = stage(0.0, 0.0, 1, 1, None);
        reading.max_workers = None;
        let sizes = |nodes| pool_sizes(std::slice::from_ref(&reading), &view(nodes));
        assert_eq!(sizes(&[(2.0, 0.0)]), [2]);
        assert_eq!(sizes(&[(2.0, 0.0), (4.0, 0.0)]), [6]);
    }

    proptest! {
        #[test]
        fn sizes_stay_within_bounds_and_room(
            demands in prop::collection::vec((0u8..3, 0u8..3, 1usize..4, 0usize..5, prop::option::of(0.1f64..10.0)), 1..5),
            cpus in 1u8..16,
            gpus in 0u8..4,
        ) {
            let stages: Vec<StageDemand> = demands
                .iter()
                .map(|&(cpu, gpu, min, more, cost)| {
                    stage(f64::from(cpu), f64::from(gpu) / 2.0, min, min + more, cost)
                })
                // Without bounds, stages that need nothing would grow to their maximum: they have one here.
                .collect();
            let mut room = view(&[(f64::from(cpus), f64::from(gpus))]);
            let counts = pool_sizes(&stages, &room);
            for (stage, &count) in stages.iter().zip(&counts) {
                prop_assert!(count >= 1 && Some(count) <= stage.max_workers);
                for _ in 1..count {
                    // All but the first, which is owed, have room.
                    prop_assert!(room.book(&stage.placement(false)).is_some());
                }
            }
        }
    }
}
