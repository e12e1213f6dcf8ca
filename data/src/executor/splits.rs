//! The inputs of the stages: how sources are cut, and what an earlier run has left of them.

use super::outputs::JobOutputs;
use super::progress::Progress;
use super::{ExecuteError, grouping};
use crate::graph::{EdgeKind, JobPlan, SourcePlan, StagePlan};
use crate::plan::ComputeKind;
use crate::sources::{self, ParquetTable, RowWork, Split, SplitOptions};

/// What the stages begin with.
pub(super) struct Inputs {
    /// Of each stage that has a source, without those that an earlier run has done.
    pub(super) splits: Vec<Vec<Split>>,
    /// Of those of the first stage, their places among all, where some were left out.
    pub(super) places: Vec<u64>,
    /// Of a job of several stages whose progress is kept.
    pub(super) progress: Option<Progress>,
    /// Of all that is read, what an earlier run has done included; `None`: nobody knows.
    pub(super) rows: Option<u64>,
}

/// The inputs of each stage that has a source. `is_spread`: its workers run on several nodes.
pub(super) fn inputs(
    job: &mut JobPlan,
    workers: &[usize],
    is_spread: bool,
    outputs: &mut JobOutputs,
) -> Result<Inputs, ExecuteError> {
    // As it was cut then.
    let known = outputs.keeper();
    let known = known.and_then(|output| output.left().workers());
    let known = known.and_then(|workers| usize::try_from(workers).ok());
    let cut = job.stages.iter().zip(workers).enumerate();
    let mut all: Vec<Vec<Split>> = cut
        .map(|(index, (stage, &workers))| match &stage.group {
            Some(group) => vec![grouping::split(group)],
            None => {
                let work = work_behind(job, index);
                splits(stage, known.unwrap_or(workers), work, is_spread)
            }
        })
        .collect();
    let rows = rows_of_all(&all);
    let cut_for = known.or(workers.first().copied()).unwrap_or(0) as u64;
    let inputs = all.first().map_or(0, |splits| splits.len() as u64);
    for output in outputs.folders() {
        output.keep(cut_for, inputs).map_err(ExecuteError::Plan)?;
    }
    let Some(output) = outputs.keeper_mut() else {
        return Ok(Inputs {
            rows,
            splits: all,
            places: Vec::new(),
            progress: None,
        });
    };
    if output.is_kept() && job.lower_limit(output.rows()) {
        // An earlier run has all rows.
        all.iter_mut().for_each(Vec::clear);
    }
    let left = output.outputs_left(job.stages.len(), Progress::first_steps(job));
    let progress = left.map(|left| Progress::new(left, job));
    let done = &output.left().done;
    let mut places = Vec::new();
    let rests: Vec<u64> = progress.iter().flat_map(Progress::rests).collect();
    if let (Some(first), true) = (all.first_mut(), done.count() > 0 || !rests.is_empty()) {
        let cut = std::mem::take(first);
        let at = |&place: &u64| Some((cut.get(usize::try_from(place).ok()?)?.clone(), place));
        let again: Vec<(Split, u64)> = rests.iter().filter_map(at).collect();
        let left = cut.into_iter().zip(0_u64..);
        let left = left.filter(|(_, place)| !done.contains(*place));
        (*first, places) = again.into_iter().chain(left).unzip();
    }
    Ok(Inputs {
        rows,
        splits: all,
        places,
        progress,
    })
}

/// The rows of all splits, if each of them tells.
pub(super) fn rows_of_all(splits: &[Vec<Split>]) -> Option<u64> {
    let is_known = splits.iter().flatten().all(|split| split.rows > 0);
    is_known.then(|| splits.iter().flatten().map(|split| split.rows).sum())
}

/// The rows of the stage's source as inputs. `is_spread`: its workers run on several nodes.
pub(super) fn splits(
    stage: &StagePlan,
    workers: usize,
    work: RowWork,
    is_spread: bool,
) -> Vec<Split> {
    let Some(plan) = &stage.source else {
        return Vec::new();
    };
    let options = SplitOptions {
        parts: plan.parts,
        workers,
        batch_rows: stage.batch_rows.map(|rows| rows as u64),
        window_rows: stage.window_rows as u64,
        work,
        is_spread,
    };
    if plan.is_by_file {
        return by_file(plan);
    }
    let source = plan.table.as_deref().and_then(sources::of_table);
    // With filters nobody knows how many rows must be read to find enough.
    let row_limit = plan.row_limit.filter(|_| plan.filters.is_empty());
    source.map_or_else(Vec::new, |source| {
        source.splits(row_limit.unwrap_or(u64::MAX), options)
    })
}

/// An input for each file, however long that is.
fn by_file(plan: &SourcePlan) -> Vec<Split> {
    let table = plan.table.as_deref();
    let table = table.and_then(|table| table.downcast_ref::<ParquetTable>());
    table.map_or_else(Vec::new, ParquetTable::split_by_file)
}

pub(super) fn row_work(stage: &StagePlan) -> RowWork {
    let is_kept = stage.compute.kind == ComputeKind::Actors || stage.compute.resources.wants_gpu();
    match (stage.has_map, is_kept) {
        (false, _) => RowWork::Reading,
        (true, true) if !stage.overlaps => RowWork::Model,
        (true, _) => RowWork::Function,
    }
}

/// What runs over the rows of the stage's source, in it and in stages that get them block by block: a model behind it wants many inputs, too,
/// so that each of its workers has some, and that little is under way when the job is killed.
fn work_behind(job: &JobPlan, index: usize) -> RowWork {
    let takers = |&stage: &usize| {
        let mut edges = job.edges_from(stage);
        let edge = edges.next().filter(|_| edges.next().is_none())?;
        (edge.kind == EdgeKind::Forward).then_some(edge.to)
    };
    let mut all = std::iter::successors(Some(index), takers).map(|one| row_work(&job.stages[one]));
    let own = all.next().unwrap_or(RowWork::Reading);
    if all.any(|work| work == RowWork::Model) {
        return RowWork::Model;
    }
    own
}

/// The rows of all splits; sources that do not know say none.
pub(super) fn known_rows(splits: &[Split]) -> Option<u64> {
    let rows = splits.iter().map(|split| split.rows).sum();
    (rows > 0).then_some(rows)
}
