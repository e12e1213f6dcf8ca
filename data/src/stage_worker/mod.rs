//! The actor that runs one stage of a dataset: it reads inputs, takes them through the stage's steps, and hands out
//! blocks one pull at a time, so that it never makes more than somebody asked for.
//!
//! ```text
//!  start(input) ─► source ─► step ─► step ─► ... ─► block cutter ─► Report + block
//!  pull()         (parquet,   (filter, project,      (one, or one of each partition)
//!                  numbers,    map)                  or sink      ─► Report
//!                  blocks of                         (count, files)
//!                  each feed)
//! ```
//!
//! - STG-1 (nothing-half-done): a worker's files are hidden; they get their names when the whole job is done, and are gone
//!   when their input is dropped.
//! - STG-2 (same-cut-every-time): where blocks are cut depends on the rows alone, never on time, so that a repeated
//!   input can leave out the blocks that were delivered before.
//! - STG-3 (an-end-is-said): the end of the rows is a value; a thread that ends without it has failed.

mod clock;
mod marks;
mod meter;
mod noting;
mod output;
mod running;
mod seen;
mod sizing;

pub(crate) use seen::SeenColumns;

use clock::WorkerClock;
use marks::Marks;
use meter::StageMeters;
use noting::{Noted, Noting};
use output::Output;
use running::RunningInput;
use sizing::Sizing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use aktis_common::error::ErrorCode;
use aktis_common::ids::NodeId;
use aktis_worker::native::{CallContext, NativeActor, NativeRegistry};
use aktis_worker::{Runtime, TaskFailure, Value};
use arrow::array::RecordBatch;
use bytes::Bytes;
use prost::Message;

use crate::graph::{GroupTask, MapCall, Operator, PartitionBy, StageTask};
use crate::operators::expect::{self, Judge};
use crate::operators::failing::notes::{HeadNotes, NoNotes, Notes};
use crate::operators::failing::{FailingInput, Guard, Watch};
use crate::operators::feeds::{self, FeedInput, FeedStream};
use crate::operators::fragment::{Environment, HotKeys, SpillPlace};
use crate::operators::function::{self, SharedFunction};
use crate::operators::map::Circumstances;
use crate::operators::relational::first_row_of;
use crate::operators::stream::{BatchStream, Prefetched};
use crate::operators::{fragment, group, map, relational, sample};
use crate::sinks::Written;
use crate::sources::{self, Opened, Places, SourceReader};
use crate::wire::decode_task;
use crate::wire::spec::{InputSpec, Report, StageSpec};
use crate::wire::time::ReadyReport;

/// The actor's name in the registry.
pub const STAGE_WORKER: &str = "aktis.data.StageWorker";
/// Loads the functions of the stage. No result but success.
pub const METHOD_READY: &str = "ready";
/// Begins an input and pulls once.
pub const METHOD_START: &str = "start";
/// Pulls once.
pub const METHOD_PULL: &str = "pull";

/// Rows that do not fit into the memory of relational work lie here, in the folder that the node spills to: they go with it.
const SPILL_FOLDER: &str = "rows";

/// Adds the stage worker to the actors that a worker process can run.
#[must_use]
pub fn register(registry: NativeRegistry) -> NativeRegistry {
    registry.with_actor(STAGE_WORKER, |context, input, captured| {
        let spec = StageSpec::decode(&*input.inband).map_err(|error| broken_message(&error))?;
        let node = context.runtime.greeting();
        // It may wait for its dataset's consumer for as long as that likes.
        context.runtime.rest_when_idle();
        let worker = StageWorker::new(spec, captured)?.of_cluster(context.runtime);
        Ok(Box::new(worker.spilling_into(SpillPlace {
            folder: Path::new(&node.spill_dir).join(SPILL_FOLDER),
            min_free_fraction: node.min_free_disk_fraction,
            min_free_bytes: node.min_free_disk_bytes,
        })))
    })
}

fn broken_message(error: &prost::DecodeError) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::Internal,
        format!("read a message for a stage worker: {error}"),
    )
}

/// One worker of a stage. Needs nothing of a cluster: tests call it directly.
pub struct StageWorker {
    task: StageTask,
    /// What holds the references of its functions, until they are loaded.
    captured: Vec<Value>,
    functions: Option<Vec<Option<SharedFunction>>>,
    reader: Box<dyn SourceReader>,
    /// Bytes that the reader had read when it was last asked.
    reported_bytes: u64,
    running: Option<RunningInput>,
    /// Where relational work spills; `None`: in a temporary folder.
    spill: Option<SpillPlace>,
    /// What it is called where people read of it.
    name: Arc<str>,
    /// Where it leaves notes of what it may die of.
    notes: Arc<dyn Notes>,
    /// Ends it if a call takes too long.
    watch: Arc<Watch>,
    /// Finds how many rows batches should have.
    sizing: Sizing,
    clock: WorkerClock,
}

/// What looks after functions, and where the rows of the input lie.
type Failing = (Arc<FailingInput>, Option<Arc<Places>>);

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
            running: None,
            spill: None,
            name: format!("process {}", std::process::id()).into(),
            notes: Arc::new(NoNotes),
            watch: Arc::default(),
            clock: WorkerClock::new(),
        })
    }

    /// Notes of what it may die of are kept by the head of the cluster.
    fn of_cluster(mut self, runtime: &Runtime) -> Self {
        let node = NodeId::from_bytes(&runtime.greeting().node_id);
        if let Ok(node) = node {
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

    /// What relational work over rows of this partition may use.
    fn environment(&self, partition: u32, hot_keys: Option<&HotKeys>) -> Environment {
        Environment {
            memory_bytes: usize::try_from(self.task.memory_bytes).unwrap_or(usize::MAX),
            spill: self.spill.clone(),
            partition,
            hot_keys: hot_keys.cloned(),
        }
    }

    /// Loads the functions, which for classes means constructing them.
    pub fn ready(&mut self) -> Result<ReadyReport, TaskFailure> {
        let began = Instant::now();
        self.load_functions()?;
        Ok(self.clock.ready(began.elapsed()))
    }

    /// Bytes read from storage over the worker's life.
    pub fn bytes_read(&self) -> u64 {
        self.reader.bytes_read()
    }

    /// Begins an input. What was under way is forgotten.
    pub fn start(&mut self, mut input: InputSpec, blocks: Vec<Bytes>) -> Result<(), TaskFailure> {
        self.running = None;
        let functions = self.load_functions()?.clone();
        self.sizing.begin(&input);
        let mut meters = StageMeters::new(functions.clone());
        let opened = Opened {
            position: std::mem::take(&mut input.position),
            blocks,
        };
        let failing = self.failing(&mut input, &opened)?;
        let (streams, bounds) = match &self.task.group {
            Some(group) => self.open_group(group, opened, &failing, &mut meters)?,
            None => {
                self.open_feeds(opened, &input.feed_blocks, &input.feed_schemas, &mut meters)?
            }
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
        self.running = Some(RunningInput {
            stream,
            output,
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
            noting: (!input.journal.is_empty())
                .then(|| Noting::new(PathBuf::from(&input.journal), input.noted_rows, input.spans)),
            made_rows: input.made_rows,
            marks: input.is_marked.then(|| Marks::new(input.done)),
        });
        Ok(())
    }

    /// What looks after the functions of the stage while they work on this input, and where its rows lie.
    fn failing(
        &self,
        input: &mut InputSpec,
        opened: &Opened,
    ) -> Result<Option<Failing>, TaskFailure> {
        let is_guarded = |step: &Operator| match step {
            Operator::Map(call) => call.is_guarded(),
            Operator::Expect(_) => true,
            _ => false,
        };
        let members = self.task.group.iter().flat_map(|group| &group.members);
        let mut steps = members
            .flat_map(|member| &member.steps)
            .chain(&self.task.steps);
        if !steps.any(is_guarded) {
            return Ok(None);
        }
        let is_one = self.task.group.is_none() && input.feed_blocks.len() < 2;
        let places = if is_one {
            self.reader.places(&opened.position)?
        } else {
            None
        };
        let failing = FailingInput::new(
            input.failing.take().unwrap_or_default(),
            input.sequence,
            Arc::clone(&self.name),
            Arc::clone(&self.notes),
            Arc::clone(&self.watch),
            !input.wanted_blocks.is_empty(),
        );
        Ok(Some((Arc::new(failing), places.map(Arc::new))))
    }

    /// The rows of the feeds, through all steps.
    fn open_steps(
        &self,
        streams: Vec<FeedStream>,
        functions: Vec<Option<SharedFunction>>,
        input: &InputSpec,
        hot_keys: Option<&HotKeys>,
        failing: &Option<Failing>,
        meters: &mut StageMeters,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let mut position = Some(input.noted_rows);
        let is_noted = !input.journal.is_empty();
        let is_careful = failing
            .as_ref()
            .is_some_and(|(failing, _)| failing.spec.is_careful);
        let mut steps = self.task.steps.iter().zip(functions).enumerate();
        let mut places = failing.as_ref().and_then(|(_, places)| places.clone());
        let mut stream = match self.task.steps.first() {
            Some(Operator::Relational(work)) if work.takes_feeds() => {
                steps.next();
                let environment = self.environment(input.partition, hot_keys);
                let feeds = streams.into_iter().map(feeds::told).collect();
                meters.wrap_step(0, fragment::open(work, feeds, environment))
            }
            _ => feeds::one_after_another(streams),
        };
        for (index, (step, function)) in steps {
            let next = match step {
                Operator::Map(call) => {
                    let function = function.expect("every map's function was loaded");
                    if position.is_some() && input.noted_rows > 0 {
                        stream = fragment::skip::open(vec![0, input.noted_rows], stream);
                    }
                    if position.is_some() && !input.done.is_empty() {
                        stream = fragment::skip::open(input.done.clone(), stream);
                    }
                    let position = position.take();
                    let guarded = failing.as_ref().filter(|_| call.is_guarded());
                    let number = u32::try_from(index).unwrap_or(u32::MAX);
                    let guard = guarded.map(|(failing, _)| {
                        let behind = &self.task.steps[index + 1..];
                        Guard::new(failing, number, call, places.clone(), behind)
                    });
                    let circumstances = Circumstances {
                        block_bytes: self.task.block_bytes,
                        input_rows: input.rows,
                        position,
                        is_noted,
                        is_careful,
                        guard,
                        frame_rows: sizing::frame_rows(input, number),
                        sizer: self.sizing.of(number),
                    };
                    map::open(call, function, stream, circumstances)
                }
                Operator::Sample { share, seed } => {
                    sample::open(f64::from_bits(*share), *seed, input.sequence, stream)
                }
                Operator::Relational(work) => {
                    let environment = self.environment(input.partition, None);
                    fragment::open(work, vec![stream], environment)
                }
                Operator::Expect(expectation) => {
                    let (failing, _) = failing.as_ref().expect("made where rows are judged");
                    let (behind, number) = (&self.task.steps[index + 1..], meters.place_of(index));
                    let judge = Judge::new(failing, number, expectation, places.clone(), behind);
                    expect::open(judge, stream, first_row_of(input.sequence))
                }
                batchwise => relational::open(batchwise.clone(), stream, input.sequence),
            };
            stream = meters.wrap_step(index, next);
            if !step.keeps_rows() {
                places = places.map(|places| Arc::new(Places::clone(&places).inexact()));
            }
        }
        Ok(stream)
    }

    /// The rows of stages that run here together.
    fn open_group(
        &self,
        group: &GroupTask,
        opened: Opened,
        failing: &Option<Failing>,
        meters: &mut StageMeters,
    ) -> Result<(Vec<FeedStream>, Vec<RecordBatch>), TaskFailure> {
        let failing = failing.as_ref().map(|(failing, _)| failing);
        let (stream, steps) = group::open(group, opened, &self.environment(0, None), failing)?;
        meters.count_group(steps);
        let schema = None;
        Ok((vec![FeedStream { stream, schema }], Vec::new()))
    }

    /// The rows of every feed, and the bounds of partitions.
    fn open_feeds(
        &mut self,
        opened: Opened,
        blocks: &[u32],
        schemas: &[Bytes],
        meters: &mut StageMeters,
    ) -> Result<(Vec<FeedStream>, Vec<RecordBatch>), TaskFailure> {
        let mut inputs = feeds::apart(opened, blocks, schemas)?;
        let bounds = self.read_bounds(&mut inputs)?;
        let mut streams = Vec::with_capacity(inputs.len());
        for (opened, schema) in inputs {
            let stream = self.open(opened, meters)?;
            streams.push(FeedStream { stream, schema });
        }
        Ok((streams, bounds))
    }

    /// Takes out the feed that brings the bounds of partitions, and reads it.
    fn read_bounds(&mut self, feeds: &mut Vec<FeedInput>) -> Result<Vec<RecordBatch>, TaskFailure> {
        let by = self
            .task
            .partitioner
            .as_ref()
            .map(|partitioner| &partitioner.by);
        let Some(&PartitionBy::Range { bounds_feed, .. }) = by else {
            return Ok(Vec::new());
        };
        if bounds_feed as usize >= feeds.len() {
            return Err(TaskFailure::new(
                ErrorCode::Internal,
                "an input came without the bounds of its partitions",
            ));
        }
        let (opened, _) = feeds.remove(bounds_feed as usize);
        let mut bounds = self.reader.open(opened, None)?;
        let mut batches = Vec::new();
        while let Some(batch) = bounds.next()? {
            batches.push(batch);
        }
        Ok(batches)
    }

    /// The rows of an input, read ahead where that is worth a thread.
    fn open(
        &mut self,
        input: Opened,
        meters: &mut StageMeters,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let stream = self.reader.open(input, self.task.row_limit_of_source())?;
        let stream = meters.wrap_source(stream);
        let ahead = self.task.prefetch_batches as usize;
        if ahead == 0 || !self.reader.may_run_ahead() {
            return Ok(stream);
        }
        let prefetched: Box<dyn BatchStream> = Box::new(Prefetched::spawn(stream, ahead)?);
        Ok(meters.wrap_wait(prefetched))
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
        blocks: Vec<Bytes>,
    ) -> Result<(Report, Option<Bytes>), TaskFailure> {
        let began = Instant::now();
        self.start(input, blocks)?;
        self.pull_since(began)
    }

    /// Goes on until there is a block, or the input is used up, or there is progress to tell.
    pub fn pull(&mut self) -> Result<(Report, Option<Bytes>), TaskFailure> {
        self.pull_since(Instant::now())
    }

    /// The same; `began`: when it was called.
    fn pull_since(&mut self, began: Instant) -> Result<(Report, Option<Bytes>), TaskFailure> {
        let read_before = self.bytes_read_since_report();
        let running = self.running.as_mut().ok_or_else(|| {
            TaskFailure::new(
                ErrorCode::Internal,
                "a stage worker was pulled without an input",
            )
        })?;
        let outcome = running.advance();
        let read_by_group = running.meters.bytes_read_by_group();
        let finished = match &outcome {
            Ok((report, _)) => report.is_last,
            Err(_) => true,
        };
        if finished {
            self.running = None;
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

impl NativeActor for StageWorker {
    fn call(
        &mut self,
        _context: &CallContext<'_>,
        method: &str,
        input: Value,
        dependencies: Vec<Value>,
    ) -> Result<Vec<Value>, TaskFailure> {
        match method {
            METHOD_READY => {
                let ready = self.ready()?;
                Ok(vec![Value::native(ready.encode_to_vec())])
            }
            METHOD_START => {
                let spec =
                    InputSpec::decode(&*input.inband).map_err(|error| broken_message(&error))?;
                let blocks = dependencies.into_iter().map(block_bytes).collect();
                self.begin(spec, blocks).map(reply)
            }
            METHOD_PULL => self.pull().map(reply),
            other => Err(TaskFailure::new(
                ErrorCode::Internal,
                format!("a stage worker has no method {other:?}"),
            )),
        }
    }
}

/// The Arrow stream in a block's value.
fn block_bytes(value: Value) -> Bytes {
    let inband = value.inband;
    value
        .buffers
        .into_iter()
        .next()
        .unwrap_or_else(|| inband.into_bytes())
}

fn reply((report, block): (Report, Option<Bytes>)) -> Vec<Value> {
    let report = Value::native(report.encode_to_vec());
    vec![
        report,
        block.map_or_else(|| Value::native(Bytes::new()), Value::arrow_stream),
    ]
}

#[cfg(test)]
mod exchange_tests;
#[cfg(test)]
mod failing_tests;
#[cfg(test)]
mod tests;
