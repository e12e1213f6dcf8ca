//! What an execution has cost: the time of workers, shared out among the operators that they ran.
//!
//! Operators of a stage run one after another in the same worker. Of its time each has as much as it worked, by the clock; loading is
//! that of operators that call functions. So the parts of all operators together are the time of all workers, whatever dies.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stats::{ExecutionStats, OperatorStats, StageStats, WorkerKind, WorkerTime};

/// What one operator has cost.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorCost {
    /// Its stage.
    pub stage: usize,
    /// For people.
    pub operator: String,
    /// What each of its workers had.
    pub worker: WorkerKind,
    /// Seconds of workers.
    pub seconds: CostSeconds,
    /// Rows that came to it, and that came out.
    pub rows: (u64, u64),
    /// Bytes that came out, in memory.
    pub bytes: u64,
}

/// Seconds of workers, by what they were spent for; as [`WorkerTime`](crate::stats::WorkerTime).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CostSeconds {
    /// Workers that begin.
    pub starting: f64,
    /// Functions that are loaded.
    pub loading: f64,
    /// Work that counts.
    pub useful: f64,
    /// Work that was done again, or in vain.
    pub repeated: f64,
    /// Waiting.
    pub idle: f64,
    /// Waiting while others had the CPUs.
    pub lent: f64,
    /// Of processors, that were really used.
    pub cpu: f64,
}

impl ExecutionStats {
    /// What each operator has cost so far.
    pub fn costs(&self) -> Vec<OperatorCost> {
        let stages = self.stages.iter().enumerate();
        stages
            .flat_map(|(index, stage)| of_stage(index, stage))
            .collect()
    }

    /// The same for whoever adds up jobs.
    pub fn cost_record(&self) -> Value {
        let operators: Vec<Value> = self.costs().iter().map(as_json).collect();
        json!({
            "operators": operators,
            "rows": self.rows_out(),
            "bytes_read": self.bytes_read,
            "elapsed_s": self.elapsed_so_far().as_secs_f64(),
            "is_done": self.is_done,
        })
    }
}

fn of_stage(index: usize, stage: &StageStats) -> Vec<OperatorCost> {
    if stage.kinds.is_empty() {
        return of_workers(index, &stage.operators, &stage.time, stage.worker);
    }
    let kinds = stage.kinds.iter();
    kinds
        .flat_map(|kind| of_workers(index, &kind.operators, &kind.time, kind.worker))
        .collect()
}

/// What the operators have cost in workers of one kind.
fn of_workers(
    stage: usize,
    operators: &[OperatorStats],
    time: &WorkerTime,
    worker: WorkerKind,
) -> Vec<OperatorCost> {
    // Whoever waits for its turn holds its worker up, too.
    let work = shares(operators, |operator| {
        (operator.wall + operator.waited).as_secs_f64()
    });
    let functions = shares(operators, |operator| {
        f64::from(u8::from(operator.calls_function))
    });
    let has_functions = operators.iter().any(|operator| operator.calls_function);
    let loading = if has_functions { &functions } else { &work };
    let part = |time: Duration, share: f64| time.as_secs_f64() * share;
    let operators = operators.iter().zip(work.iter().zip(loading));
    operators
        .map(|(operator, (&work, &loading))| OperatorCost {
            stage,
            operator: operator.name.clone(),
            worker,
            seconds: CostSeconds {
                starting: part(time.starting, work),
                loading: part(time.loading, loading),
                useful: part(time.useful, work),
                repeated: part(time.repeated, work),
                idle: part(time.idle, work),
                lent: part(time.lent, work),
                cpu: part(time.cpu, work),
            },
            rows: (operator.rows_in, operator.rows_out),
            bytes: operator.bytes_out,
        })
        .collect()
}

/// Shares that add up to one; equal ones where nothing was weighed.
fn shares(operators: &[OperatorStats], weight: impl Fn(&OperatorStats) -> f64) -> Vec<f64> {
    let weights: Vec<f64> = operators.iter().map(weight).collect();
    let all: f64 = weights.iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "there are a few operators")]
    let equal = 1.0 / weights.len().max(1) as f64;
    let share = |weight: f64| if all > 0.0 { weight / all } else { equal };
    weights.into_iter().map(share).collect()
}

fn as_json(cost: &OperatorCost) -> Value {
    let seconds = &cost.seconds;
    json!({
        "stage": cost.stage,
        "operator": cost.operator,
        "worker": cost.worker.name(),
        "cpus": cost.worker.cpus,
        "gpus": cost.worker.gpus,
        "starting_s": seconds.starting,
        "loading_s": seconds.loading,
        "useful_s": seconds.useful,
        "repeated_s": seconds.repeated,
        "idle_s": seconds.idle,
        "lent_s": seconds.lent,
        "used_cpu_s": seconds.cpu,
        "rows_in": cost.rows.0,
        "rows_out": cost.rows.1,
        "bytes_out": cost.bytes,
    })
}

impl WorkerKind {
    /// For people: what such a worker is and has.
    pub fn name(&self) -> String {
        let kind = if self.keeps_state { "actor" } else { "task" };
        let mut name = format!("{kind}, {} CPU", self.cpus);
        if self.gpus > 0.0 {
            name.push_str(&format!(", {} GPU", self.gpus));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::OutputStats;

    fn operator(wall: u64, calls_function: bool) -> OperatorStats {
        OperatorStats {
            wall: Duration::from_secs(wall),
            calls_function,
            ..OperatorStats::default()
        }
    }

    fn stats(operators: Vec<OperatorStats>) -> ExecutionStats {
        let time = WorkerTime {
            workers: 2,
            starting: Duration::from_secs(1),
            loading: Duration::from_secs(10),
            useful: Duration::from_secs(20),
            repeated: Duration::from_secs(4),
            idle: Duration::from_secs(5),
            lent: Duration::from_secs(7),
            cpu: Duration::from_secs(16),
            rows_repeated: 3,
        };
        let stage = StageStats {
            operators,
            time,
            ..StageStats::default()
        };
        ExecutionStats::of_stages(vec![stage])
    }

    #[test]
    fn operator_that_waits_for_its_turns_has_cost_the_time_that_it_waits() {
        let waits = OperatorStats {
            waited: Duration::from_secs(18),
            ..operator(1, true)
        };
        let costs = stats(vec![operator(1, false), waits]).costs();
        assert!((costs[1].seconds.useful - 19.0).abs() < 1e-9);
    }

    #[test]
    fn record_of_a_job_that_runs_has_what_came_out_so_far_and_how_long_that_took() {
        // Its last operator has worked for rows of attempts that died, too.
        let last = OperatorStats {
            rows_out: 70,
            ..operator(1, true)
        };
        let mut stats = stats(vec![last]);
        stats.outputs = vec![
            OutputStats {
                rows: 40,
                rows_before: 0,
            },
            OutputStats::default(),
        ];
        stats.delivered_rows = 5;
        stats.began -= Duration::from_secs(3);
        let record = stats.cost_record();
        assert_eq!(record["rows"], json!(45));
        assert!(record["elapsed_s"].as_f64().expect("a number") >= 3.0);
    }

    #[test]
    fn operators_share_the_time_of_their_workers_and_nothing_is_lost() {
        for operators in [
            vec![operator(3, false), operator(1, true), operator(0, true)],
            vec![operator(0, false), operator(0, false)],
        ] {
            let has_function = operators[1].calls_function;
            let costs = stats(operators).costs();
            let sum =
                |of: fn(&CostSeconds) -> f64| costs.iter().map(|one| of(&one.seconds)).sum::<f64>();
            let worked = sum(|one| one.useful) + sum(|one| one.repeated);
            let rest = sum(|one| one.starting) + sum(|one| one.loading) + sum(|one| one.idle);
            assert!((worked - 24.0).abs() < 1e-9 && (rest - 16.0).abs() < 1e-9);
            assert!((sum(|one| one.lent) - 7.0).abs() < 1e-9);
            assert!((sum(|one| one.cpu) - 16.0).abs() < 1e-9);
            if has_function {
                assert_eq!(costs[0].seconds.loading, 0.0, "it has loaded nothing");
                assert!((costs[0].seconds.useful - 15.0).abs() < 1e-9);
            }
        }
    }
}
