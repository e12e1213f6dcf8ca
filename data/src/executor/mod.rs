//! Running a dataset: one thread per execution, and the handle to it.

mod aside;
mod budgets;
mod calls;
pub mod core;
mod ending;
mod expectations;
mod failed_rows;
mod grouping;
mod inputs;
mod kept_blocks;
mod launch;
mod legs;
mod losses;
mod main_loop;
pub(crate) mod origins;
mod outputs;
pub mod pool;
mod prepare;
mod progress;
#[cfg(test)]
mod range_tests;
mod reports;
mod shares;
mod sizes;
mod specs;
mod splits;
mod starts;
mod statistics;
mod storing;
mod watch;
mod worker_time;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;

use crate::block::{self, BlockHandle};
use crate::error::PlanError;
use crate::executor::core::event::BlockKey;
use crate::executor::pool::{BlockReader, StagePool};
use crate::graph::{FitError, JobOutput};
#[cfg(test)]
use crate::plan::Dataset;
use crate::plan::FailurePolicy;
#[cfg(test)]
use crate::sinks::Sink;
use crate::stage_worker::SeenColumns;
use crate::stats::ExecutionStats;
use failed_rows::DeadLetters;
pub use failed_rows::LetterBlock;
use losses::is_loss;
use main_loop::Message;
use shares::HeldBytes;

/// How often one block is made again, while nodes die.
const MAX_RESTORES: usize = 3;

/// How to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionOptions {
    /// Whether rows come in the order of the source.
    pub keep_order: bool,
    /// Bytes of blocks that may wait or be read; `None`: half of the object store.
    pub budget_bytes: Option<u64>,
    /// Size of blocks; `None`: as the budget allows, at most 32 MiB.
    pub block_bytes: Option<u64>,
    /// Workers that may die over one input before it is given up.
    pub max_deaths: u32,
    /// What becomes of rows that functions fail for, where their steps do not say.
    pub failures: FailurePolicy,
}

/// A folder for rows that are put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LettersFolder {
    /// Its absolute path.
    pub folder: String,
    /// What the names of its files begin with; no other job may use it.
    pub prefix: String,
}

impl Default for ExecutionOptions {
    fn default() -> Self {
        Self {
            keep_order: true,
            budget_bytes: None,
            block_bytes: None,
            max_deaths: 3,
            failures: FailurePolicy::default(),
        }
    }
}

/// Why a dataset could not be run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The plan is wrong.
    #[error("{0}")]
    Plan(#[source] PlanError),
    /// The cluster can never run it.
    #[error("{0}")]
    Fit(#[source] FitError),
    /// It failed while it ran.
    #[error("{0}")]
    Failed(#[source] TaskFailure),
}

impl ExecuteError {
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::Failed(TaskFailure::new(ErrorCode::Internal, message))
    }
}

/// Rows that the consumer may read.
#[derive(Debug, Clone)]
pub struct DeliveredBlock {
    key: BlockKey,
    handle: BlockHandle,
    first_row: u64,
    rows: u64,
    bytes: u64,
}

impl DeliveredBlock {
    /// Where the block lies.
    pub fn handle(&self) -> &BlockHandle {
        &self.handle
    }

    /// The first of its rows that are meant.
    pub fn first_row(&self) -> u64 {
        self.first_row
    }

    /// Rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of these rows in memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What [`Execution::next`] found.
#[derive(Debug)]
pub enum Next {
    /// Rows.
    Block(DeliveredBlock),
    /// Nothing yet.
    Pending,
    /// It is over, well or badly.
    End(Result<(), TaskFailure>),
}

/// A running dataset. Dropping it ends it.
pub struct Execution {
    running: Arc<Mutex<RunningLoop>>,
    delivered: Mutex<Receiver<Delivery>>,
    outcome: Mutex<Option<Result<(), TaskFailure>>>,
    /// The block that the consumer got last.
    unread: Mutex<Option<BlockKey>>,
    reader: BlockReader,
    /// Rows that were not read yet count against other executions, also when all are made.
    held: Arc<HeldBytes>,
}

/// The loop that runs; of a job in legs one after the other.
struct RunningLoop {
    messages: Sender<Message>,
    stats: Arc<Mutex<ExecutionStats>>,
    letters: Arc<Mutex<DeadLetters>>,
    outputs: Vec<OutputOfRun>,
    /// What legs did that are over.
    before: Vec<ExecutionStats>,
    /// What these have put aside, and the outputs that it was on the way to, if the loop has not got it.
    letters_before: Vec<(BTreeSet<usize>, Vec<LetterBlock>)>,
    /// Nobody wants what legs would do that are still to come.
    is_cancelled: bool,
}

/// What is known of one output.
#[derive(Clone)]
struct OutputOfRun {
    schema: Option<SchemaRef>,
    seen: Arc<Mutex<SeenColumns>>,
    stages: BTreeSet<usize>,
}

/// From the loop to the consumer.
pub(crate) enum Delivery {
    Block(DeliveredBlock),
    End(Result<(), TaskFailure>),
}

impl Execution {
    /// Makes `outputs` on `pool`, as one job.
    pub fn start_all(
        outputs: &[JobOutput],
        pool: Box<dyn StagePool>,
        options: &ExecutionOptions,
    ) -> Result<Self, ExecuteError> {
        prepare::start(outputs, pool, options)
    }

    /// Runs `dataset` on `pool` into `sink`.
    #[cfg(test)]
    pub(crate) fn start(
        dataset: &Dataset,
        sink: &Sink,
        pool: Box<dyn StagePool>,
        options: &ExecutionOptions,
    ) -> Result<Self, ExecuteError> {
        let output = JobOutput::new(dataset.clone(), sink.clone());
        Self::start_all(&[output], pool, options)
    }

    fn new(
        running: RunningLoop,
        delivered: Receiver<Delivery>,
        reader: BlockReader,
        held: Arc<HeldBytes>,
    ) -> Self {
        Self {
            running: Arc::new(Mutex::new(running)),
            delivered: Mutex::new(delivered),
            outcome: Mutex::new(None),
            unread: Mutex::new(None),
            reader,
            held,
        }
    }

    /// A loop that has ended does not listen any more.
    fn tell(&self, message: Message) {
        let _ = self.running.lock().messages.send(message);
    }

    /// The columns of the first output, if they were known before it ran.
    pub fn schema(&self) -> Option<SchemaRef> {
        self.running.lock().outputs[0].schema.clone()
    }

    /// The columns of what came to an output so far, also if these were no rows: by name, of types that all of them fit into.
    pub fn seen_schema(&self, output: usize) -> Option<SchemaRef> {
        let running = self.running.lock();
        let seen = Arc::clone(&running.outputs.get(output)?.seen);
        drop(running);
        let seen = seen.lock();
        seen.schema()
    }

    /// The next rows; waits for at most `patience`. Whoever asks for them has read those before: until then they can be
    /// made again, if their node dies.
    pub fn next(&self, patience: Duration) -> Next {
        if let Some(outcome) = &*self.outcome.lock() {
            return Next::End(outcome.clone());
        }
        if let Some(read) = self.unread.lock().take() {
            // The loop may have ended already; then nobody counts any more.
            self.tell(Message::Taken(read));
        }
        let delivery = self.delivered.lock().recv_timeout(patience);
        match delivery {
            Ok(Delivery::Block(block)) => {
                *self.unread.lock() = Some(block.key);
                Next::Block(block)
            }
            Ok(Delivery::End(outcome)) => {
                self.held.set(0);
                *self.outcome.lock() = Some(outcome.clone());
                Next::End(outcome)
            }
            Err(RecvTimeoutError::Timeout) => Next::Pending,
            Err(RecvTimeoutError::Disconnected) => Next::End(Err(TaskFailure::new(
                ErrorCode::Internal,
                "the executor ended silently",
            ))),
        }
    }

    /// Reads the rows of a block, in place where the store allows it. Waits for them to be made again if their node died.
    pub fn read(&self, block: &DeliveredBlock) -> Result<Vec<RecordBatch>, TaskFailure> {
        let mut read = (self.reader)(&block.handle);
        for _ in 0..MAX_RESTORES {
            read = match read {
                Err(failure) if is_loss(failure.code) => {
                    let handle = self.restored(block.key, failure)?;
                    (self.reader)(&handle)
                }
                done => done,
            };
        }
        let stream = read?;
        let (_, batches) = block::decode(stream).map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("read a block: {error}"))
        })?;
        Ok(slice(batches, block.first_row, block.rows))
    }

    /// Where the block lies when it was made again; `failure`: why it cannot be read.
    fn restored(&self, block: BlockKey, failure: TaskFailure) -> Result<BlockHandle, TaskFailure> {
        let (reply, restored) = channel();
        // A loop that has ended drops the reply.
        self.tell(Message::Lost(block, reply));
        restored
            .recv()
            .map_err(|_| match self.delivered.lock().try_iter().last() {
                // The job failed meanwhile: that says more.
                Some(Delivery::End(Err(outcome))) => {
                    *self.outcome.lock() = Some(Err(outcome.clone()));
                    outcome
                }
                _ => failure,
            })
    }

    /// All rows that are left. Blocks.
    pub fn collect(&self) -> Result<Vec<RecordBatch>, TaskFailure> {
        let mut batches = Vec::new();
        loop {
            match self.next(Duration::from_secs(3600)) {
                Next::Block(block) => batches.extend(self.read(&block)?),
                Next::Pending => {}
                Next::End(outcome) => return outcome.map(|()| batches),
            }
        }
    }

    /// Waits for the end, throwing rows away. Blocks.
    pub fn wait(&self) -> Result<(), TaskFailure> {
        loop {
            if let Next::End(outcome) = self.next(Duration::from_secs(3600)) {
                return outcome;
            }
        }
    }

    /// Rows that functions failed for on the way to an output and that were put aside, of inputs that are used up; after the end, all
    /// there are.
    pub fn dead_letters(&self, output: usize) -> Vec<LetterBlock> {
        let running = self.running.lock();
        let Some(OutputOfRun { stages, .. }) = running.outputs.get(output) else {
            return Vec::new();
        };
        let letters = running.letters.lock();
        let blocks = letters.blocks().iter();
        let of_output = blocks.filter(|block| stages.contains(&block.stage));
        let before = running.letters_before.iter();
        let before = before.filter(|(outputs, _)| outputs.contains(&output));
        let before = before.flat_map(|(_, blocks)| blocks);
        before.chain(of_output).cloned().collect()
    }

    /// The rows of such a block.
    pub fn read_letters(&self, letters: &LetterBlock) -> Result<Vec<RecordBatch>, TaskFailure> {
        let (_, batches) = block::decode((self.reader)(&letters.handle)?).map_err(|error| {
            TaskFailure::new(
                ErrorCode::Internal,
                format!("read rows that were put aside: {error}"),
            )
        })?;
        Ok(batches)
    }

    /// Ends it.
    pub fn cancel(&self) {
        let mut running = self.running.lock();
        running.is_cancelled = true;
        // A loop that has ended needs no telling.
        let _ = running.messages.send(Message::Cancel);
    }

    /// What it has done so far.
    pub fn stats(&self) -> ExecutionStats {
        let running = self.running.lock();
        let mut stats = running.stats.lock().clone();
        stats.elapsed = stats.elapsed_so_far();
        stats.after(&running.before)
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Rows `first..first + rows` of `batches`.
fn slice(batches: Vec<RecordBatch>, first: u64, rows: u64) -> Vec<RecordBatch> {
    let (mut skip, mut left) = (first, rows);
    let mut result = Vec::new();
    for batch in batches {
        let length = batch.num_rows() as u64;
        let dropped = skip.min(length);
        let taken = left.min(length - dropped);
        skip -= dropped;
        left -= taken;
        if taken > 0 {
            let index = |rows| usize::try_from(rows).expect("no more than the batch has");
            result.push(batch.slice(index(dropped), index(taken)));
        }
    }
    result
}
