//! Everything between a dataset and its loop: stages that fit, splits, sizes, specs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use aktis_common::resources::{CPU, GPU};
use datafusion_common::DataFusionError;
use parking_lot::Mutex;

use super::expectations::Expectations;
use super::failed_rows::{DeadLetters, FailedRows};
use super::inputs::{Journals, ToldColumns};
use super::main_loop::{ExecutionLoop, Message, StageStart};
use super::outputs::JobOutputs;
use super::progress::Progress;
use super::shares::StoreShare;
use super::sizes::BatchSizes;
use super::splits::{Inputs, inputs, known_rows, row_work, rows_of_all};
use super::watch::NodeWatch;
use super::worker_time::WorkerTimes;
use super::{
    Delivery, ExecuteError, Execution, ExecutionOptions, LettersFolder, OutputOfRun, grouping,
};
use crate::error::PlanError;
use crate::executor::core::sizing::{self, StageDemand};
use crate::executor::core::stage::StageSetup;
use crate::executor::core::{Executor, ExecutorSetup, ExecutorStage};
use crate::executor::pool::{PoolAnswers, StagePool};
use crate::graph::{
    EdgeKind, JobOutput, JobPlan, Operator, StagePlan, StageTask, awaited_nodes, fit_with_lost,
    plan_job_apart, plan_outputs,
};
use crate::ledger::{FolderOutput, OutputPlan, SaveMode};
use crate::panics;
use crate::plan::{ComputeKind, OnError};
use crate::registered::Registered;
use crate::sinks::LettersFormat;
use crate::sources::{self, RowWork, Split, Wanted, blocks};
use crate::stats::{ExecutionStats, OperatorStats, OutputStats, StageStats, WorkerKind};
use crate::wire::encode_task;

/// The budget where nobody knows the size of the store.
const DEFAULT_BUDGET_BYTES: u64 = 512 << 20;
/// The largest block.
const MAX_BLOCK_BYTES: u64 = 32 << 20;
/// The smallest, unless asked for.
const MIN_BLOCK_BYTES: u64 = 64 << 10;
/// All relational work together holds this part of the budget.
const RELATIONAL_PART: u64 = 2;
/// Where the size of batches is to be found, inputs should have many rows, but not more than so many blocks.
const BLOCKS_PER_INPUT: u64 = 2;
/// How far a reader runs ahead of a model.
const PREFETCH_BATCHES: u32 = 2;

pub(super) fn start(
    outputs: &[JobOutput],
    pool: Box<dyn StagePool>,
    options: &ExecutionOptions,
) -> Result<Execution, ExecuteError> {
    let mut job = plan_outputs(outputs, &options.failures).map_err(ExecuteError::Plan)?;
    job.check().map_err(ExecuteError::Plan)?;
    let look = pool.look();
    let view = look().map_err(ExecuteError::Failed)?;
    let mut lost = pool.lost_nodes().map_err(ExecuteError::Failed)?;
    if pool.waits_when_infeasible() {
        lost.extend(awaited_nodes(&job.stages));
    }
    // What runs in one worker can be made again only as a whole, so it may not lie on a node that others outlive.
    // One stage has nobody to run together with, and may be gone on with where it was left.
    let is_one = job.stages.len() == 1;
    if let ([node], true) = (view.nodes(), lost.is_empty() && !is_one) {
        let memory_bytes = budget_bytes(options, pool.as_ref()) / RELATIONAL_PART;
        let room = grouping::room(memory_bytes, node);
        job = match outputs {
            [output] => {
                let apart = plan_job_apart(output, &options.failures);
                grouping::grouped(job, apart.map_err(ExecuteError::Plan)?, room)
            }
            _ => job.grouped(room),
        };
    }
    let (job, view) = fit_with_lost(job, view, &lost).map_err(ExecuteError::Fit)?;
    let demands: Vec<StageDemand> = job.stages.iter().map(demand).collect();
    let workers = sizing::pool_sizes(&demands, &view);
    let folders = outputs.iter().enumerate().map(|(index, output)| {
        let letters = letters_output(&job, index, output.letters_folder.as_ref())?;
        Ok((output.sink.begin()?, letters))
    });
    let folders: Result<_, PlanError> = folders.collect();
    let mut outputs = JobOutputs::new(&job, folders.map_err(ExecuteError::Plan)?);
    let Inputs {
        splits,
        places,
        progress,
        rows: all_rows,
    } = inputs(&job, &workers, &mut outputs)?;
    let share = share_of_store(options, pool.as_ref());
    let sizes = Sizes::new(options, share.budget_bytes(), workers.iter().sum());
    let starts: Result<Vec<StageStart>, DataFusionError> = job
        .stages
        .iter()
        .enumerate()
        .map(|(index, stage)| {
            let start = stage_start(stage, &sizes)?;
            Ok(with_feeds(start, &job, index))
        })
        .collect();
    let starts = starts.map_err(|error| ExecuteError::Plan(PlanError::planner(error)))?;
    let setup = ExecutorSetup {
        budget_bytes: sizes.budget_bytes,
        max_deaths: options.max_deaths,
        view,
    };
    let stages = job.stages.iter().zip(demands).zip(&splits);
    let noted_inputs = progress.as_ref().map_or(0, Progress::noted_inputs);
    let stages = stages.map(|((stage, demand), splits)| ExecutorStage {
        setup: stage_setup(stage, options, sizes.block_bytes),
        demand,
        splits: splits.len(),
        source_rows: known_rows(splits),
        noted_inputs: if stage.end.is_some() { noted_inputs } else { 0 },
    });
    let executor = Executor::new(setup, stages.collect(), &job.edges);
    let stats = initial_stats(&job, &splits, sizes.budget_bytes);
    launch(
        job,
        Launch {
            executor,
            pool,
            starts,
            splits,
            places,
            all_rows,
            progress,
            stats,
            share,
            outputs,
        },
    )
}

/// The folder that rows are put aside in, if it is not that of the output.
fn letters_output(
    job: &JobPlan,
    output: usize,
    letters_folder: Option<&LettersFolder>,
) -> Result<Option<FolderOutput>, PlanError> {
    let Some(LettersFolder { folder, prefix }) = letters_folder else {
        return Ok(None);
    };
    let stages = job.stages_of(output).into_iter();
    let steps = stages.flat_map(|stage| &job.stages[stage].steps);
    let mut steps = steps.map(|step| &step.operator);
    if !steps.any(|step| matches!(step, Operator::Map(call) if call.failures.on_error() == OnError::DeadLetter)) {
        return Err(PlanError::InvalidArgument(
            "dead_letters= says where rows go that fail, and no step puts such rows aside: give on_error=\"dead_letter\" to the \
             function, or set it for all of them in DataContext.on_error"
                .to_owned(),
        ));
    }
    let output = OutputPlan {
        folder,
        prefix,
        mode: SaveMode::Append,
        names: None,
        identity: None,
    };
    FolderOutput::begin(output, Box::new(LettersFormat)).map(Some)
}

/// What the loop is made of.
struct Launch {
    executor: Executor,
    pool: Box<dyn StagePool>,
    starts: Vec<StageStart>,
    splits: Vec<Vec<Split>>,
    places: Vec<u64>,
    all_rows: Option<u64>,
    progress: Option<Progress>,
    stats: ExecutionStats,
    share: StoreShare,
    outputs: JobOutputs,
}

/// Starts the loop's thread.
fn launch(job: JobPlan, launch: Launch) -> Result<Execution, ExecuteError> {
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
    let left = outputs.only_folder().map(FolderOutput::left);
    let next_attempt = left.map_or(0, |left| left.next_attempt);
    let journals = journals(&job, outputs.only_folder());
    let (messages, inbox) = channel();
    let (delivered, outbox) = channel();
    pool.answer_to(answers_to(messages.clone()));
    let reader = pool.reader();
    let watch = watch(pool.as_ref(), messages.clone());
    let stats = Arc::new(Mutex::new(stats));
    let outputs_of_run = of_run(&outputs, &job);
    let letters = Arc::new(Mutex::new(DeadLetters::default()));
    let mut expectations = Expectations::new(&job, rows_of_all(&splits));
    expectations.take_up(left.map_or(&[], |left| &left.judged));
    let failed_rows = failed_rows(
        &job,
        all_rows,
        pool.note_prefix(),
        outputs.only_folder_mut(),
    );
    let held = Arc::clone(share.held());
    let execution = ExecutionLoop {
        share,
        executor,
        pool,
        stages: starts,
        splits,
        stats: Arc::clone(&stats),
        messages: inbox,
        delivered,
        outputs,
        places,
        progress,
        journals,
        working: HashMap::new(),
        blocks: HashMap::new(),
        stage_of: HashMap::new(),
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
        times: WorkerTimes::new(job.stages.len()),
        cost_kept: Instant::now(),
        letters: Arc::clone(&letters),
        late_starts: Vec::new(),
        watch,
        failed_stage: None,
    };
    std::thread::Builder::new()
        .name("aktis-data".to_owned())
        .spawn(move || run(execution))
        .map_err(|error| ExecuteError::internal(format!("start the executor: {error}")))?;
    Ok(Execution {
        messages,
        delivered: Mutex::new(outbox),
        outcome: Mutex::new(None),
        unread: Mutex::new(None),
        stats,
        reader,
        outputs: outputs_of_run,
        letters,
        held,
    })
}

/// Tells of other nodes, until the execution is over and does not listen any more.
fn watch(pool: &dyn StagePool, news: Sender<Message>) -> NodeWatch {
    NodeWatch::new(pool.look(), move |view| {
        news.send(Message::Nodes(view)).is_ok()
    })
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
    PoolAnswers(Arc::new(move |worker, answer| {
        // An execution that is over does not listen any more.
        let _ = messages.send(Message::Answer(worker, Box::new(answer)));
    }))
}

/// Where rows are noted, and whose are already.
fn journals(job: &JobPlan, output: Option<&FolderOutput>) -> Journals {
    let left = output.map(FolderOutput::left);
    let output = output.filter(|_| job.notes_rows());
    Journals {
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
fn run(execution: ExecutionLoop) {
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

/// Sizes in bytes that follow from the options and the store.
struct Sizes {
    budget_bytes: u64,
    block_bytes: u64,
    /// What relational work in one worker may hold.
    memory_bytes: u64,
}

impl Sizes {
    fn new(options: &ExecutionOptions, budget_bytes: u64, workers: usize) -> Self {
        let share = budget_bytes / (4 * workers.max(1) as u64);
        let block_bytes = options
            .block_bytes
            .unwrap_or_else(|| share.clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES));
        Self {
            budget_bytes,
            block_bytes,
            memory_bytes: budget_bytes / (RELATIONAL_PART * workers.max(1) as u64),
        }
    }
}

fn share_of_store(options: &ExecutionOptions, pool: &dyn StagePool) -> StoreShare {
    let alone_bytes = budget_bytes(options, pool);
    StoreShare::new(pool.session(), pool.store_bytes(), alone_bytes)
}

fn budget_bytes(options: &ExecutionOptions, pool: &dyn StagePool) -> u64 {
    let half_of_store = || pool.store_bytes().map(|bytes| bytes / 2);
    let budget = options.budget_bytes.or_else(half_of_store);
    budget.unwrap_or(DEFAULT_BUDGET_BYTES).max(1)
}

fn stage_setup(stage: &StagePlan, options: &ExecutionOptions, block_bytes: u64) -> StageSetup {
    StageSetup {
        name: stage.name(),
        bundle_rows: stage.batch_rows.unwrap_or(0).max(stage.window_rows) as u64,
        enough_bytes: if stage.is_sized() {
            BLOCKS_PER_INPUT * block_bytes
        } else {
            0
        },
        // A partition should be at least a block, unless somebody wants just so many.
        bundle_bytes: if stage.keeps_partitions {
            0
        } else {
            block_bytes
        },
        keep_order: options.keep_order || stage.is_ordered,
        row_limit: stage.row_limit,
        makes_blocks: stage.makes_blocks(),
        runs_empty: stage.tells_columns(),
        is_repeatable: stage.group.is_none() || !stage.makes_blocks(),
        spread: stage.spread.clone(),
    }
}

fn demand(stage: &StagePlan) -> StageDemand {
    let compute = &stage.compute;
    StageDemand {
        resources: compute.resources.clone(),
        min_workers: compute.min_workers,
        initial_workers: compute.initial_workers,
        max_workers: compute.max_workers,
        useful_workers: None,
        cost: None,
        is_done: false,
    }
}

/// What the workers of a stage are started with.
fn stage_start(stage: &StagePlan, sizes: &Sizes) -> Result<StageStart, DataFusionError> {
    let has_model = row_work(stage) == RowWork::Model;
    let (steps, captured) = stage.to_steps();
    let task = StageTask {
        name: stage.name(),
        source: source_settings(stage)?,
        steps,
        sink: stage.sink_settings(),
        block_bytes: sizes.block_bytes,
        memory_bytes: sizes.memory_bytes,
        row_limit: stage.row_limit,
        prefetch_batches: if stage.source.is_some() && has_model {
            PREFETCH_BATCHES
        } else {
            0
        },
        partitioner: stage.partitioner.clone(),
        group: stage.group.as_ref().map(grouping::task).transpose()?,
    };
    Ok(StageStart {
        spec: encode_task(&task)?,
        calls_python: task.calls_python(),
        resources: stage.compute.resources.clone(),
        captured,
        output: stage.end.as_ref().map(|end| end.output),
        givers: Vec::new(),
        columns: None,
    })
}

/// The same, where its edges are known.
fn with_feeds(start: StageStart, job: &JobPlan, index: usize) -> StageStart {
    // One forward feed brings its columns with every block, if there is any.
    let asks = |stage: usize| {
        let mut edges = job.edges_to(stage);
        let first = edges.next();
        edges.next().is_some()
            || first.is_some_and(|edge| edge.kind != EdgeKind::Forward)
            || job.stages[stage].tells_columns()
    };
    let is_asked = job.edges_from(index).any(|edge| asks(edge.to));
    StageStart {
        givers: job.edges_to(index).map(|edge| edge.from).collect(),
        columns: is_asked.then(ToldColumns::default),
        ..start
    }
}

pub(super) fn source_settings(stage: &StagePlan) -> Result<Registered, DataFusionError> {
    let Some((plan, table)) = stage
        .source
        .as_ref()
        .and_then(|plan| Some((plan, plan.table.as_deref()?)))
    else {
        return Ok(blocks::handed_on());
    };
    let wanted = Wanted {
        columns: &plan.columns,
        filters: &plan.filters,
        batch_rows: stage.batch_rows,
    };
    sources::settings_of(table, &wanted)
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

fn initial_stats(job: &JobPlan, splits: &[Vec<Split>], budget_bytes: u64) -> ExecutionStats {
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
        stages: stages.collect(),
        outputs: vec![OutputStats::default(); job.outputs.len()],
        failed_outputs: Vec::new(),
        source_rows: splits.iter().flatten().map(|split| split.rows).sum(),
        bytes_read: 0,
        files: Vec::new(),
        most_block_bytes: 0,
        most_exchange_bytes: 0,
        budget_bytes,
        elapsed: Duration::ZERO,
        is_done: false,
        began: Instant::now(),
    }
}
