//! What an execution did, per operator.

mod expectations;
mod text;
mod workers;

pub use expectations::{ExpectationStats, ExpectationVerdict};
pub use workers::{KindStats, WorkerKind, WorkerTime};

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::wire::spec::{Report, StepReport, WrittenFile};

/// One operator: a step of a stage, its source or its sink.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OperatorStats {
    /// For people.
    pub name: String,
    /// Rows in.
    pub rows_in: u64,
    /// Rows out.
    pub rows_out: u64,
    /// Rows that were left out because the function failed for them, of inputs that are used up.
    pub rows_failed: u64,
    /// Whether it calls a function, which its worker has loaded.
    pub calls_function: bool,
    /// What was found, if it is an expectation.
    pub expectation: Option<ExpectationStats>,
    /// Bytes out, in memory.
    pub bytes_out: u64,
    /// Batches out.
    pub batches_out: u64,
    /// Time on the clock in the workers, all added up.
    pub wall: Duration,
    /// Time of processors on the workers' main threads, all added up.
    pub cpu: Duration,
    /// Time for which calls waited for their turns (`rate_limit=`), all added up; no part of `wall`.
    pub waited: Duration,
    /// Rows whose results were kept (`cache=`), and those that the function was called with all the same.
    pub cache_hits: u64,
    /// See `cache_hits`.
    pub cache_misses: u64,
    /// Of each kind of device, where the size of batches was to be found: what was.
    pub chosen: Vec<ChosenBatch>,
    /// How many rows a call has at most since workers have died of more, for want of memory.
    pub most_rows: Option<u64>,
}

/// The size of batches that was found for one kind of device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChosenBatch {
    /// For people.
    pub device: String,
    /// Rows.
    pub rows: u64,
    /// Whether no other size is tried.
    pub is_settled: bool,
    /// The smallest size that did not fit into memory.
    pub too_large: Option<u64>,
    /// Calls that ran out of memory, and were made again with fewer rows.
    pub out_of_memory: u64,
    /// Sizes that were tried, and the nanoseconds of the fastest call of each.
    pub tried: Vec<(u64, u64)>,
}

impl ChosenBatch {
    fn to_text(&self) -> String {
        let Self { rows, device, .. } = self;
        let how = if self.is_settled {
            "chosen"
        } else {
            "tried last"
        };
        let mut text = format!("    batches of {rows} rows {how} for {device}");
        if let Some(too_large) = self.too_large {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "; {too_large} did not fit into memory ({} calls were made again with fewer)",
                self.out_of_memory
            );
        }
        text
    }
}

impl OperatorStats {
    fn add(&mut self, report: &StepReport) {
        self.rows_in += report.rows_in;
        self.rows_out += report.rows_out;
        self.bytes_out += report.bytes_out;
        self.batches_out += report.batches_out;
        self.wall += Duration::from_nanos(report.wall_nanos);
        self.cpu += Duration::from_nanos(report.cpu_nanos);
        self.waited += Duration::from_nanos(report.waited_nanos);
        self.cache_hits += report.cache_hits;
        self.cache_misses += report.cache_misses;
    }
}

/// One stage: operators that run in the same workers.
#[derive(Debug, Clone, Default)]
pub struct StageStats {
    /// For people: its operators.
    pub name: String,
    /// The stages that its rows come from, by their places.
    pub givers: Vec<usize>,
    /// The folder that its rows are written into, if there are several.
    pub place: Option<String>,
    /// In order.
    pub operators: Vec<OperatorStats>,
    /// Blocks that left the stage.
    pub blocks: u64,
    /// Bytes of these blocks.
    pub block_bytes: u64,
    /// Inputs done, known inputs.
    pub inputs: (u64, u64),
    /// Workers now.
    pub workers: usize,
    /// Workers that are not ready yet.
    pub starting: usize,
    /// Workers that died.
    pub deaths: u64,
    /// What each worker has; those of the first kind, where there are several.
    pub worker: WorkerKind,
    /// Where workers are of several kinds: what those of each have done.
    pub kinds: Vec<KindStats>,
    /// What became of their time, so far.
    pub time: WorkerTime,
    /// Partitions that were much larger than others, and the inputs that they became.
    pub cut_partitions: (u64, u64),
    /// Keys of those with very many rows.
    pub hot_keys: BTreeSet<String>,
    /// Whether it is over.
    pub is_done: bool,
}

/// An execution.
#[derive(Debug, Clone)]
pub struct ExecutionStats {
    /// In order.
    pub stages: Vec<StageStats>,
    /// What came out, in the order in which it was asked for.
    pub outputs: Vec<OutputStats>,
    /// Rows that the consumer was given.
    pub delivered_rows: u64,
    /// If it failed, the outputs that this happened on the way to, as far as that is known.
    pub failed_outputs: Vec<usize>,
    /// Rows of the source, if they are known.
    pub source_rows: u64,
    /// Bytes read from storage.
    pub bytes_read: u64,
    /// Files written.
    pub files: Vec<WrittenFileStats>,
    /// The most bytes of blocks that waited or were read at once.
    pub most_block_bytes: u64,
    /// The most bytes of exchange data that there were at once: blocks behind a barrier, which are spilled.
    pub most_exchange_bytes: u64,
    /// The budget for blocks; where others at the same store have changed it, the largest so far.
    pub budget_bytes: u64,
    /// What sorts, joins and groups of all workers may hold beside that; 0: there are none.
    pub relational_bytes: u64,
    /// How long it took, or takes.
    pub elapsed: Duration,
    /// Whether it is over.
    pub is_done: bool,
    pub(crate) began: Instant,
}

/// What came to an output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputStats {
    /// Rows that its sink took, of inputs that are used up: those of attempts whose workers died do not count.
    pub rows: u64,
    /// Those that runs before this one have written, which goes on with their job.
    pub rows_before: u64,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFileStats {
    /// Absolute path.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Length.
    pub bytes: u64,
}

impl From<WrittenFile> for WrittenFileStats {
    fn from(file: WrittenFile) -> Self {
        Self {
            path: file.path,
            rows: file.rows,
            bytes: file.bytes,
        }
    }
}

impl ExecutionStats {
    /// Nothing has happened yet.
    pub(crate) fn of_stages(stages: Vec<StageStats>) -> Self {
        Self {
            stages,
            outputs: Vec::new(),
            delivered_rows: 0,
            failed_outputs: Vec::new(),
            source_rows: 0,
            bytes_read: 0,
            files: Vec::new(),
            most_block_bytes: 0,
            most_exchange_bytes: 0,
            budget_bytes: 0,
            relational_bytes: 0,
            elapsed: Duration::ZERO,
            is_done: false,
            began: Instant::now(),
        }
    }

    /// A worker of this kind of a stage has got on. `is_rerun`: with blocks that were lost, which have been counted with their input.
    pub(crate) fn add_report(
        &mut self,
        (stage, kind): (usize, usize),
        report: &Report,
        is_rerun: bool,
    ) {
        let stage = &mut self.stages[stage];
        let kinds = stage.kinds.get_mut(kind).into_iter();
        let operators = kinds.map(|kind| &mut kind.operators);
        for operators in operators.chain([&mut stage.operators]) {
            for (operator, step) in operators.iter_mut().zip(&report.steps) {
                operator.add(step);
            }
        }
        stage.hot_keys.extend(report.hot_keys.iter().cloned());
        if report.has_block && !is_rerun {
            stage.blocks += 1;
            stage.block_bytes += report.bytes;
        }
        stage.inputs.0 += u64::from(report.is_last && !is_rerun);
        self.bytes_read += report.bytes_read;
        self.files
            .extend(report.files.iter().cloned().map(Into::into));
    }

    /// The same of a job in legs, of which others are over, in this run or in those before it.
    pub(crate) fn after(mut self, before: &[Self]) -> Self {
        for leg in before.iter().rev() {
            let mut stages = leg.stages.clone();
            let own = self.stages.iter_mut().flat_map(|stage| &mut stage.givers);
            own.for_each(|giver| *giver += stages.len());
            stages.append(&mut self.stages);
            self.stages = stages;
            self.bytes_read += leg.bytes_read;
            self.elapsed += leg.elapsed;
            for (own, other) in [
                (&mut self.most_block_bytes, leg.most_block_bytes),
                (&mut self.most_exchange_bytes, leg.most_exchange_bytes),
                (&mut self.relational_bytes, leg.relational_bytes),
            ] {
                *own = (*own).max(other);
            }
        }
        self
    }

    /// Rows that the sink of an output took, in this run and in those that it goes on with.
    pub fn rows_sunk(&self, output: usize) -> u64 {
        let rows = |output: &OutputStats| output.rows + output.rows_before;
        self.outputs.get(output).map_or(0, rows)
    }

    /// Rows that came out so far, of all outputs: each once, whatever has died.
    pub fn rows_out(&self) -> u64 {
        let sunk = self.outputs.iter().map(|output| output.rows);
        sunk.sum::<u64>() + self.delivered_rows
    }

    /// How long it took, or has taken so far.
    pub fn elapsed_so_far(&self) -> Duration {
        if self.is_done {
            self.elapsed
        } else {
            self.began.elapsed()
        }
    }

    /// What is expected, by the operators that judge it.
    pub fn expectations(&self) -> impl Iterator<Item = &ExpectationStats> {
        let operators = self.stages.iter().flat_map(|stage| &stage.operators);
        operators.filter_map(|operator| operator.expectation.as_ref())
    }

    /// The expectation that has ended the job, if one has.
    pub fn broken_expectation(&self) -> Option<&ExpectationStats> {
        self.expectations()
            .find(|one| one.verdict == ExpectationVerdict::Broken && !one.only_warns)
    }

    /// The stages none of whose workers has started yet: they wait for room in the cluster, or load their functions.
    pub fn waiting_stages(&self) -> Vec<&str> {
        let is_waiting = |stage: &&StageStats| stage.workers > 0 && stage.workers == stage.starting;
        self.stages
            .iter()
            .filter(is_waiting)
            .map(|stage| stage.name.as_str())
            .collect()
    }
}

impl ExecutionStats {
    /// The kinds of workers of which none works, though others of their stage do, and why, for people.
    pub fn waiting_kinds(&self) -> Vec<String> {
        let working = |stage: &&StageStats| stage.workers > stage.starting;
        let stages = self.stages.iter().filter(working);
        let kinds = stages.flat_map(|stage| stage.kinds.iter().map(|kind| (&stage.name, kind)));
        kinds
            .filter_map(|(stage, kind)| {
                let why = kind.waits.as_ref()?;
                Some(format!("{stage}: {} waits: {why}", kind.name()))
            })
            .collect()
    }
}

/// Where rows of a stage come from, for people; nothing: from a source.
pub(crate) fn givers_text(givers: &[usize]) -> String {
    let texts: Vec<String> = givers.iter().map(usize::to_string).collect();
    match texts.as_slice() {
        [] => String::new(),
        texts => format!(" of {}", texts.join(" and ")),
    }
}

/// A number of bytes for people.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{amount:.1} {}", UNITS[unit])
    }
}

/// A duration for people.
pub(crate) fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1000.0)
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        let minutes = duration.as_secs() / 60;
        format!(
            "{}:{:02}:{:02}",
            minutes / 60,
            minutes % 60,
            duration.as_secs() % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_are_made_again_are_no_more_of_them() {
        let mut stats = ExecutionStats::of_stages(vec![StageStats::default()]);
        let report = Report {
            has_block: true,
            bytes: 10,
            is_last: true,
            ..Report::default()
        };
        stats.add_report((0, 0), &report, false);
        stats.add_report((0, 0), &report, true);
        let stage = &stats.stages[0];
        assert_eq!(
            (stage.blocks, stage.block_bytes, stage.inputs.0),
            (1, 10, 1)
        );
    }
}
