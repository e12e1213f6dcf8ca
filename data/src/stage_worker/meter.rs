//! Time, rows and bytes per step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use crate::block::data_bytes;
use crate::operators::function::SharedFunction;
use crate::operators::group::GroupMeters;
use crate::operators::stream::{BatchStream, CallsBegun, PickedRows, is_pause};
use crate::wire::spec::StepReport;

/// Counters of one step; times include the steps that it pulls from on the same thread.
#[derive(Debug, Default)]
pub(crate) struct StepMeter {
    wall_nanos: AtomicU64,
    cpu_nanos: AtomicU64,
    rows_out: AtomicU64,
    bytes_out: AtomicU64,
    batches_out: AtomicU64,
}

impl StepMeter {
    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let (began, cpu_began) = (Instant::now(), thread_cpu_nanos());
        let result = work();
        let wall = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.wall_nanos.fetch_add(wall, Ordering::Relaxed);
        self.cpu_nanos.fetch_add(
            thread_cpu_nanos().saturating_sub(cpu_began),
            Ordering::Relaxed,
        );
        result
    }

    fn count(&self, batch: &RecordBatch) {
        self.rows_out
            .fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        self.bytes_out
            .fetch_add(data_bytes(batch), Ordering::Relaxed);
        self.batches_out.fetch_add(1, Ordering::Relaxed);
    }

    fn count_picked(&self, rows: &PickedRows) {
        self.rows_out
            .fetch_add(rows.places.len() as u64, Ordering::Relaxed);
        self.bytes_out.fetch_add(rows.bytes, Ordering::Relaxed);
        self.batches_out.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) -> StepReport {
        StepReport {
            rows_in: 0,
            rows_out: self.rows_out.swap(0, Ordering::Relaxed),
            wall_nanos: self.wall_nanos.swap(0, Ordering::Relaxed),
            cpu_nanos: self.cpu_nanos.swap(0, Ordering::Relaxed),
            bytes_out: self.bytes_out.swap(0, Ordering::Relaxed),
            batches_out: self.batches_out.swap(0, Ordering::Relaxed),
            ..StepReport::default()
        }
    }
}

fn thread_cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// A stream with a meter.
pub(crate) struct Metered {
    inner: Box<dyn BatchStream>,
    meter: Arc<StepMeter>,
}

impl BatchStream for Metered {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        let result = self.meter.timed(|| self.inner.next());
        if let Ok(Some(batch)) = &result
            && !is_pause(batch)
        {
            self.meter.count(batch);
        }
        result
    }

    fn next_picked(&mut self, bytes: u64) -> Result<Option<PickedRows>, TaskFailure> {
        let result = self.meter.timed(|| self.inner.next_picked(bytes));
        if let Ok(Some(rows)) = &result {
            self.meter.count_picked(rows);
        }
        result
    }

    fn begin_ahead(
        &mut self,
        before: Option<&CallsBegun>,
    ) -> Result<Option<CallsBegun>, TaskFailure> {
        self.meter.timed(|| self.inner.begin_ahead(before))
    }

    fn is_ready_within(&mut self, patience: Duration) -> Result<bool, TaskFailure> {
        self.meter.timed(|| self.inner.is_ready_within(patience))
    }

    fn passes_on(&self) -> Option<&dyn BatchStream> {
        Some(&*self.inner)
    }
}

/// The meters of a stage: its source, its steps, its sink.
pub(crate) struct StageMeters {
    /// Where the source's work is counted.
    source: Arc<StepMeter>,
    /// What the first step waits for its source, if that works on a thread of its own.
    source_wait: Option<Arc<StepMeter>>,
    steps: Vec<Arc<StepMeter>>,
    sink: Arc<StepMeter>,
    /// Of stages that run here together, in the place of the source.
    group: Option<GroupMeters>,
    /// What the steps call.
    functions: Vec<Option<SharedFunction>>,
}

impl StageMeters {
    /// Meters for steps, with what they call.
    pub(crate) fn new(functions: Vec<Option<SharedFunction>>) -> Self {
        Self {
            source: Arc::default(),
            source_wait: None,
            steps: functions.iter().map(|_| Arc::default()).collect(),
            sink: Arc::default(),
            group: None,
            functions,
        }
    }

    /// Stages that run together count by themselves.
    pub(crate) fn count_group(&mut self, group: GroupMeters) {
        self.group = Some(group);
    }

    /// Which of the reports is that of this step.
    pub(crate) fn place_of(&self, step: usize) -> usize {
        self.group.as_ref().map_or(1, GroupMeters::count) + step
    }

    /// Bytes that stages of a group have read from storage since this was last asked.
    pub(crate) fn bytes_read_by_group(&mut self) -> u64 {
        let group = self.group.as_mut();
        group.map_or(0, GroupMeters::bytes_read_since_report)
    }

    /// Counts the source.
    pub(crate) fn wrap_source(&self, stream: Box<dyn BatchStream>) -> Box<dyn BatchStream> {
        Box::new(Metered {
            inner: stream,
            meter: Arc::clone(&self.source),
        })
    }

    /// Counts the wait for a source on another thread.
    pub(crate) fn wrap_wait(&mut self, stream: Box<dyn BatchStream>) -> Box<dyn BatchStream> {
        let meter = Arc::default();
        self.source_wait = Some(Arc::clone(&meter));
        Box::new(Metered {
            inner: stream,
            meter,
        })
    }

    /// Counts a step.
    pub(crate) fn wrap_step(
        &self,
        index: usize,
        stream: Box<dyn BatchStream>,
    ) -> Box<dyn BatchStream> {
        Box::new(Metered {
            inner: stream,
            meter: Arc::clone(&self.steps[index]),
        })
    }

    /// Counts work of the sink on `rows` rows.
    pub(crate) fn in_sink<T>(&self, rows: u64, work: impl FnOnce() -> T) -> T {
        self.sink.rows_out.fetch_add(rows, Ordering::Relaxed);
        self.sink.timed(work)
    }

    /// What happened since the last report: source, steps, sink, each without those before it.
    pub(crate) fn take_report(&mut self) -> Vec<StepReport> {
        if let Some(group) = &mut self.group {
            let mut reports = group.take_report();
            let rows_in = reports.last().map_or(0, |last| last.rows_out);
            reports.push(StepReport {
                rows_in,
                ..self.sink.take()
            });
            return reports;
        }
        let source = self.source.take();
        let mut inner = self.source_wait.as_ref().map_or(source, |wait| wait.take());
        let mut rows_in = source.rows_out;
        let mut reports = vec![source];
        for (step, function) in self.steps.iter().zip(&self.functions) {
            let whole = step.take();
            let counts = function
                .as_ref()
                .map(|function| function.lock().take_counts())
                .unwrap_or_default();
            let waited = counts.waited.as_nanos();
            let waited_nanos = u64::try_from(waited).unwrap_or(u64::MAX);
            let wall_nanos = whole.wall_nanos.saturating_sub(inner.wall_nanos);
            reports.push(StepReport {
                rows_in,
                // More workers would not make turns come faster.
                wall_nanos: wall_nanos.saturating_sub(waited_nanos),
                cpu_nanos: whole.cpu_nanos.saturating_sub(inner.cpu_nanos),
                waited_nanos,
                cache_hits: counts.cache_hits,
                cache_misses: counts.cache_misses,
                ..whole
            });
            rows_in = whole.rows_out;
            inner = whole;
        }
        reports.push(StepReport {
            rows_in,
            ..self.sink.take()
        });
        reports
    }
}
