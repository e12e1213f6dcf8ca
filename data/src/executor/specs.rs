//! What the workers of a stage are started with, by its plan.

use aktis_common::resources::ResourceRequest;
use datafusion_common::DataFusionError;

use super::budgets::Sizes;
use super::grouping;
use super::inputs::ToldColumns;
use super::splits::row_work;
use crate::block::BlockHandle;
use crate::graph::{EdgeKind, JobPlan, StagePlan, StageTask};
use crate::registered::Registered;
use crate::sources::{self, ReadRoom, RowWork, Wanted, blocks};
use crate::wire::encode_task;
use crate::wire::spec::StageSpec;

/// How far a reader runs ahead of a model.
const PREFETCH_BATCHES: u32 = 2;

/// What the workers of a stage are started with.
pub(crate) struct StageStart {
    /// One for each kind of worker.
    pub(crate) kinds: Vec<KindStart>,
    /// The output that its rows are of, if they end there.
    pub(crate) output: Option<usize>,
    /// The stages that give along its edges, in their order.
    pub(crate) givers: Vec<usize>,
    /// What has been told of the columns that it gives, where somebody asks.
    pub(crate) columns: Option<ToldColumns>,
}

/// What workers of one kind are started with.
pub(crate) struct KindStart {
    pub(crate) spec: StageSpec,
    pub(crate) calls_python: bool,
    pub(crate) resources: ResourceRequest,
    pub(crate) captured: Vec<BlockHandle>,
}

impl StageStart {
    /// What workers of the first kind do: where rows come from and go to is the same for all.
    pub(crate) fn spec(&self) -> &StageSpec {
        &self.kinds[0].spec
    }
}

/// What the workers of a stage are started with.
pub(super) fn stage_start(
    job: &JobPlan,
    index: usize,
    sizes: &Sizes,
) -> Result<StageStart, DataFusionError> {
    let stage = &job.stages[index];
    let pools = stage.compute.pools().into_iter().enumerate();
    let kinds = pools.map(|(kind, pool)| kind_start(job, index, sizes, (kind, pool.resources)));
    Ok(StageStart {
        kinds: kinds.collect::<Result<_, _>>()?,
        output: stage.end.as_ref().map(|end| end.output),
        givers: job.edges_to(index).map(|edge| edge.from).collect(),
        columns: asks_for_columns(job, index).then(ToldColumns::default),
    })
}

/// The same of one kind of worker, with these resources.
fn kind_start(
    job: &JobPlan,
    index: usize,
    sizes: &Sizes,
    (kind, resources): (usize, ResourceRequest),
) -> Result<KindStart, DataFusionError> {
    let stage = &job.stages[index];
    let has_model = row_work(stage) == RowWork::Model;
    let (steps, captured) = stage.to_steps(kind);
    let task = StageTask {
        name: stage.name(),
        source: source_settings(stage, sizes.read_room(stage))?,
        steps,
        sink: stage.sink_settings(),
        block_bytes: sizes.block_bytes,
        growing_inputs: growing_inputs(job, index),
        memory_bytes: sizes.memory_bytes(stage),
        even_rows: stage.even_rows(),
        row_limit: stage.row_limit,
        prefetch_batches: if stage.source.is_some() && has_model {
            PREFETCH_BATCHES
        } else {
            0
        },
        partitioner: stage.partitioner.clone(),
        group: match &stage.group {
            Some(group) => Some(grouping::task(group, sizes.read_room(stage))?),
            None => None,
        },
    };
    Ok(KindStart {
        spec: encode_task(&task)?,
        calls_python: task.calls_python(),
        resources,
        captured,
    })
}

/// How many inputs begin with small blocks. None where somebody has said how many blocks there shall be, as may be so behind an exchange,
/// where all rows are there anyway. Where calls overlap, inputs are long.
fn growing_inputs(job: &JobPlan, index: usize) -> u64 {
    let mut edges = job.edges_to(index);
    let mut sources = job.stages.iter().filter_map(|stage| stage.source.as_ref());
    let is_streamed = edges.all(|edge| edge.kind == EdgeKind::Forward)
        && sources.all(|source| source.parts.is_none());
    match (is_streamed, job.stages[index].overlaps) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => u64::MAX,
    }
}

/// Whether a stage that gets the rows wants to know their columns where none come.
fn asks_for_columns(job: &JobPlan, index: usize) -> bool {
    // One forward feed brings its columns with every block, if there is any.
    let asks = |stage: usize| {
        let mut edges = job.edges_to(stage);
        let first = edges.next();
        edges.next().is_some()
            || first.is_some_and(|edge| edge.kind != EdgeKind::Forward)
            || job.stages[stage].tells_columns()
    };
    job.edges_from(index).any(|edge| asks(edge.to))
}

/// What the stage's source is read with.
pub(super) fn source_settings(
    stage: &StagePlan,
    room: ReadRoom,
) -> Result<Registered, DataFusionError> {
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
        room,
    };
    sources::settings_of(table, &wanted)
}
