//! What is told of an execution while it runs: its statistics, and what it has cost.

use std::time::{Duration, Instant};

use aktis_common::resources::{CPU, GPU};

use super::budgets::Sizes;
use super::main_loop::ExecutionLoop;
use crate::graph::{JobPlan, Operator, StagePlan};
use crate::plan::ComputeKind;
use crate::sources::Split;
use crate::stats::{ExecutionStats, OperatorStats, OutputStats, StageStats, WorkerKind};

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
        let times = self.times.so_far(Instant::now());
        for (stage, time) in stats.stages.iter_mut().zip(times) {
            stage.time = time;
        }
    }
}

/// What each worker of a stage has.
fn worker_kind(stage: &StagePlan) -> WorkerKind {
    let resources = stage.compute.resources.resources();
    let amount = |name| resources.get(name).as_f64();
    WorkerKind {
        keeps_state: stage.compute.kind == ComputeKind::Actors,
        cpus: amount(CPU),
        gpus: amount(GPU),
    }
}

/// What is known before anything has happened.
pub(super) fn initial_stats(job: &JobPlan, splits: &[Vec<Split>], sizes: &Sizes) -> ExecutionStats {
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
        StageStats {
            name: stage.name(),
            place: end
                .filter(|_| job.outputs.len() > 1)
                .and_then(|end| end.sink.place().map(str::to_owned)),
            givers: job.edges_to(index).map(|edge| edge.from).collect(),
            operators: names.map(operator).collect(),
            worker: worker_kind(stage),
            ..StageStats::default()
        }
    });
    ExecutionStats {
        outputs: vec![OutputStats::default(); job.outputs.len()],
        source_rows: splits.iter().flatten().map(|split| split.rows).sum(),
        budget_bytes: sizes.budget_bytes,
        relational_bytes: sizes.relational_bytes_of(job),
        ..ExecutionStats::of_stages(stages.collect())
    }
}
