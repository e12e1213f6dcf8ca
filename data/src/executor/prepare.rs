//! Everything between a dataset and its loop: stages that fit, splits, sizes, specs.

use std::collections::BTreeMap;

use aktis_common::ids::NodeId;
use aktis_common::scheduling::NodeView;
use datafusion_common::DataFusionError;

use super::budgets::{RELATIONAL_PART, Sizes, budget_bytes, share_of_store, sort_room};
use super::launch::{Launch, Launched, launch};
use super::outputs::{BegunOutput, JobOutputs};
use super::progress::Progress;
use super::specs::{StageStart, stage_start};
use super::splits::{Inputs, inputs, known_rows};
use super::statistics::initial_stats;
use super::{ExecuteError, Execution, ExecutionOptions, LettersFolder, grouping};
use crate::error::PlanError;
use crate::executor::core::sizing::{self, PoolDemand, StageDemand};
use crate::executor::core::stage::StageSetup;
use crate::executor::core::{Executor, ExecutorSetup, ExecutorStage};
use crate::executor::pool::StagePool;
use crate::graph::{
    JobOutput, JobPlan, Operator, StagePlan, awaited_nodes, fit_with_lost, plan_job_apart,
    plan_outputs,
};
use crate::ledger::{FolderOutput, OutputPlan, SaveMode};
use crate::operators::partition::WINDOW_BLOCKS;
use crate::plan::OnError;
use crate::sinks::LettersFormat;
use crate::sources::{Split, blocks};

/// Where the size of batches is to be found, inputs should have many rows, but not more than so many blocks.
const BLOCKS_PER_INPUT: u64 = 2;
/// Where calls overlap, an input has so many times the rows that it should have, if as many wait: then its end, where fewer and
/// fewer calls are under way, is a small part of it.
const LONG_INPUT: u64 = 32;

/// Plans the job, and begins it.
pub(super) fn start(
    outputs: &[JobOutput],
    pool: Box<dyn StagePool>,
    options: &ExecutionOptions,
) -> Result<Execution, ExecuteError> {
    let job = plan_outputs(outputs, &options.failures).map_err(ExecuteError::Plan)?;
    job.check().map_err(ExecuteError::Plan)?;
    // All outputs have one, or none.
    let identity = outputs.first().and_then(|first| first.sink.job_identity());
    if let Some(identity) = identity
        && let Some(legs) = job.legs(identity.kept, options.keep_order)
    {
        let begin = || begin(&job, outputs);
        return super::legs::start(legs, identity, begin, pool, options);
    }
    let only = match outputs {
        [output] => Some(output),
        _ => None,
    };
    let begin = |job: &JobPlan| begin(job, outputs);
    ready(job, only, begin, pool, options)?.start()
}

/// Makes all of the job ready. `only`: its output, if it is all that there is to do for that, and may be planned in another way. `begin`:
/// begins its outputs.
pub(super) fn ready(
    mut job: JobPlan,
    only: Option<&JobOutput>,
    begin: impl FnOnce(&JobPlan) -> Result<Vec<BegunOutput>, PlanError>,
    pool: Box<dyn StagePool>,
    options: &ExecutionOptions,
) -> Result<Launched, ExecuteError> {
    let look = pool.look();
    let view = look().map_err(ExecuteError::Failed)?;
    let lost = lost_nodes(&job, pool.as_ref())?;
    // What runs in one worker can be made again only as a whole, so it may not lie on a node that others outlive.
    // One stage has nobody to run together with, and may be gone on with where it was left.
    let is_one = job.stages.len() == 1;
    if let ([node], true) = (view.nodes(), lost.is_empty() && !is_one) {
        let memory_bytes = budget_bytes(options, pool.as_ref()) / RELATIONAL_PART;
        let room = grouping::room(memory_bytes, node);
        job = match only {
            Some(output) => {
                let apart = plan_job_apart(output, &options.failures);
                grouping::grouped(job, apart.map_err(ExecuteError::Plan)?, room)
            }
            None => job.grouped(room),
        };
    }
    // One node has one memory, whoever sorts: there a worker that has all of it reads and writes each row less often.
    if view.nodes().len() > 1 {
        let room = sort_room(budget_bytes(options, pool.as_ref()), &view);
        job = job.sorted_by_ranges(room);
    }
    let (mut job, view) = fit_with_lost(job, view, &lost).map_err(ExecuteError::Fit)?;
    let demands: Vec<StageDemand> = job.stages.iter().map(demand).collect();
    let workers = sizing::pool_sizes(&demands, &view).into_iter();
    let workers: Vec<usize> = workers.map(|kinds| kinds.into_iter().sum()).collect();
    // On one node all rows are as near as others.
    let is_spread = view.nodes().len() > 1;
    let mut outputs = JobOutputs::new(&job, begin(&job).map_err(ExecuteError::Plan)?);
    let Inputs {
        splits,
        places,
        progress,
        rows: all_rows,
    } = inputs(&mut job, &workers, is_spread, &mut outputs)?;
    let share = share_of_store(options, pool.as_ref());
    let sizes = Sizes::new(options, &share, &job, &workers);
    let stages = 0..job.stages.len();
    let starts = stages.map(|index| stage_start(&job, index, &sizes));
    let starts: Result<Vec<StageStart>, DataFusionError> = starts.collect();
    let starts = starts.map_err(|error| ExecuteError::Plan(PlanError::planner(error)))?;
    let setup = ExecutorSetup {
        budget_bytes: sizes.budget_bytes,
        max_deaths: options.max_deaths,
        view,
    };
    let nodes = |splits: &Vec<Split>| {
        let node = |split: &Split| split_node(pool.as_ref(), split).filter(|_| is_spread);
        splits.iter().map(node).collect()
    };
    let stages = job.stages.iter().zip(demands).zip(&splits);
    let noted_inputs = progress.as_ref().map_or(0, Progress::noted_inputs);
    let stages = stages.map(|((stage, demand), splits)| ExecutorStage {
        setup: stage_setup(stage, options, sizes.block_bytes),
        demand,
        splits: nodes(splits),
        source_rows: known_rows(splits),
        noted_inputs: if stage.end.is_some() { noted_inputs } else { 0 },
    });
    let executor = Executor::new(setup, stages.collect(), &job.edges);
    let mut stats = initial_stats(&job, &splits, &sizes);
    for (output, stats) in outputs.0.iter().zip(&mut stats.outputs) {
        stats.rows_before = output.folder.as_ref().map_or(0, FolderOutput::rows);
    }
    let made = Launch {
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
    };
    Ok(launch(&job, made))
}

/// The node that has more of the rows of a split than others, where these lie in the store already.
fn split_node(pool: &dyn StagePool, split: &Split) -> Option<NodeId> {
    if split.blocks.is_empty() {
        return None;
    }
    let session = pool.session();
    let rows = blocks::rows_of_parts(&split.position).ok()?;
    let mut rows_on: BTreeMap<NodeId, u64> = BTreeMap::new();
    for (block, rows) in split.blocks.iter().zip(rows) {
        let handle = block.handle(&session)?;
        *rows_on.entry(pool.node_of(&handle)?).or_default() += rows;
    }
    let most = rows_on.into_iter().max_by_key(|&(_, rows)| rows);
    most.map(|(node, _)| node)
}

/// Nodes that are not there, and are planned with.
pub(super) fn lost_nodes(
    job: &JobPlan,
    pool: &dyn StagePool,
) -> Result<Vec<NodeView>, ExecuteError> {
    let mut lost = pool.lost_nodes().map_err(ExecuteError::Failed)?;
    if pool.waits_when_infeasible() {
        lost.extend(awaited_nodes(&job.stages));
    }
    Ok(lost)
}

/// Begins the outputs. The first one comes last: what it knows of the others, whose job is gone on with, holds when they are begun.
fn begin(job: &JobPlan, outputs: &[JobOutput]) -> Result<Vec<BegunOutput>, PlanError> {
    let begin = |(index, output): (usize, &JobOutput)| {
        let letters = letters_output(job, index, output.letters_folder.as_ref())?;
        Ok((output.sink.begin()?, letters))
    };
    let begun: Result<Vec<BegunOutput>, PlanError> =
        outputs.iter().enumerate().rev().map(begin).collect();
    let mut begun = begun?;
    begun.reverse();
    Ok(begun)
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

/// What the executor must know of a stage.
fn stage_setup(stage: &StagePlan, options: &ExecutionOptions, block_bytes: u64) -> StageSetup {
    let bundle_rows = stage.batch_rows.unwrap_or(0).max(stage.window_rows) as u64;
    let cuts_ranges = stage.cuts_ranges();
    StageSetup {
        name: stage.name(),
        // Blocks of ranges are as large as the blocks allow that they are cut from, so these are as many as a worker cuts at once.
        bundle_rows: if cuts_ranges { u64::MAX } else { bundle_rows },
        // Where nobody says how many rows a call gets, it gets a share of the input.
        long_rows: if stage.overlaps && stage.batch_rows.is_some() {
            bundle_rows.saturating_mul(LONG_INPUT)
        } else {
            0
        },
        long_bytes: block_bytes,
        enough_bytes: if cuts_ranges {
            WINDOW_BLOCKS * block_bytes
        } else if stage.window_bytes > 0 {
            stage.window_bytes
        } else if stage.is_sized() {
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
        // Whoever cuts partitions answers with a small block again and again.
        looks_ahead: (stage.has_map || stage.partitioner.is_some())
            && !stage.overlaps
            && stage.group.is_none(),
    }
}

fn demand(stage: &StagePlan) -> StageDemand {
    let pools = stage.compute.pools().into_iter();
    let pools = pools.map(|pool| PoolDemand {
        resources: pool.resources,
        min_workers: pool.min_workers,
        initial_workers: pool.initial_workers,
        max_workers: pool.max_workers,
        cost: None,
    });
    StageDemand {
        pools: pools.collect(),
        useful_workers: None,
        is_done: false,
        first_kinds: Vec::new(),
    }
}
