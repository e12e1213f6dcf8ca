//! The loop of a job that was prepared, with its thread, and the handle to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use parking_lot::Mutex;

use super::calls::Calls;
use super::expectations::Expectations;
use super::failed_rows::{DeadLetters, FailedRows};
use super::inputs::Journals;
use super::kept_blocks::KeptBlocks;
use super::main_loop::{ExecutionLoop, Message};
use super::outputs::JobOutputs;
use super::pool::BlockReader;
use super::progress::Progress;
use super::shares::{HeldBytes, StoreShare};
use super::sizes::BatchSizes;
use super::specs::StageStart;
use super::splits::rows_of_all;
use super::storing::Storing;
use super::watch::NodeWatch;
use super::worker_time::WorkerTimes;
use super::{Delivery, ExecuteError, Execution, OutputOfRun, RunningLoop};
use crate::executor::core::Executor;
use crate::executor::pool::{PoolAnswers, StagePool};
use crate::graph::JobPlan;
use crate::ledger::FolderOutput;
use crate::panics;
use crate::sources::Split;
use crate::stats::ExecutionStats;

/// What the loop is made of.
pub(super) struct Launch {
    pub(super) executor: Executor,
    pub(super) pool: Box<dyn StagePool>,
    pub(super) starts: Vec<StageStart>,
    pub(super) splits: Vec<Vec<Split>>,
    pub(super) places: Vec<u64>,
    pub(super) all_rows: Option<u64>,
    pub(super) progress: Option<Progress>,
    pub(super) stats: ExecutionStats,
    pub(super) share: StoreShare,
    pub(super) outputs: JobOutputs,
}

/// A loop that was made and does not run yet, and what its handle knows of it.
pub(super) struct Launched {
    pub(super) execution: ExecutionLoop,
    pub(super) messages: Sender<Message>,
    pub(super) outbox: Receiver<Delivery>,
    pub(super) reader: BlockReader,
    pub(super) outputs: Vec<OutputOfRun>,
    pub(super) held: Arc<HeldBytes>,
}

impl Launched {
    /// Starts the loop's thread.
    pub(super) fn start(self) -> Result<Execution, ExecuteError> {
        let running = self.running();
        let Self {
            execution,
            outbox,
            reader,
            held,
            ..
        } = self;
        start_thread(move || run(execution))?;
        Ok(Execution::new(running, outbox, reader, held))
    }

    /// What its handle knows of the loop.
    pub(super) fn running(&self) -> RunningLoop {
        RunningLoop {
            messages: self.messages.clone(),
            stats: Arc::clone(&self.execution.stats),
            letters: Arc::clone(&self.execution.letters),
            outputs: self.outputs.clone(),
            before: Vec::new(),
            letters_before: Vec::new(),
            is_cancelled: false,
        }
    }
}

/// Runs it on the thread of executors.
pub(super) fn start_thread(work: impl FnOnce() + Send + 'static) -> Result<(), ExecuteError> {
    let thread = std::thread::Builder::new().name("aktis-data".to_owned());
    let started = thread.spawn(work).map(drop);
    started.map_err(|error| ExecuteError::internal(format!("start the executor: {error}")))
}

/// Makes the loop.
pub(super) fn launch(job: &JobPlan, launch: Launch) -> Launched {
    let Launch {
        executor,
        mut pool,
        starts,
        splits,
        places,
        all_rows,
        progress,
        stats,
        share,
        mut outputs,
    } = launch;
    let left = outputs.keeper().map(FolderOutput::left);
    let next_attempt = left.map_or(0, |left| left.next_attempt);
    let journals = journals(job, outputs.keeper());
    let (messages, inbox) = channel();
    let (delivered, outbox) = channel();
    pool.answer_to(answers_to(messages.clone()));
    let reader = pool.reader();
    let watch = watch(pool.as_ref(), messages.clone());
    let storing = storing(pool.as_ref(), messages.clone());
    let outputs_of_run = of_run(&outputs, job);
    let mut expectations = Expectations::new(job, rows_of_all(&splits));
    let before = progress.as_ref().map(Progress::found_before);
    let (judged, left_out) = before.unwrap_or_default();
    expectations.take_up(left.map_or(&[], |left| &left.judged));
    expectations.take_up(&judged);
    let mut failed_rows = failed_rows(job, all_rows, pool.note_prefix(), outputs.keeper_mut());
    if !left_out.is_empty() {
        failed_rows.keep(Some(left_out));
    }
    let held = Arc::clone(share.held());
    let blocks = KeptBlocks::new(share.alone_bytes());
    let kinds = starts.iter().map(|start| start.kinds.len()).sum();
    let execution = ExecutionLoop {
        share,
        executor,
        pool,
        stages: starts,
        splits,
        stats: Arc::new(Mutex::new(stats)),
        messages: inbox,
        delivered,
        outputs,
        places,
        progress,
        journals,
        working: HashMap::new(),
        calls: Calls::default(),
        queued: HashMap::new(),
        blocks,
        storing,
        roles: HashMap::new(),
        next_block: 0,
        next_attempt,
        is_cancelled: false,
        sunk: HashMap::new(),
        given: HashMap::new(),
        readers: Vec::new(),
        failed_rows,
        expectations,
        began: Instant::now(),
        sizes: BatchSizes::new(&job.stages),
        times: WorkerTimes::new(kinds),
        cost_kept: Instant::now(),
        letters: Arc::new(Mutex::new(DeadLetters::default())),
        late_starts: Vec::new(),
        watch,
        failed_stage: None,
    };
    Launched {
        execution,
        messages,
        outbox,
        reader,
        outputs: outputs_of_run,
        held,
    }
}

/// Tells of other nodes, until the execution is over and does not listen any more.
fn watch(pool: &dyn StagePool, news: Sender<Message>) -> NodeWatch {
    NodeWatch::new(pool.look(), move |view| {
        news.send(Message::Nodes(view)).is_ok()
    })
}

/// Puts blocks away that are too many here.
fn storing(pool: &dyn StagePool, news: Sender<Message>) -> Storing {
    let stored = move |block, outcome| {
        // An execution that is over does not listen any more.
        let _ = news.send(Message::Stored(block, outcome));
    };
    Storing::new(pool.put_away(), Arc::new(stored))
}

/// What is known of rows that fail, of an earlier run, too.
fn failed_rows(
    job: &JobPlan,
    rows: Option<u64>,
    note_prefix: String,
    output: Option<&mut FolderOutput>,
) -> FailedRows {
    let mut failed_rows = FailedRows::new(&job.stages, rows, note_prefix);
    let kept = output.filter(|output| output.is_kept());
    failed_rows.keep(kept.map(FolderOutput::take_left_out));
    failed_rows
}

fn answers_to(messages: Sender<Message>) -> PoolAnswers {
    PoolAnswers(Arc::new(move |worker, number, answer| {
        // An execution that is over does not listen any more.
        let _ = messages.send(Message::Answer(worker, number, Box::new(answer)));
    }))
}

/// Where rows are noted, and whose are already.
fn journals(job: &JobPlan, output: Option<&FolderOutput>) -> Journals {
    let left = output.map(FolderOutput::left);
    let output = output.filter(|_| job.notes_rows());
    let counts_from = left.filter(|_| job.counts_rows());
    Journals {
        counts_from: counts_from.map(|left| left.next_attempt),
        folder: output.and_then(FolderOutput::journal_folder),
        inputs: left.map(|left| left.journaled.clone()).unwrap_or_default(),
    }
}

/// What the handle knows of the outputs.
fn of_run(outputs: &JobOutputs, job: &JobPlan) -> Vec<OutputOfRun> {
    let outputs = outputs.0.iter().zip(&job.outputs).enumerate();
    let of_run = outputs.map(|(index, (output, planned))| OutputOfRun {
        schema: planned.schema.clone(),
        seen: Arc::clone(&output.seen),
        stages: job.stages_of(index),
    });
    of_run.collect()
}

/// The loop's thread. A panic in it is a failure that the consumer hears of.
pub(super) fn run(execution: ExecutionLoop) {
    let delivered = execution.delivered.clone();
    let run = || {
        execution.run();
        Ok(())
    };
    if let Err(failure) = panics::caught(|text| panics::defect("the executor", text), run) {
        // The consumer may have gone away.
        let _ = delivered.send(Delivery::End(Err(failure)));
    }
}
