//! Rows and time of every step of a group, as the engine counts them.

use std::sync::Arc;

use datafusion_physical_plan::ExecutionPlan;

use super::leaf::BytesRead;
use crate::wire::spec::StepReport;

/// The steps of a group, in the order of its stages: of each what it reads or receives, then its steps.
#[derive(Default)]
pub(crate) struct GroupMeters {
    steps: Vec<StepCounters>,
    readers: Vec<BytesRead>,
    reported_bytes: u64,
}

struct StepCounters {
    kind: CounterKind,
    operators: Vec<Arc<dyn ExecutionPlan>>,
    /// What was reported so far.
    rows: u64,
    nanos: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CounterKind {
    /// Reads rows from a source.
    Read,
    /// Gets what other stages have made.
    Receive,
    /// Gets rows of the step before.
    Next,
}

impl GroupMeters {
    /// A stage begins with what it reads.
    pub(super) fn reads(&mut self, leaf: &Arc<dyn ExecutionPlan>, bytes_read: BytesRead) {
        self.readers.push(bytes_read);
        self.add(CounterKind::Read, vec![Arc::clone(leaf)]);
    }

    /// A stage begins with what others have made.
    pub(super) fn receives(&mut self, givers: Vec<Arc<dyn ExecutionPlan>>) {
        self.add(CounterKind::Receive, givers);
    }

    /// One more step of the stage.
    pub(super) fn step(&mut self, operator: &Arc<dyn ExecutionPlan>) {
        self.add(CounterKind::Next, vec![Arc::clone(operator)]);
    }

    fn add(&mut self, kind: CounterKind, operators: Vec<Arc<dyn ExecutionPlan>>) {
        self.steps.push(StepCounters {
            kind,
            operators,
            rows: 0,
            nanos: 0,
        });
    }

    /// How many there are so far.
    pub(crate) fn count(&self) -> usize {
        self.steps.len()
    }

    /// Bytes read from storage since this was last asked.
    pub(crate) fn bytes_read_since_report(&mut self) -> u64 {
        let all = self.readers.iter().map(|read| read()).sum();
        all - std::mem::replace(&mut self.reported_bytes, all)
    }

    /// What happened since the last report.
    pub(crate) fn take_report(&mut self) -> Vec<StepReport> {
        let mut before = 0;
        let mut reports = Vec::with_capacity(self.steps.len());
        for step in &mut self.steps {
            let (rows, nanos) = step.counted();
            let rows_out = rows - std::mem::replace(&mut step.rows, rows);
            let time = nanos - std::mem::replace(&mut step.nanos, nanos);
            reports.push(StepReport {
                rows_in: if step.kind == CounterKind::Next {
                    before
                } else {
                    0
                },
                rows_out,
                wall_nanos: time,
                cpu_nanos: time,
                ..StepReport::default()
            });
            before = rows_out;
        }
        reports
    }
}

impl StepCounters {
    /// Rows that came out, and time, of all threads.
    fn counted(&self) -> (u64, u64) {
        let (mut rows, mut nanos) = (0, 0);
        for metrics in self.operators.iter().filter_map(|one| one.metrics()) {
            rows += metrics.output_rows().unwrap_or(0) as u64;
            nanos += metrics.elapsed_compute().unwrap_or(0) as u64;
        }
        // What others have made took its time there.
        let is_own = self.kind != CounterKind::Receive;
        (rows, if is_own { nanos } else { 0 })
    }
}
