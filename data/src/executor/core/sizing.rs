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
    /// Kinds that something waits for which the others may not have: one of these is placed first.
    pub first_kinds: Vec<usize>,
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
            let kinds = stage.first_kinds.iter().copied();
            let kinds = kinds.chain(0..stage.pools.len());
            if stage.is_done || kinds.clone().any(|kind| self.place(index, kind)) {
                continue;
            }
            // The first worker is owed even where there is no room now: it will wait for it.
            let nodes = self.room.nodes();
            let can_be = |&kind: &usize| {
                let mut nodes = nodes.iter().map(|node| &node.resources);
                nodes.any(|node| node.could_ever_fit(&stage.pools[kind].resources))
            };
            let owed = kinds.clone().find(can_be).unwrap_or(0);
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
mod tests;
