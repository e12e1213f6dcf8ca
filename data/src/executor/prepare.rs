//! Everything between a dataset and its loop: stages that fit, splits, sizes, specs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parking_lot::Mutex;

use super::main_loop::{ExecutionLoop, Message, StageStart};
use super::{Delivery, ExecuteError, Execution, ExecutionOptions};
use crate::block;
use crate::executor::core::sizing::{self, NodeCapacity, StageDemand};
use crate::executor::core::stage::StageSetup;
use crate::executor::core::{Executor, ExecutorSetup};
use crate::executor::pool::{PoolAnswers, WorkerPool};
use crate::graph::{JobPlan, Sink, StagePlan, awaited_nodes, fit_with_lost, plan_job};
use crate::ledger::FolderSink;
use crate::panics;
use crate::plan::{ComputeKind, Dataset, RESOURCE_UNIT};
use crate::sources::splits::{Split, SplitOptions, cut_splits};
use crate::sources::{BlocksTable, ParquetTable};
use crate::stage_worker::SeenColumns;
use crate::stats::{ExecutionStats, OperatorStats, StageStats};
use crate::wire::spec::{ScanSpec, StageSpec};

/// The budget where nobody knows the size of the store.
const DEFAULT_BUDGET_BYTES: u64 = 512 << 20;
/// The largest block.
const MAX_BLOCK_BYTES: u64 = 32 << 20;
/// The smallest, unless asked for.
const MIN_BLOCK_BYTES: u64 = 64 << 10;
/// What a batch has where no size was asked for.
const BATCH_BYTES: u64 = 8 << 20;
/// Batches that were asked for smaller than this are read together and cut without copying.
const MIN_READ_BYTES: u64 = 1 << 20;
/// How far a reader runs ahead of a model.
const PREFETCH_BATCHES: u32 = 2;

pub(super) fn start(
    dataset: &Dataset,
    sink: &Sink,
    pool: Box<dyn WorkerPool>,
    options: &ExecutionOptions,
) -> Result<Execution, ExecuteError> {
    let mut job = plan_job(dataset, sink).map_err(ExecuteError::Plan)?;
    let nodes = pool.nodes().map_err(ExecuteError::Failed)?;
    let mut lost = pool.lost_nodes().map_err(ExecuteError::Failed)?;
    if pool.waits_when_infeasible() {
        lost.extend(awaited_nodes(&job.stages));
    }
    let (stages, nodes) = fit_with_lost(job.stages, nodes, &lost).map_err(ExecuteError::Fit)?;
    job.stages = stages;
    let demands: Vec<StageDemand> = job
        .stages
        .iter()
        .map(|stage| demand(stage, &nodes))
        .collect();
    let workers = sizing::solve(&demands, &nodes);
    let splits = cut_splits(
        &job.source,
        split_options(&job.stages[0], workers[0], options.parts),
    );
    let folder = FolderSink::open(sink).map_err(ExecuteError::Plan)?;
    let sizes = Sizes::new(options, pool.as_ref(), workers.iter().sum());
    let specs = stage_specs(&job, sizes.block_bytes)?;
    let setup = ExecutorSetup {
        budget_bytes: sizes.budget_bytes,
        keep_order: options.keep_order,
        max_deaths: options.max_deaths,
        nodes,
    };
    let stages = job
        .stages
        .iter()
        .zip(&specs)
        .map(|(stage, spec)| stage_setup(stage, spec));
    let executor = Executor::new(setup, stages.zip(demands).collect(), splits.len());
    let stats = initial_stats(&job, &specs, &splits, sizes.budget_bytes);
    launch(
        job,
        Launch {
            executor,
            pool,
            specs,
            splits,
            stats,
            folder,
        },
    )
}

/// What the loop is made of.
struct Launch {
    executor: Executor,
    pool: Box<dyn WorkerPool>,
    specs: Vec<StageSpec>,
    splits: Vec<Split>,
    stats: ExecutionStats,
    folder: Option<FolderSink>,
}

/// Starts the loop's thread.
fn launch(job: JobPlan, launch: Launch) -> Result<Execution, ExecuteError> {
    let Launch {
        executor,
        mut pool,
        specs,
        splits,
        stats,
        folder,
    } = launch;
    let (messages, inbox) = channel();
    let (delivered, outbox) = channel();
    let answers = messages.clone();
    pool.answer_to(PoolAnswers(Arc::new(move |worker, answer| {
        // An execution that is over does not listen any more.
        let _ = answers.send(Message::Answer(worker, answer));
    })));
    let (reader, session) = (pool.reader(), pool.session());
    let stats = Arc::new(Mutex::new(stats));
    let seen = Arc::new(Mutex::new(SeenColumns::default()));
    let starts = specs.into_iter().zip(&job.stages);
    let execution = ExecutionLoop {
        executor,
        pool,
        stages: starts
            .map(|(spec, stage)| StageStart {
                spec,
                resources: stage.compute.resources.clone(),
                captured: stage.to_steps().1,
            })
            .collect(),
        splits,
        stats: Arc::clone(&stats),
        messages: inbox,
        delivered,
        folder,
        schema: job.schema.clone(),
        blocks: HashMap::new(),
        stage_of: HashMap::new(),
        next_block: 0,
        next_attempt: 0,
        is_cancelled: false,
        sunk: HashMap::new(),
        given: HashMap::new(),
        readers: Vec::new(),
        late_starts: Vec::new(),
        seen: Arc::clone(&seen),
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
        session,
        schema: job.schema,
        seen,
    })
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
}

impl Sizes {
    fn new(options: &ExecutionOptions, pool: &dyn WorkerPool, workers: usize) -> Self {
        let half_of_store = || pool.store_bytes().map(|bytes| bytes / 2);
        let budget = options
            .budget_bytes
            .or_else(half_of_store)
            .unwrap_or(DEFAULT_BUDGET_BYTES);
        let budget_bytes = budget.max(1);
        let share = budget_bytes / (4 * workers.max(1) as u64);
        let block_bytes = options
            .block_bytes
            .unwrap_or_else(|| share.clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES));
        Self {
            budget_bytes,
            block_bytes,
        }
    }
}

fn stage_setup(stage: &StagePlan, spec: &StageSpec) -> StageSetup {
    StageSetup {
        name: spec.name.clone(),
        bundle_rows: stage.batch_rows.unwrap_or(0).max(stage.window_rows) as u64,
        row_limit: stage.row_limit,
        makes_blocks: stage.sink.is_none(),
    }
}

fn split_options(stage: &StagePlan, workers: usize, parts: Option<u64>) -> SplitOptions {
    SplitOptions {
        parts,
        workers,
        batch_rows: stage.batch_rows.map(|rows| rows as u64),
        window_rows: stage.window_rows as u64,
        has_map: stage.has_map,
    }
}

fn demand(stage: &StagePlan, nodes: &[NodeCapacity]) -> StageDemand {
    let cpus: i64 = nodes.iter().filter_map(|node| node.totals.get("CPU")).sum();
    let cpus = usize::try_from(cpus / RESOURCE_UNIT).unwrap_or(1).max(1);
    // What needs nothing would otherwise grow without end.
    let unlimited = if stage.compute.resources.is_empty() {
        cpus
    } else {
        usize::MAX
    };
    let most = stage.compute.max_workers.unwrap_or(unlimited);
    StageDemand {
        resources: stage.compute.resources.clone(),
        min_workers: stage.compute.min_workers.min(most),
        initial_workers: stage.compute.initial_workers,
        max_workers: most,
        cost: None,
        is_done: false,
    }
}

fn stage_specs(job: &JobPlan, block_bytes: u64) -> Result<Vec<StageSpec>, ExecuteError> {
    let mut specs = Vec::with_capacity(job.stages.len());
    for (index, stage) in job.stages.iter().enumerate() {
        let is_first = index == 0;
        let has_model = stage.has_map
            && (stage.compute.kind == ComputeKind::Actors
                || stage.compute.resources.contains_key("GPU"));
        specs.push(StageSpec {
            name: stage.name(is_first),
            scan: if is_first { scan_spec(job)? } else { None },
            block_schema: if is_first {
                block_schema(job)?
            } else {
                Bytes::new()
            },
            steps: stage.to_steps().0,
            sink: stage.sink.clone(),
            block_bytes,
            row_limit: stage.row_limit.unwrap_or(0),
            prefetch_batches: if is_first && has_model {
                PREFETCH_BATCHES
            } else {
                0
            },
        });
    }
    Ok(specs)
}

/// The columns that the rows of a mixed table of blocks shall have.
fn block_schema(job: &JobPlan) -> Result<Bytes, ExecuteError> {
    let table = job.source.table.as_ref();
    let table = table.and_then(|table| table.downcast_ref::<BlocksTable>());
    let Some(table) = table.filter(|table| table.is_mixed) else {
        return Ok(Bytes::new());
    };
    encode(&table.schema)
}

fn encode(schema: &SchemaRef) -> Result<Bytes, ExecuteError> {
    block::encode_schema(schema)
        .map_err(|error| ExecuteError::internal(format!("write a schema: {error}")))
}

fn scan_spec(job: &JobPlan) -> Result<Option<ScanSpec>, ExecuteError> {
    let table = job
        .source
        .table
        .as_ref()
        .and_then(|table| table.downcast_ref::<ParquetTable>());
    let Some(table) = table else { return Ok(None) };
    let file_schemas = if table.is_uniform() {
        Vec::new()
    } else {
        table
            .file_schemas
            .iter()
            .map(encode)
            .collect::<Result<_, _>>()?
    };
    let column = |&column: &usize| u32::try_from(column).expect("fewer than 2^32 columns");
    let groups = || table.files.iter().flat_map(|file| file.row_groups.iter());
    let row_bytes = groups().map(|group| group.bytes).sum::<u64>() / table.rows().max(1);
    Ok(Some(ScanSpec {
        schema: encode(&table.schema)?,
        file_schemas,
        partitions: table.partitions.clone(),
        columns: job.source.columns.iter().map(column).collect(),
        predicate: job.source.predicate.clone(),
        batch_rows: batch_rows(row_bytes.max(1), job.stages[0].batch_rows),
    }))
}

/// Rows to read at once: a multiple of what the first function wants.
fn batch_rows(row_bytes: u64, wanted: Option<usize>) -> u64 {
    match wanted {
        Some(rows) => {
            let rows = rows.max(1) as u64;
            rows * (MIN_READ_BYTES / (rows * row_bytes)).clamp(1, 1024)
        }
        None => (BATCH_BYTES / row_bytes).clamp(1, 1 << 20),
    }
}

fn initial_stats(
    job: &JobPlan,
    specs: &[StageSpec],
    splits: &[Split],
    budget_bytes: u64,
) -> ExecutionStats {
    let operator = |name: &str| OperatorStats {
        name: name.to_owned(),
        ..OperatorStats::default()
    };
    let stages = job
        .stages
        .iter()
        .zip(specs)
        .enumerate()
        .map(|(index, (stage, spec))| {
            let source = if index == 0 { "Read" } else { "Receive" };
            let mut operators = vec![operator(source)];
            operators.extend(stage.steps.iter().map(|step| operator(&step.name)));
            if stage.sink.is_some() {
                let is_count = spec.name.ends_with("Count");
                operators.push(operator(if is_count { "Count" } else { "Write" }));
            }
            StageStats {
                name: spec.name.clone(),
                operators,
                ..StageStats::default()
            }
        });
    ExecutionStats {
        stages: stages.collect(),
        rows_sunk: 0,
        source_rows: splits.iter().map(|split| split.rows).sum(),
        bytes_read: 0,
        files: Vec::new(),
        most_block_bytes: 0,
        budget_bytes,
        elapsed: Duration::ZERO,
        is_done: false,
        began: Instant::now(),
    }
}
