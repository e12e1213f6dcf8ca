//! The actor that runs one stage of a dataset: it reads inputs, takes them through the stage's steps, and hands out
//! blocks one pull at a time, so that it never makes more than somebody asked for.
//!
//! ```text
//!  start(input) ─► source ─► step ─► step ─► ... ─► block cutter ─► Report + block
//!  queue(input)   (parquet,   (filter, project,      (one, or one of each partition)
//!  pull()          numbers,    map)                  or sink      ─► Report
//!                  blocks of                         (count, files)
//!                  each feed)
//! ```
//!
//! An input that is queued follows the one that is under way. Where calls overlap and it was asked for, its first ones begin while the last
//! ones of that are not over, and nothing of it is handed out before. Any other waits, and is begun by the first pull that finds the one
//! before it used up.
//!
//! - STG-1 (nothing-half-done): a worker's files are hidden; they get their names when the whole job is done, and are gone
//!   when their input is dropped.
//! - STG-2 (same-cut-every-time): where blocks are cut depends on the rows alone, never on time, so that a repeated
//!   input can leave out the blocks that were delivered before.
//! - STG-3 (an-end-is-said): the end of the rows is a value; a thread that ends without it has failed.

mod actor;
mod clock;
mod marks;
mod meter;
mod noting;
mod opening;
mod output;
mod running;
mod seen;
mod sizing;

pub use actor::{METHOD_PULL, METHOD_QUEUE, METHOD_READY, METHOD_START, STAGE_WORKER, register};
pub(crate) use seen::SeenColumns;

use clock::WorkerClock;
use marks::Marks;
use meter::StageMeters;
use noting::{Finds, Noted, Noting};
use output::Output;
use running::RunningInput;
use sizing::Sizing;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use aktis_common::error::ErrorCode;
use aktis_common::ids::NodeId;
use aktis_worker::{Runtime, TaskFailure, Value};
use bytes::Bytes;

use crate::block::EncodedBlock;
use crate::graph::{MapCall, Operator, StageTask};
use crate::operators::even::EvenRows;
use crate::operators::failing::Watch;
use crate::operators::failing::notes::{HeadNotes, NoNotes, Notes};
use crate::operators::fragment::{HotKeys, SpillPlace};
use crate::operators::function::{self, SharedFunction};
use crate::sinks::Written;
use crate::sources::{self, InputBlock, Opened, SourceReader};
use crate::wire::decode_task;
use crate::wire::spec::{InputSpec, Report, StageSpec};
use crate::wire::time::ReadyReport;

/// One worker of a stage. Needs nothing of a cluster: tests call it directly.
pub struct StageWorker {
    task: StageTask,
    /// What holds the references of its functions, until they are loaded.
    captured: Vec<Value>,
    functions: Option<Vec<Option<SharedFunction>>>,
    reader: Box<dyn SourceReader>,
    /// Bytes that the reader had read when it was last asked.
    reported_bytes: u64,
    /// The one that is pulled, and one that follows whose calls have begun.
    running: VecDeque<RunningInput>,
    /// One that follows and has not begun.
    waiting: Option<(InputSpec, Vec<InputBlock>)>,
    /// Where relational work spills; `None`: in a temporary folder.
    spill: Option<SpillPlace>,
    /// What it is called where people read of it.
    name: Arc<str>,
    /// Its node, if it is one of a cluster.
    node_id: Bytes,
    /// Where it leaves notes of what it may die of.
    notes: Arc<dyn Notes>,
    /// Ends it if a call takes too long.
    watch: Arc<Watch>,
    /// Finds how many rows batches should have.
    sizing: Sizing,
    clock: WorkerClock,
}

impl StageWorker {
    /// A worker for the stage; functions are loaded by the first call.
    pub fn new(spec: StageSpec, captured: Vec<Value>) -> Result<Self, TaskFailure> {
        let task = decode_task(spec)?;
        Ok(Self {
            sizing: Sizing::new(&task.steps),
            reader: sources::reader_of(&task.source)?,
            task,
            captured,
            functions: None,
            reported_bytes: 0,
            running: VecDeque::new(),
            waiting: None,
            spill: None,
            name: format!("process {}", std::process::id()).into(),
            node_id: Bytes::new(),
            notes: Arc::new(NoNotes),
            watch: Arc::default(),
            clock: WorkerClock::new(),
        })
    }

    /// Notes of what it may die of are kept by the head of the cluster.
    fn of_cluster(mut self, runtime: &Runtime) -> Self {
        self.node_id = runtime.greeting().node_id.clone();
        if let Ok(node) = NodeId::from_bytes(&self.node_id) {
            self.name = format!("process {} on node {node}", std::process::id()).into();
        }
        self.notes = Arc::new(HeadNotes(runtime.clone()));
        self.clock.held_before(runtime.assignment().held_before);
        self
    }

    /// Relational work puts there what it has no memory for.
    fn spilling_into(mut self, place: SpillPlace) -> Self {
        self.spill = Some(place);
        self
    }

    /// Loads the functions, which for classes means constructing them.
    pub fn ready(&mut self) -> Result<ReadyReport, TaskFailure> {
        let began = Instant::now();
        self.load_functions()?;
        Ok(ReadyReport {
            node_id: self.node_id.clone(),
            ..self.clock.ready(began.elapsed())
        })
    }

    /// Bytes read from storage over the worker's life.
    pub fn bytes_read(&self) -> u64 {
        self.reader.bytes_read()
    }

    /// Begins an input. What was under way is forgotten.
    pub fn start(&mut self, input: InputSpec, blocks: Vec<InputBlock>) -> Result<(), TaskFailure> {
        self.running.clear();
        self.waiting = None;
        self.run(input, blocks)
    }

    fn run(&mut self, input: InputSpec, blocks: Vec<InputBlock>) -> Result<(), TaskFailure> {
        let running = self.open_input(input, blocks)?;
        self.running.push_back(running);
        Ok(())
    }

    fn open_input(
        &mut self,
        mut input: InputSpec,
        blocks: Vec<InputBlock>,
    ) -> Result<RunningInput, TaskFailure> {
        let functions = self.load_functions()?.clone();
        self.sizing.begin(&input);
        let mut meters = StageMeters::new(functions.clone());
        let opened = Opened {
            position: std::mem::take(&mut input.position),
            blocks,
        };
        let failing = self.failing(&mut input, &opened)?;
        let (streams, bounds) = match &self.task.group {
            Some(group) => self.open_group(group, &input, opened, &failing, &mut meters)?,
            None => self.open_feeds(opened, &input, &mut meters)?,
        };
        let hot_keys = input.is_piece.then(HotKeys::default);
        let stream = self.open_steps(
            streams,
            functions,
            &input,
            hot_keys.as_ref(),
            &failing,
            &mut meters,
        )?;
        let written = Written {
            sequence: input.output.unwrap_or(input.sequence),
            attempt: input.attempt,
        };
        let output = Output::open(&self.task, written, bounds)?;
        let finds = failing.as_ref().map(|(failing, _)| Finds {
            input: Arc::clone(failing),
            steps_before: input.steps_before,
        });
        let noting = (!input.journal.is_empty()).then(|| {
            let path = PathBuf::from(&input.journal);
            Noting::new(path, input.noted_rows, input.spans).with_finds(finds)
        });
        let is_evened = self.task.even_rows > 0 && !matches!(output, Output::Sink(_));
        Ok(RunningInput {
            stream,
            output,
            even: is_evened.then(|| EvenRows::new(self.task.even_rows)),
            meters,
            hot_keys,
            seen: SeenColumns::default(),
            failing: failing.map(|(input, _)| input),
            has_told_limit: false,
            skip_blocks: input.skip_blocks,
            skip_rows: input.skip_rows,
            wanted_blocks: input.wanted_blocks.into_iter().collect(),
            next_block: 0,
            rows_left: self.task.row_limit,
            is_at_end: false,
            noted: Noted::new(std::mem::take(&mut input.noted)),
            noting,
            made_rows: input.made_rows,
            marks: input.is_marked.then(|| Marks::new(input.done)),
            asked: None,
            reading: self.reader.asked(),
        })
    }

    /// Bytes read from storage since this was last asked.
    fn bytes_read_since_report(&mut self) -> u64 {
        let all = self.bytes_read();
        all - std::mem::replace(&mut self.reported_bytes, all)
    }

    /// Begins an input, and pulls once.
    pub fn begin(
        &mut self,
        input: InputSpec,
        blocks: Vec<InputBlock>,
    ) -> Result<(Report, Option<EncodedBlock>), TaskFailure> {
        let began = Instant::now();
        self.start(input, blocks)?;
        self.pull_since(began)
    }

    /// Adds an input that follows the one that is under way, and pulls that once.
    pub fn queue(
        &mut self,
        input: InputSpec,
        blocks: Vec<InputBlock>,
    ) -> Result<(Report, Option<EncodedBlock>), TaskFailure> {
        let began = Instant::now();
        let first = self.running.front();
        if first.is_some_and(|first| first.asked.is_some()) {
            self.run(input, blocks)?;
        } else {
            self.waiting = Some((input, blocks));
        }
        self.pull_since(began)
    }

    /// Goes on until there is a block, or the input is used up, or there is progress to tell.
    pub fn pull(&mut self) -> Result<(Report, Option<EncodedBlock>), TaskFailure> {
        self.pull_since(Instant::now())
    }

    /// The same; `began`: when it was called.
    fn pull_since(
        &mut self,
        began: Instant,
    ) -> Result<(Report, Option<EncodedBlock>), TaskFailure> {
        if self.running.is_empty()
            && let Some((input, blocks)) = self.waiting.take()
        {
            self.run(input, blocks)?;
        }
        let read_before = self.bytes_read_since_report();
        let mut running = self.running.iter_mut();
        let (first, next) = (running.next(), running.next());
        let first = first.ok_or_else(|| {
            TaskFailure::new(
                ErrorCode::Internal,
                "a stage worker was pulled without an input",
            )
        })?;
        let outcome = first.advance(next);
        let read_by_group = first.meters.bytes_read_by_group();
        match &outcome {
            Ok((report, _)) if report.is_last => drop(self.running.pop_front()),
            Ok(_) => {}
            // The functions have forgotten all calls.
            Err(_) => {
                self.running.clear();
                self.waiting = None;
            }
        }
        let (mut report, block) = outcome?;
        report.bytes_read = read_before + read_by_group + self.bytes_read_since_report();
        report.sizes = self.sizing.tell();
        report.time = Some(self.clock.pulled(began));
        Ok((report, block))
    }

    fn load_functions(&mut self) -> Result<&Vec<Option<SharedFunction>>, TaskFailure> {
        if self.functions.is_none() {
            let loaded: Result<Vec<_>, TaskFailure> = self
                .task
                .steps
                .iter()
                .map(|step| match step {
                    Operator::Map(call) => {
                        let captured = captured_of(call, &self.captured)?;
                        function::load_of_step(call, captured).map(Some)
                    }
                    _ => Ok(None),
                })
                .collect();
            self.functions = Some(loaded?);
        }
        Ok(self.functions.as_ref().expect("loaded just above"))
    }
}

/// What holds the references of the step's function.
fn captured_of<'a>(call: &MapCall, all: &'a [Value]) -> Result<Option<&'a Value>, TaskFailure> {
    let Some(index) = call.captured else {
        return Ok(None);
    };
    let value = all.get(index as usize).ok_or_else(|| {
        TaskFailure::new(
            ErrorCode::Internal,
            "a stage worker was made without the references of its function",
        )
    })?;
    Ok(Some(value))
}

#[cfg(test)]
mod exchange_tests;
#[cfg(test)]
mod failing_tests;
#[cfg(test)]
mod mixed_tests;
#[cfg(test)]
mod queued_tests;
#[cfg(test)]
mod tests;
