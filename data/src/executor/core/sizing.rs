//! How many workers each stage gets: a pure function of what they need and what the cluster has.

use aktis_common::resources::{CPU, MEMORY, Quantity, ResourceRequest};
use aktis_common::scheduling::{ClusterView, NodeView, PlacementRequest};

/// What a worker counts for whose memory nobody has said: its interpreter with the libraries that functions use, a batch on its way in,
/// and one on its way out. Where this is more than a processor's share of a node, not all of its processors get a worker.
pub(super) const WORKER_MEMORY: Quantity = Quantity::from_whole(96 << 20);

/// What a stage needs.
#[derive(Debug, Clone, PartialEq)]
pub struct StageDemand {
    /// Its workers, by their kinds: all of them take from the same inputs.
    pub pools: Vec<PoolDemand>,
    /// Most workers that can have something to do, once that is known: what they do not need is for others.
    pub useful_workers: Option<usize>,
    /// Whether it is over.
    pub is_done: bool,
}

/// What workers of one kind need.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolDemand {
    /// For each worker.
    pub resources: ResourceRequest,
    /// Fewest workers.
    pub min_workers: usize,
    /// Most workers as long as the cost is not known, if that was asked for.
    pub initial_workers: Option<usize>,
    /// Most workers, if that was asked for.
    pub max_workers: Option<usize>,
    /// Work of one of them for each row of the source, in any unit, if it is known.
    pub cost: Option<f64>,
}

impl StageDemand {
    /// Most workers of each kind on a cluster with so many processors. What is useful is not shared out among kinds: who is placed here
    /// may have to wait there.
    fn most(&self, cpus: usize) -> Vec<usize> {
        let useful = self.useful_workers.unwrap_or(usize::MAX).max(1);
        let pools = self.pools.iter();
        pools.map(|pool| pool.most(cpus, useful)).collect()
    }

    /// Work for each row of the source with so many workers of each kind, of which those that have not shown theirs count as those that
    /// have; `None`: none has.
    fn slowness(&self, counts: &[usize]) -> Option<f64> {
        let known: Vec<f64> = self.pools.iter().filter_map(|pool| pool.cost).collect();
        let least = known.iter().copied().reduce(f64::min)?;
        if self.pools.len() == 1 {
            return Some(least / count(counts[0].max(1)));
        }
        let mean = known.iter().sum::<f64>() / count(known.len());
        let rates = self.pools.iter().zip(counts).map(|(pool, &workers)| {
            let cost = pool.cost.unwrap_or(mean);
            count(workers) / cost.max(f64::MIN_POSITIVE)
        });
        let rate: f64 = rates.sum();
        Some(if rate > 0.0 { 1.0 / rate } else { least })
    }

    /// Of the kinds that may have more workers, the one that does most; the first one of those that nobody knows.
    fn next_kind(&self, is_full: &[bool]) -> Option<usize> {
        let kinds = (0..self.pools.len()).filter(|&kind| !is_full[kind]);
        let cost = |kind: &usize| self.pools[*kind].cost.unwrap_or(0.0);
        kinds.min_by(|one, other| cost(one).total_cmp(&cost(other)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a handful of workers")]
fn count(workers: usize) -> f64 {
    workers as f64
}

impl PoolDemand {
    /// Most workers on a cluster with so many processors, of which so many are useful.
    fn most(&self, cpus: usize, useful: usize) -> usize {
        let unlimited = if self.resources.is_empty() {
            // What needs nothing would otherwise grow without end.
            cpus.max(1)
        } else {
            usize::MAX
        };
        let most = self.max_workers.unwrap_or(unlimited).min(useful);
        match (self.cost, self.initial_workers) {
            (None, Some(initial)) => initial.max(self.min_workers).min(most),
            _ => most,
        }
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
pub(super) fn is_memory_known(view: &ClusterView) -> bool {
    let total = |node: &NodeView| node.resources.total().get(MEMORY);
    view.nodes().iter().all(|node| !total(node).is_zero())
}

/// The workers that are being placed.
struct Placing<'a> {
    stages: &'a [StageDemand],
    requests: Vec<Vec<PlacementRequest>>,
    most: Vec<Vec<usize>>,
    counts: Vec<Vec<usize>>,
    room: ClusterView,
}

impl<'a> Placing<'a> {
    fn new(stages: &'a [StageDemand], view: &ClusterView) -> Self {
        let room = view.emptied();
        let cpus = room.nodes().iter();
        let cpus = cpus.map(|node| node.resources.total().get(CPU).whole());
        let cpus = usize::try_from(cpus.sum::<i64>()).unwrap_or(0);
        let counts_memory = is_memory_known(view);
        let requests = stages.iter().map(|stage| {
            let pools = stage.pools.iter();
            pools.map(|pool| pool.placement(counts_memory)).collect()
        });
        Self {
            requests: requests.collect(),
            most: stages.iter().map(|stage| stage.most(cpus)).collect(),
            counts: stages
                .iter()
                .map(|stage| vec![0; stage.pools.len()])
                .collect(),
            stages,
            room,
        }
    }

    /// One more worker of this kind, if there is room.
    fn place(&mut self, stage: usize, kind: usize) -> bool {
        let has_room = self.room.book(&self.requests[stage][kind]).is_some();
        self.counts[stage][kind] += usize::from(has_room);
        has_room
    }

    /// One worker for each stage, of the first kind that there is room for.
    fn place_first(&mut self) {
        for (index, stage) in self.stages.iter().enumerate() {
            let mut kinds = 0..stage.pools.len();
            if stage.is_done || kinds.any(|kind| self.place(index, kind)) {
                continue;
            }
            // The first worker is owed even where there is no room now: it will wait for it.
            let nodes = self.room.nodes();
            let can_be = |pool: &PoolDemand| {
                let mut nodes = nodes.iter().map(|node| &node.resources);
                nodes.any(|node| node.could_ever_fit(&pool.resources))
            };
            let owed = stage.pools.iter().position(can_be).unwrap_or(0);
            self.counts[index][owed] += 1;
        }
    }

    /// The rest of the minima, in turn.
    fn place_minima(&mut self) {
        let pools = self.stages.iter().flat_map(|stage| &stage.pools);
        let rounds = pools.map(|pool| pool.min_workers).max().unwrap_or(0);
        for round in 0..rounds {
            for (index, stage) in self.stages.iter().enumerate() {
                for (kind, pool) in stage.pools.iter().enumerate() {
                    let least = pool.min_workers.min(self.most[index][kind]);
                    let has_it = self.counts[index][kind] > round;
                    if !stage.is_done && round < least && !has_it {
                        self.place(index, kind);
                    }
                }
            }
        }
    }

    /// One by one to the stage that is the bottleneck, as long as there is room.
    fn place_more(&mut self) {
        let has_shown = |stage: &StageDemand| stage.pools.iter().any(|pool| pool.cost.is_some());
        let mut stages = self.stages.iter();
        let all_known = stages.all(|stage| stage.is_done || has_shown(stage));
        let mut is_full: Vec<Vec<bool>> = (0..self.stages.len())
            .map(|index| {
                let kinds = self.counts[index].iter().zip(&self.most[index]);
                let is_done = self.stages[index].is_done;
                kinds
                    .map(|(count, most)| is_done || count >= most)
                    .collect()
            })
            .collect();
        loop {
            let slowness = |index: &usize| {
                let (stage, counts) = (&self.stages[*index], &self.counts[*index]);
                let known = stage.slowness(counts).filter(|_| all_known);
                known.unwrap_or_else(|| 1.0 / count(counts.iter().sum::<usize>().max(1)))
            };
            let can_grow = |index: &usize| is_full[*index].contains(&false);
            let candidates = (0..self.stages.len()).filter(can_grow);
            let Some(next) = candidates.max_by(|a, b| slowness(a).total_cmp(&slowness(b))) else {
                return;
            };
            let Some(kind) = self.stages[next].next_kind(&is_full[next]) else {
                return;
            };
            // More workers beside a slower stage that cannot grow would only wait.
            let is_placed = self.place(next, kind);
            is_full[next][kind] = !is_placed || self.counts[next][kind] >= self.most[next][kind];
        }
    }
}

/// Workers for every stage, of each of its kinds: one of any kind for each stage first, then up to the minima, then one by one to the
/// stage that is the bottleneck, as long as there is room: they are placed as the cluster would place them. Stages whose cost is not
/// known count as equal.
pub fn pool_sizes(stages: &[StageDemand], view: &ClusterView) -> Vec<Vec<usize>> {
    let mut placing = Placing::new(stages, view);
    placing.place_first();
    placing.place_minima();
    placing.place_more();
    placing.counts
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
            pools: vec![pool(cpus, gpus, min, max, cost)],
            useful_workers: None,
            is_done: false,
        }
    }

    fn pool(cpus: f64, gpus: f64, min: usize, max: usize, cost: Option<f64>) -> PoolDemand {
        PoolDemand {
            resources: ResourceRequest::new(resources(cpus, gpus), 0).expect("makes sense"),
            min_workers: min,
            initial_workers: None,
            max_workers: Some(max),
            cost,
        }
    }

    /// Of stages whose workers are all alike.
    fn sizes_of(stages: &[StageDemand], view: &ClusterView) -> Vec<usize> {
        pool_sizes(stages, view).concat()
    }

    /// A stage with a fast kind on GPUs, and a slow one on processors.
    fn mixed(fast: Option<f64>, slow: Option<f64>) -> StageDemand {
        StageDemand {
            pools: vec![pool(0.0, 1.0, 1, 2, fast), pool(2.0, 0.0, 1, 8, slow)],
            useful_workers: None,
            is_done: false,
        }
    }

    #[test]
    fn kinds_that_do_not_compete_get_all_that_they_may_have() {
        let view = view(&[(8.0, 2.0)]);
        assert_eq!(pool_sizes(&[mixed(None, None)], &view), [[2, 4]]);
        assert_eq!(pool_sizes(&[mixed(Some(1.0), None)], &view), [[2, 4]]);
    }

    #[test]
    fn kind_that_no_node_can_take_gets_nothing_while_another_works() {
        let stages = [mixed(None, None)];
        assert_eq!(pool_sizes(&stages, &view(&[(8.0, 0.0)])), [[0, 4]]);
        assert_eq!(pool_sizes(&stages, &view(&[(1.0, 1.0)])), [[1, 0]]);
        // If there is none for any, one is waited for that could be.
        let mut reading = stage(8.0, 0.0, 1, 1, None);
        assert_eq!(
            pool_sizes(&[reading.clone(), stages[0].clone()], &view(&[(8.0, 0.0)])),
            [vec![1], vec![0, 1]]
        );
        reading.is_done = true;
        assert_eq!(
            pool_sizes(&[reading, stages[0].clone()], &view(&[(8.0, 0.0)])),
            [vec![0], vec![0, 4]]
        );
    }

    /// The first worker of every stage comes before the second kind of any.
    #[test]
    fn second_kind_takes_no_room_from_the_first_worker_of_another_stage() {
        let stages = [mixed(None, None), stage(1.0, 0.0, 1, 1, None)];
        assert_eq!(
            pool_sizes(&stages, &view(&[(2.0, 1.0)])),
            [vec![1, 0], vec![1]]
        );
    }

    /// What both kinds do together is what the stage does.
    #[test]
    fn bottleneck_is_found_by_what_all_kinds_do() {
        let other = stage(1.0, 0.0, 1, 100, Some(1.0));
        // Two GPUs do a row in a tenth of what one worker of the other stage takes: all processors are for that.
        let fast = [mixed(Some(0.2), Some(100.0)), other.clone()];
        assert_eq!(
            pool_sizes(&fast, &view(&[(8.0, 2.0)])),
            [vec![2, 1], vec![6]]
        );
        let slow = [mixed(Some(20.0), Some(20.0)), other];
        assert_eq!(
            pool_sizes(&slow, &view(&[(8.0, 2.0)])),
            [vec![2, 3], vec![2]]
        );
    }

    #[test]
    fn fastest_kind_grows_first() {
        let both = |fast, slow| StageDemand {
            pools: vec![
                pool(1.0, 0.0, 1, 8, Some(slow)),
                pool(1.0, 0.0, 1, 8, Some(fast)),
            ],
            useful_workers: None,
            is_done: false,
        };
        let view = view(&[(6.0, 0.0)]);
        assert_eq!(pool_sizes(&[both(1.0, 3.0)], &view), [[1, 5]]);
        assert_eq!(pool_sizes(&[both(3.0, 1.0)], &view), [[5, 1]]);
    }

    #[test]
    fn one_stage_fills_the_machine() {
        assert_eq!(
            sizes_of(
                &[stage(1.0, 0.0, 1, 100, None)],
                &view(&[(2.0, 0.0), (4.0, 0.0)])
            ),
            [6]
        );
    }

    #[test]
    fn pool_begins_with_its_first_size_and_grows_when_its_cost_is_known() {
        let mut pool = stage(1.0, 0.0, 1, 100, None);
        pool.pools[0].initial_workers = Some(2);
        assert_eq!(
            sizes_of(std::slice::from_ref(&pool), &view(&[(8.0, 0.0)])),
            [2]
        );
        pool.pools[0].cost = Some(1.0);
        assert_eq!(sizes_of(&[pool], &view(&[(8.0, 0.0)])), [8]);
    }

    #[test]
    fn bottleneck_gets_the_workers() {
        let stages = [
            stage(1.0, 0.0, 1, 100, Some(1.0)),
            stage(1.0, 0.0, 1, 100, Some(3.0)),
        ];
        assert_eq!(sizes_of(&stages, &view(&[(8.0, 0.0)])), [2, 6]);
    }

    #[test]
    fn workers_are_as_many_as_have_memory() {
        let of = |cpus, memory_mib: i64| {
            let total = resources(cpus, 0.0).with(MEMORY, Quantity::from_whole(memory_mib << 20));
            ClusterView::new(vec![node(1, total, Vec::new())])
        };
        let untold = stage(1.0, 0.0, 1, 100, None);
        assert_eq!(sizes_of(std::slice::from_ref(&untold), &of(8.0, 350)), [3]);
        assert_eq!(sizes_of(std::slice::from_ref(&untold), &of(8.0, 8000)), [8]);
        // One is owed to each stage, whatever there is.
        let stages = [untold.clone(), untold.clone()];
        assert_eq!(sizes_of(&stages, &of(8.0, 10)), [1, 1]);
        let mut told = untold;
        let asked = told.pools[0].resources.resources().clone();
        let asked = asked.with(MEMORY, Quantity::from_whole(200 << 20));
        told.pools[0].resources = ResourceRequest::new(asked, 0).expect("makes sense");
        assert_eq!(sizes_of(&[told], &of(8.0, 1000)), [5]);
    }

    #[test]
    fn fractions_never_straddle_devices() {
        let stages = [stage(0.0, 0.6, 1, 100, None)];
        assert_eq!(sizes_of(&stages, &view(&[(8.0, 3.0)])), [3]);
    }

    #[test]
    fn processors_and_devices_do_not_compete() {
        let stages = [stage(1.0, 0.0, 1, 100, None), stage(0.0, 0.5, 1, 4, None)];
        assert_eq!(sizes_of(&stages, &view(&[(2.0, 2.0)])), [2, 4]);
    }

    #[test]
    fn finished_stage_leaves_its_room_to_others() {
        let mut stages = [stage(1.0, 0.0, 1, 100, None), stage(1.0, 0.0, 1, 100, None)];
        stages[0].is_done = true;
        assert_eq!(sizes_of(&stages, &view(&[(4.0, 0.0)])), [0, 4]);
    }

    #[test]
    fn stage_leaves_what_it_has_no_work_for_to_others() {
        let mut stages = [stage(1.0, 0.0, 3, 100, None), stage(1.0, 0.0, 1, 100, None)];
        assert_eq!(sizes_of(&stages, &view(&[(8.0, 0.0)])), [4, 4]);
        stages[0].useful_workers = Some(2);
        assert_eq!(sizes_of(&stages, &view(&[(8.0, 0.0)])), [2, 6]);
        // Blocks may get lost yet, and be made again.
        stages[0].useful_workers = Some(0);
        assert_eq!(sizes_of(&stages, &view(&[(8.0, 0.0)])), [1, 7]);
    }

    #[test]
    fn every_stage_gets_a_worker_even_without_room() {
        let stages = [stage(2.0, 0.0, 1, 1, None), stage(2.0, 0.0, 1, 1, None)];
        assert_eq!(sizes_of(&stages, &view(&[(2.0, 0.0)])), [1, 1]);
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
        licensed.pools[0].resources = ResourceRequest::new(one, 0).expect("makes sense");
        let mut model = stage(0.0, 0.0, 1, 100, None);
        model.pools[0].resources =
            ResourceRequest::new(ResourceSet::new(), 12 << 30).expect("makes sense");
        assert_eq!(sizes_of(&[licensed, model], &view), [3, 4]);
    }

    #[test]
    fn stage_that_needs_nothing_is_as_wide_as_the_cluster_has_processors() {
        let mut reading = stage(0.0, 0.0, 1, 1, None);
        reading.pools[0].max_workers = None;
        let sizes = |nodes| sizes_of(std::slice::from_ref(&reading), &view(nodes));
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
            let counts = sizes_of(&stages, &room);
            for (stage, &count) in stages.iter().zip(&counts) {
                prop_assert!(count >= 1 && Some(count) <= stage.pools[0].max_workers);
                for _ in 1..count {
                    // All but the first, which is owed, have room.
                    prop_assert!(room.book(&stage.pools[0].placement(false)).is_some());
                }
            }
        }
    }
}
