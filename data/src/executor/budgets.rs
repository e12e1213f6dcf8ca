//! Sizes in bytes that follow from the options and the store.

use aktis_common::resources::CPU;
use aktis_common::scheduling::ClusterView;

use super::ExecutionOptions;
use super::pool::StagePool;
use super::shares::StoreShare;
use crate::graph::{EdgeKind, JobPlan, SortRoom, StagePlan};
use crate::sources::{self, ReadRoom};

/// The budget where nobody knows the size of the store.
const DEFAULT_BUDGET_BYTES: u64 = 512 << 20;
/// The largest block.
const MAX_BLOCK_BYTES: u64 = 32 << 20;
/// The smallest, unless asked for.
const MIN_BLOCK_BYTES: u64 = 64 << 10;
/// Blocks are so small that workers can have this many each,
const BLOCKS_PER_WORKER: u64 = 4;
/// or this many where the budget is below that: workers hold several times what a block has in memory of their own, and where there is
/// little of that, processes alone take much of it.
const BLOCKS_PER_WORKER_IF_SCARCE: u64 = 8;
const SCARCE_BUDGET_BYTES: u64 = 256 << 20;
/// All relational work together holds this part of the budget, and so does what is asked for ahead where files are far.
pub(super) const RELATIONAL_PART: u64 = 2;
/// Where there is both, this part of it is for what is asked for ahead.
const AHEAD_PART: u64 = 4;
/// A reader gives so much at once where blocks are that large: each batch costs a little, whatever it holds.
const BATCH_BYTES: u64 = 8 << 20;
/// It gives so much where they are smaller.
const MIN_BATCH_BYTES: u64 = 256 << 10;
/// Inputs of a worker that answers are under way for: one, and the next.
const INPUTS_UNDER_WAY: u64 = 2;

/// Those of a job.
pub(super) struct Sizes {
    pub(super) budget_bytes: u64,
    pub(super) block_bytes: u64,
    /// What relational work in all workers of the job may hold.
    relational_bytes: u64,
    /// Workers among which that is shared out.
    relational_workers: u64,
    /// What all workers of the job may have asked for ahead.
    ahead_bytes: u64,
    /// What a worker reads as a whole has no more.
    row_group_bytes: u64,
    workers: u64,
}

impl Sizes {
    /// Those of a job with so many workers of each stage. Beside others its blocks are smaller. Its workers have the memory that they
    /// have when it is alone: others hold the store, and not that, and what there is of them now says nothing of the rest of the job.
    pub(super) fn new(
        options: &ExecutionOptions,
        share: &StoreShare,
        job: &JobPlan,
        workers: &[usize],
    ) -> Self {
        let all = workers.iter().sum::<usize>().max(1) as u64;
        let budget_bytes = share.known_bytes();
        let blocks_per_worker = if share.alone_bytes() < SCARCE_BUDGET_BYTES {
            BLOCKS_PER_WORKER_IF_SCARCE
        } else {
            BLOCKS_PER_WORKER
        };
        let part = budget_bytes / (blocks_per_worker * all);
        let block_bytes = options
            .block_bytes
            .unwrap_or_else(|| part.clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES));
        let held_bytes = share.alone_bytes() / RELATIONAL_PART;
        let ahead_bytes = match job.stages.iter().any(StagePlan::is_relational) {
            _ if job.stages.iter().all(|stage| far_sources(stage) == 0) => 0,
            true => held_bytes / AHEAD_PART,
            false => held_bytes,
        };
        let at_once = (0..job.stages.len()).map(|stage| relational_at_once(job, stage, all));
        Self {
            budget_bytes,
            block_bytes,
            relational_bytes: held_bytes - ahead_bytes,
            ahead_bytes,
            relational_workers: at_once.sum::<u64>().clamp(1, all),
            row_group_bytes: share.alone_bytes() / all,
            workers: all,
        }
    }

    /// What all workers of this job may hold of such rows, if any does.
    pub(super) fn relational_bytes_of(&self, job: &JobPlan) -> u64 {
        let has_any = job.stages.iter().any(StagePlan::is_relational);
        if has_any { self.relational_bytes } else { 0 }
    }

    /// What a worker of this stage may hold of rows that are sorted, grouped or joined. One that does nothing of the kind gets no part of
    /// that; what is much for it is what all of them could have.
    pub(super) fn memory_bytes(&self, stage: &StagePlan) -> u64 {
        let workers = if stage.is_relational() {
            self.relational_workers
        } else {
            self.workers
        };
        self.relational_bytes / workers
    }

    /// What a worker of this stage may hold of what it reads.
    pub(super) fn read_room(&self, stage: &StagePlan) -> ReadRoom {
        ReadRoom {
            most_rows: u64::MAX,
            batch_bytes: self.block_bytes.clamp(MIN_BATCH_BYTES, BATCH_BYTES),
            row_group_bytes: self.row_group_bytes,
            ahead_bytes: self.ahead_bytes(stage),
        }
    }

    /// What it may have asked for ahead of an input.
    fn ahead_bytes(&self, stage: &StagePlan) -> u64 {
        self.ahead_bytes / (self.workers * INPUTS_UNDER_WAY * far_sources(stage).max(1))
    }
}

/// Sources of a stage of which answers are under way at once; of a group, as each thread reads them.
fn far_sources(stage: &StagePlan) -> u64 {
    if let Some(group) = &stage.group {
        let of_thread: u64 = group.stages.iter().map(far_sources).sum();
        return of_thread * group.threads.max(1) as u64;
    }
    let table = stage.source.as_ref().and_then(|plan| plan.table.as_deref());
    let asks_ahead = table
        .and_then(sources::of_table)
        .is_some_and(sources::Source::asks_ahead);
    u64::from(asks_ahead)
}

/// How many workers of the stage may do relational work at once, of a job with room for so many: more may come while it runs, except where
/// there is one input.
fn relational_at_once(job: &JobPlan, stage: usize, all: u64) -> u64 {
    let plan = &job.stages[stage];
    if !plan.holds_rows() {
        return 0;
    }
    let mut edges = job.edges_to(stage).peekable();
    let is_one = match edges.peek() {
        None => plan.group.is_some(),
        Some(_) => edges.all(|edge| edge.kind == EdgeKind::GATHER),
    };
    if is_one { 1 } else { all }
}

/// Fewer bytes than these are sorted by one worker, which has done it before others have begun.
const ALONE_BYTES: u64 = 32 << 20;

/// What a sort may use in a cluster of several nodes.
pub(super) fn sort_room(budget_bytes: u64, view: &ClusterView) -> SortRoom {
    let processors = view.nodes().iter().map(|node| node.resources.total());
    let processors: i64 = processors.map(|total| total.get(CPU).whole()).sum();
    SortRoom {
        workers: usize::try_from(processors).unwrap_or(0).max(1),
        alone_bytes: (budget_bytes / RELATIONAL_PART).min(ALONE_BYTES),
    }
}

/// What one more execution may hold of the store, beside those that there are.
pub(super) fn share_of_store(options: &ExecutionOptions, pool: &dyn StagePool) -> StoreShare {
    let alone_bytes = budget_bytes(options, pool);
    StoreShare::new(pool.session(), pool.store_bytes(), alone_bytes)
}

/// What an execution may hold that is alone.
pub(super) fn budget_bytes(options: &ExecutionOptions, pool: &dyn StagePool) -> u64 {
    let half_of_store = || pool.store_bytes().map(|bytes| bytes / 2);
    let budget = options.budget_bytes.or_else(half_of_store);
    budget.unwrap_or(DEFAULT_BUDGET_BYTES).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{RangeKey, plan_job};
    use crate::plan::Dataset;
    use crate::sinks::Sink;
    use crate::testing::{far_files, write_file};

    #[test]
    fn job_that_begins_beside_others_has_smaller_blocks_and_all_of_its_memory() {
        let share = || StoreShare::new("budgets".to_owned(), Some(800 << 20), 400 << 20);
        let rows = Dataset::range(100).expect("plans");
        let job = plan_job(&rows, &Sink::Consumer).expect("can be cut");
        let sizes =
            |share: &StoreShare| Sizes::new(&ExecutionOptions::default(), share, &job, &[2]);
        let alone = share();
        let first = sizes(&alone);
        let memory_bytes = |sizes: &Sizes| sizes.memory_bytes(&job.stages[0]);
        assert_eq!(
            (first.budget_bytes, first.block_bytes, memory_bytes(&first)),
            (400 << 20, 32 << 20, 100 << 20)
        );
        alone.held().set(800 << 20);
        let second = sizes(&share());
        assert_eq!(
            (
                second.budget_bytes,
                second.block_bytes,
                memory_bytes(&second)
            ),
            (1, 64 << 10, 100 << 20)
        );
    }

    #[test]
    fn what_is_asked_for_ahead_has_a_part_of_the_memory_of_a_job() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_file(&folder.path().join("a.parquet"), 0, 10, 10);
        let path = folder.path().join("a.parquet").display().to_string();
        let near = Dataset::read_parquet(&[path]).expect("reads");
        let far = far_files(folder.path(), &["a.parquet"]);
        let key = RangeKey {
            column: "id".to_owned(),
            is_descending: false,
            has_nulls_first: false,
        };
        let ahead_bytes = |dataset: &Dataset, alone_bytes: u64, workers: &[usize]| {
            let share = StoreShare::new("ahead".to_owned(), None, alone_bytes);
            let job = plan_job(dataset, &Sink::Consumer).expect("can be cut");
            let sizes = Sizes::new(&ExecutionOptions::default(), &share, &job, workers);
            let all = sizes.relational_bytes + sizes.ahead_bytes;
            assert_eq!(all, alone_bytes / 2, "both together");
            sizes.ahead_bytes(&job.stages[0]) >> 20
        };
        assert_eq!(ahead_bytes(&near, 400 << 20, &[2]), 0);
        assert_eq!(
            ahead_bytes(&far, 400 << 20, &[2]),
            50,
            "two inputs of two workers"
        );
        assert_eq!(ahead_bytes(&far, 40 << 20, &[2]), 5);
        let sorted = far.sort(vec![key]).expect("plans");
        assert_eq!(ahead_bytes(&sorted, 400 << 20, &[1, 1]), 12, "beside sorts");
    }

    #[test]
    fn memory_of_sorts_is_for_those_who_sort() {
        let share = StoreShare::new("sorts".to_owned(), Some(800 << 20), 400 << 20);
        let rows = Dataset::range(100).expect("plans");
        let key = RangeKey {
            column: "id".to_owned(),
            is_descending: false,
            has_nulls_first: false,
        };
        let memory_bytes = |dataset: &Dataset| {
            let job = plan_job(dataset, &Sink::Consumer).expect("can be cut");
            let sizes = Sizes::new(&ExecutionOptions::default(), &share, &job, &[3, 1]);
            assert_eq!(sizes.relational_bytes_of(&job), 200 << 20);
            let each = job
                .stages
                .iter()
                .map(|stage| sizes.memory_bytes(stage) >> 20);
            each.collect::<Vec<u64>>()
        };
        let sorted = rows.sort(vec![key]).expect("plans");
        assert_eq!(
            memory_bytes(&sorted),
            [50, 200],
            "one input is sorted by one worker"
        );
        let shuffled = rows.shuffle(Some(7)).expect("plans");
        assert_eq!(
            memory_bytes(&shuffled),
            [50, 50],
            "each may get a partition"
        );
    }
}
