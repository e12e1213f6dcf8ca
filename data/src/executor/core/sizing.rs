//! How many workers each stage gets: a pure function of what they need and what the cluster has.

use aktis_worker::options::ResourceMap;

/// Units of one whole GPU.
const DEVICE_UNITS: i64 = 10_000;
const GPU: &str = "GPU";

/// What one node has in all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeCapacity {
    /// Totals by resource, in 1/10000.
    pub totals: ResourceMap,
}

/// What a stage needs.
#[derive(Debug, Clone, PartialEq)]
pub struct StageDemand {
    /// For each worker.
    pub resources: ResourceMap,
    /// Fewest workers.
    pub min_workers: usize,
    /// Most workers as long as the cost is not known, if that was asked for.
    pub initial_workers: Option<usize>,
    /// Most workers.
    pub max_workers: usize,
    /// Work for each row of the source, in any unit, if it is known.
    pub cost: Option<f64>,
    /// Whether it is over.
    pub is_done: bool,
}

/// Free resources while workers are placed one by one.
#[derive(Debug, Clone)]
pub struct Placement {
    nodes: Vec<FreeNode>,
}

#[derive(Debug, Clone)]
struct FreeNode {
    free: ResourceMap,
    devices: Vec<i64>,
}

impl Placement {
    /// Nothing placed yet.
    pub fn new(nodes: &[NodeCapacity]) -> Self {
        let free_node = |node: &NodeCapacity| {
            let gpus = node.totals.get(GPU).copied().unwrap_or(0) / DEVICE_UNITS;
            let devices = vec![DEVICE_UNITS; usize::try_from(gpus).unwrap_or(0)];
            FreeNode {
                free: node.totals.clone(),
                devices,
            }
        };
        Self {
            nodes: nodes.iter().map(free_node).collect(),
        }
    }

    /// Places one worker on the first node that has room.
    pub fn place(&mut self, demand: &ResourceMap) -> bool {
        self.nodes.iter_mut().any(|node| node.place(demand))
    }
}

impl FreeNode {
    fn place(&mut self, demand: &ResourceMap) -> bool {
        let has = |(name, amount): (&String, &i64)| {
            name == GPU || *amount <= self.free.get(name).copied().unwrap_or(0)
        };
        if !demand.iter().all(has) || !self.place_on_devices(demand.get(GPU).copied().unwrap_or(0))
        {
            return false;
        }
        for (name, amount) in demand.iter().filter(|(name, _)| *name != GPU) {
            if let Some(free) = self.free.get_mut(name) {
                *free -= amount;
            }
        }
        true
    }

    /// A fraction goes on one device, whole devices must be untouched.
    fn place_on_devices(&mut self, amount: i64) -> bool {
        if amount <= 0 {
            return true;
        }
        if amount < DEVICE_UNITS {
            // Best fit: the fullest device that has room.
            let fitting = self.devices.iter_mut().filter(|free| **free >= amount);
            return fitting
                .min_by_key(|free| **free)
                .map(|free| *free -= amount)
                .is_some();
        }
        let wanted = usize::try_from(amount / DEVICE_UNITS).unwrap_or(usize::MAX);
        let whole: Vec<usize> = (0..self.devices.len())
            .filter(|&index| self.devices[index] == DEVICE_UNITS)
            .take(wanted)
            .collect();
        if whole.len() < wanted {
            return false;
        }
        whole.into_iter().for_each(|index| self.devices[index] = 0);
        true
    }
}

impl StageDemand {
    fn most(&self) -> usize {
        match (self.cost, self.initial_workers) {
            (None, Some(initial)) => initial.clamp(self.min_workers, self.max_workers),
            _ => self.max_workers,
        }
    }
}

/// Workers for every stage: one each first, then up to the minima, then one by one to the stage that is the bottleneck,
/// as long as there is room. Stages whose cost is not known count as equal.
pub fn solve(stages: &[StageDemand], nodes: &[NodeCapacity]) -> Vec<usize> {
    let mut placement = Placement::new(nodes);
    let mut counts = vec![0usize; stages.len()];
    for round in 0..stages
        .iter()
        .map(|stage| stage.min_workers)
        .max()
        .unwrap_or(0)
    {
        for (stage, count) in stages.iter().zip(&mut counts) {
            let wants = !stage.is_done && round < stage.min_workers.min(stage.max_workers);
            // The first worker is owed even where there is no room now: it will wait for it.
            if wants && (placement.place(&stage.resources) || round == 0) {
                *count += 1;
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
    let mut is_full: Vec<bool> = stages
        .iter()
        .zip(&counts)
        .map(|(s, &count)| s.is_done || count >= s.most())
        .collect();
    loop {
        #[expect(clippy::cast_precision_loss, reason = "a handful of workers")]
        let slowness = |index: &usize| cost(&stages[*index]) / counts[*index].max(1) as f64;
        let candidates = (0..stages.len()).filter(|&index| !is_full[index]);
        let Some(next) = candidates.max_by(|a, b| slowness(a).total_cmp(&slowness(b))) else {
            return counts;
        };
        // More workers beside a slower stage that cannot grow would only wait.
        if placement.place(&stages[next].resources) {
            counts[next] += 1;
            is_full[next] = counts[next] >= stages[next].most();
        } else {
            is_full[next] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resources(cpus: f64, gpus: f64) -> ResourceMap {
        #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
        let units = |amount: f64| (amount * 10_000.0).round() as i64;
        let all = [
            ("CPU".to_owned(), units(cpus)),
            (GPU.to_owned(), units(gpus)),
        ];
        all.into_iter().filter(|(_, amount)| *amount > 0).collect()
    }

    fn node(cpus: f64, gpus: f64) -> NodeCapacity {
        NodeCapacity {
            totals: resources(cpus, gpus),
        }
    }

    fn stage(cpus: f64, gpus: f64, min: usize, max: usize, cost: Option<f64>) -> StageDemand {
        StageDemand {
            resources: resources(cpus, gpus),
            min_workers: min,
            initial_workers: None,
            max_workers: max,
            cost,
            is_done: false,
        }
    }

    #[test]
    fn one_stage_fills_the_machine() {
        assert_eq!(
            solve(
                &[stage(1.0, 0.0, 1, 100, None)],
                &[node(2.0, 0.0), node(4.0, 0.0)]
            ),
            [6]
        );
    }

    #[test]
    fn pool_begins_with_its_first_size_and_grows_when_its_cost_is_known() {
        let mut pool = stage(1.0, 0.0, 1, 100, None);
        pool.initial_workers = Some(2);
        assert_eq!(solve(std::slice::from_ref(&pool), &[node(8.0, 0.0)]), [2]);
        pool.cost = Some(1.0);
        assert_eq!(solve(&[pool], &[node(8.0, 0.0)]), [8]);
    }

    #[test]
    fn bottleneck_gets_the_workers() {
        let stages = [
            stage(1.0, 0.0, 1, 100, Some(1.0)),
            stage(1.0, 0.0, 1, 100, Some(3.0)),
        ];
        assert_eq!(solve(&stages, &[node(8.0, 0.0)]), [2, 6]);
    }

    #[test]
    fn fractions_never_straddle_devices() {
        let stages = [stage(0.0, 0.6, 1, 100, None)];
        assert_eq!(solve(&stages, &[node(8.0, 3.0)]), [3]);
    }

    #[test]
    fn processors_and_devices_do_not_compete() {
        let stages = [stage(1.0, 0.0, 1, 100, None), stage(0.0, 0.5, 1, 4, None)];
        assert_eq!(solve(&stages, &[node(2.0, 2.0)]), [2, 4]);
    }

    #[test]
    fn finished_stage_leaves_its_room_to_others() {
        let mut stages = [stage(1.0, 0.0, 1, 100, None), stage(1.0, 0.0, 1, 100, None)];
        stages[0].is_done = true;
        assert_eq!(solve(&stages, &[node(4.0, 0.0)]), [0, 4]);
    }

    #[test]
    fn every_stage_gets_a_worker_even_without_room() {
        let stages = [stage(2.0, 0.0, 1, 1, None), stage(2.0, 0.0, 1, 1, None)];
        assert_eq!(solve(&stages, &[node(2.0, 0.0)]), [1, 1]);
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
            let nodes = [node(f64::from(cpus), f64::from(gpus))];
            let counts = solve(&stages, &nodes);
            let mut placement = Placement::new(&nodes);
            for (stage, &count) in stages.iter().zip(&counts) {
                prop_assert!(count >= 1 && count <= stage.max_workers);
                for _ in 1..count {
                    // All but the first, which is owed, have room.
                    prop_assert!(placement.place(&stage.resources));
                }
            }
        }
    }
}
