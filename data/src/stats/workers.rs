//! Workers: what kinds there are, and what became of their time.

use std::iter::Sum;
use std::time::Duration;

use super::{OperatorStats, duration_text};

/// What workers of one kind have done, of a stage that has several.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KindStats {
    /// What each of them has.
    pub worker: WorkerKind,
    /// Rows of their calls, if that was asked for.
    pub batch_rows: Option<u64>,
    /// How many there are.
    pub workers: usize,
    /// Those of them that are not ready yet.
    pub starting: usize,
    /// As those of the stage, of these workers alone.
    pub operators: Vec<OperatorStats>,
    /// What became of their time, so far.
    pub time: WorkerTime,
    /// Why none of them works, if that is so, for people.
    pub waits: Option<String>,
}

impl KindStats {
    /// The operator that calls the function.
    pub fn called(&self) -> Option<&OperatorStats> {
        let mut operators = self.operators.iter();
        operators.find(|operator| operator.calls_function)
    }

    /// For people: what such a worker is and has, and how it is called.
    pub fn name(&self) -> String {
        let name = self.worker.name();
        let rows = self.batch_rows;
        rows.map_or(name.clone(), |rows| format!("{name}, batches of {rows}"))
    }
}

/// What a worker has as long as it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WorkerKind {
    /// Whether it holds what a function keeps between calls: an actor; else any worker would do.
    pub keeps_state: bool,
    /// CPUs.
    pub cpus: f64,
    /// GPUs.
    pub gpus: f64,
}

/// What became of the time of workers, all of them added up. Together it is the time for which they had their CPUs, and, with what
/// they have lent, their GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerTime {
    /// How many there were.
    pub workers: u64,
    /// From the moment their nodes had room for them until they began to load functions.
    pub starting: Duration,
    /// Loading functions: constructors of classes, models.
    pub loading: Duration,
    /// Work on inputs that they have used up, or that the job has ended over.
    pub useful: Duration,
    /// Work that had to be done again, or was: because workers died or blocks were lost.
    pub repeated: Duration,
    /// Waiting for rows, for whoever takes what they made, and for the loop.
    pub idle: Duration,
    /// The same while others had their CPUs.
    pub lent: Duration,
    /// Time of processors that their processes have taken.
    pub cpu: Duration,
    /// Rows that were read for work that counts as repeated.
    pub rows_repeated: u64,
}

impl Sum for WorkerTime {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::default(), |all, one| Self {
            workers: all.workers + one.workers,
            starting: all.starting + one.starting,
            loading: all.loading + one.loading,
            useful: all.useful + one.useful,
            repeated: all.repeated + one.repeated,
            idle: all.idle + one.idle,
            lent: all.lent + one.lent,
            cpu: all.cpu + one.cpu,
            rows_repeated: all.rows_repeated + one.rows_repeated,
        })
    }
}

impl WorkerTime {
    /// For how long they had their CPUs.
    pub fn held(&self) -> Duration {
        self.starting + self.loading + self.useful + self.repeated + self.idle
    }

    /// For people.
    pub(super) fn to_text(self) -> String {
        let parts = [
            ("starting", self.starting),
            ("loading", self.loading),
            ("useful", self.useful),
            ("repeated", self.repeated),
            ("idle", self.idle),
        ];
        let parts = parts.map(|(name, part)| format!("{name} {}", duration_text(part)));
        format!("{}; cpu {}", parts.join(", "), duration_text(self.cpu))
    }
}
