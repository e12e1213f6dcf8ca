//! What is told of an execution while it runs: its statistics, and what it has cost.

use std::time::{Duration, Instant};

use aktis_common::resources::{CPU, GPU, ResourceRequest};

use super::budgets::Sizes;
use super::main_loop::ExecutionLoop;
use crate::graph::{JobPlan, Operator, StagePlan, shortage};
use crate::plan::ComputeKind;
use crate::sources::Split;
use crate::stats::{
    ExecutionStats, KindStats, OperatorStats, OutputStats, StageStats, WorkerKind, WorkerTime,
};

/// What a job has cost is kept while it runs, too: its driver may be killed.
pub(super) const COST_KEPT_EVERY: Duration = Duration::from_secs(30);

impl ExecutionLoop {
    /// Keeps what the execution has cost so far.
    pub(super) fn keep_cost(&mut self) {
        let record = self.stats.lock().cost_record();
        self.pool.keep_cost(record);
        self.cost_kept = Instant::now();
    }

    /// It may hold so much of the store from now on.
    pub(super) fn note_budget(&self, bytes: u64) {
        let mut stats = self.stats.lock();
        stats.budget_bytes = stats.budget_bytes.max(bytes);
    }

    /// Brings the statistics up to date.
    pub(super) fn publish(&self, is_end: bool) {
        let mut stats = self.stats.lock();
        stats.most_block_bytes = stats.most_block_bytes.max(self.executor.used_bytes());
        stats.most_exchange_bytes = stats
            .most_exchange_bytes
            .max(self.executor.exchange_bytes());
        for (index, stage) in stats.stages.iter_mut().enumerate() {
            let (pending, active) = self.executor.backlog(index);
            stage.inputs.1 = stage.inputs.0 + (pending + active) as u64;
            (stage.workers, stage.starting) = self.executor.workers(index);
            stage.is_done = self.executor.is_stage_done(index);
            stage.cut_partitions = self.executor.cut_partitions(index);
        }
        for (stage, failed) in stats.stages.iter_mut().zip(self.failed_rows.counted()) {
            // The first of a stage is where its rows come from.
            for (operator, rows) in stage.operators.iter_mut().skip(1).zip(failed) {
                operator.rows_failed = rows;
            }
        }
        self.expectations.publish(&mut stats, is_end);
        for (index, stage) in stats.stages.iter_mut().enumerate() {
            for (step, chosen) in self.sizes.chosen(index) {
                if let Some(operator) = stage.operators.get_mut(step + 1) {
                    operator.chosen = chosen;
                }
            }
        }
        let mut times = self.times.so_far(Instant::now()).into_iter();
        for (index, stage) in stats.stages.iter_mut().enumerate() {
            let times = times.by_ref().take(self.stages[index].kinds.len());
            let times: Vec<WorkerTime> = times.collect();
            stage.time = times.iter().copied().sum();
            let kinds = stage.kinds.iter_mut().zip(times).enumerate();
            for (kind, (stats, time)) in kinds {
                stats.time = time;
                (stats.workers, stats.starting) = self.executor.workers_of(index, kind);
                stats.waits = self.why_kind_waits(index, kind, stats);
            }
        }
    }

    /// Why no worker of this kind works, for people, where others may; at the end, why none has.
    fn why_kind_waits(&self, stage: usize, kind: usize, stats: &KindStats) -> Option<String> {
        if stats.time.workers > 0 || stats.workers > stats.starting {
            return None;
        }
        if self.executor.is_stage_done(stage) {
            return stats.waits.clone();
        }
        let resources = &self.stages[stage].kinds[kind].resources;
        if let Some(shortage) = shortage(resources, self.executor.view()) {
            return Some(shortage.to_string());
        }
        Some(match stats.workers {
            0 => "there is nothing for it to do, or others have what it needs".to_owned(),
            _ => "it waits for room on a node, or loads its function".to_owned(),
        })
    }
}

/// What each worker has that holds so much.
fn worker_kind(stage: &StagePlan, resources: &ResourceRequest) -> WorkerKind {
    let resources = resources.resources();
    let amount = |name| resources.get(name).as_f64();
    WorkerKind {
        keeps_state: stage.compute.kind == ComputeKind::Actors,
        cpus: amount(CPU),
        gpus: amount(GPU),
    }
}

/// The kinds of workers of a stage that has several, whose operators are these.
fn initial_kinds(stage: &StagePlan, operators: &[OperatorStats]) -> Vec<KindStats> {
    if !stage.compute.is_mixed() {
        return Vec::new();
    }
    let pools = stage.compute.pools().into_iter().enumerate();
    let kinds = pools.map(|(kind, pool)| KindStats {
        worker: worker_kind(stage, &pool.resources),
        batch_rows: stage.batch_rows_of(kind),
        operators: operators.to_vec(),
        ..KindStats::default()
    });
    kinds.collect()
}

/// What is known before anything has happened.
pub(super) fn initial_stats(job: &JobPlan, splits: &[Vec<Split>], sizes: &Sizes) -> ExecutionStats {
    ExecutionStats {
        outputs: vec![OutputStats::default(); job.outputs.len()],
        source_rows: splits.iter().flatten().map(|split| split.rows).sum(),
        budget_bytes: sizes.budget_bytes,
        relational_bytes: sizes.relational_bytes_of(job),
        ..ExecutionStats::of_stages(initial_stages(job))
    }
}

/// The same of its stages.
pub(super) fn initial_stages(job: &JobPlan) -> Vec<StageStats> {
    let operator = |(name, calls_function): (&str, bool)| OperatorStats {
        name: name.to_owned(),
        calls_function,
        ..OperatorStats::default()
    };
    fn steps(stage: &StagePlan) -> Vec<(&str, bool)> {
        let source = if stage.source.is_some() {
            "Read"
        } else {
            "Receive"
        };
        let is_map = |operator: &Operator| matches!(operator, Operator::Map(_));
        let steps = stage.steps.iter();
        let steps = steps.map(|step| (step.name.as_str(), is_map(&step.operator)));
        [(source, false)].into_iter().chain(steps).collect()
    }
    let stages = job.stages.iter().enumerate().map(|(index, stage)| {
        let own = match &stage.group {
            Some(group) => group.stages.iter().flat_map(steps).collect(),
            None => steps(stage),
        };
        let end = stage.end.as_ref();
        let sink = end.and_then(|end| end.sink.step());
        let names = own.into_iter().chain(sink.map(|sink| (sink, false)));
        let operators: Vec<OperatorStats> = names.map(operator).collect();
        StageStats {
            name: stage.name(),
            place: end
                .filter(|_| job.outputs.len() > 1)
                .and_then(|end| end.sink.place().map(str::to_owned)),
            givers: job.edges_to(index).map(|edge| edge.from).collect(),
            kinds: initial_kinds(stage, &operators),
            operators,
            worker: worker_kind(stage, &stage.compute.resources),
            ..StageStats::default()
        }
    });
    stages.collect()
}
