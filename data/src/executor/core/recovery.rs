//! Blocks that were lost with their node: made again by the inputs that had made them.
//!
//! ```text
//!  InputLost ─► input back to pending, worker idle ─┐
//!  BlockLost ───────────────────────────────────────┴► block is lost ─► rerun of its input
//!                                                       │                 │ names blocks that are free by now:
//!                                                       │                 └─► they are lost too, and so on to the source
//!  Pulled of a rerun ─► Restored: the block is there again, and whoever waits for it goes on
//! ```
//! A rerun sends exactly the blocks that are lost, of a partitioned stage those of the lost partitions. Nothing waits for
//! room: a block that is made again had its room already, and the blocks that it needs are few.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use super::Executor;
use super::event::{BlockKey, Effect, Pulled, StartInput, WorkerKey};
use super::lineage::{Origin, Recipe};
use super::stage::{Active, Rerun, Work, content_of};

impl Executor {
    /// The worker stays; what it had waits until its blocks are there again.
    pub(super) fn input_lost(&mut self, worker: WorkerKey, blocks: Vec<BlockKey>) {
        let Some(index) = self.stage_of(worker) else {
            return;
        };
        let stage = &mut self.stages[index];
        let held = stage.workers.set_idle(worker);
        let unwanted = stage.put_back(held);
        self.free_unwanted(unwanted);
        for block in blocks {
            self.block_lost(block);
        }
    }

    /// The block is to be made again, if anybody needs it and it is not under way.
    pub(super) fn block_lost(&mut self, block: BlockKey) {
        if let Some(recipe) = self.blocks.lose(block) {
            self.want(block, recipe);
        }
    }

    /// Runs the input of a lost block again.
    fn want(&mut self, block: BlockKey, recipe: Recipe) {
        let mut wanted = vec![(block, recipe)];
        while let Some((block, recipe)) = wanted.pop() {
            let origin = Arc::clone(&recipe.origin);
            let setup = &self.stages[origin.stage].setup;
            if !setup.is_repeatable {
                let failure = gone_for_good(&setup.name);
                return self.finish(Err(failure));
            }
            self.reopen(origin.stage);
            let stage = &mut self.stages[origin.stage];
            let is_new = !stage.reruns.contains_key(&origin.sequence);
            // What has no room where its input had none has none there again.
            let kinds = stage.kinds_for(origin.sequence);
            let rerun = stage
                .reruns
                .entry(origin.sequence)
                .or_insert_with(|| Rerun::new(Arc::clone(&origin), kinds));
            rerun.wanted.insert(recipe.blocks_before, (block, recipe));
            if is_new {
                wanted.extend(self.use_ingredients(&origin));
            }
        }
    }

    /// The blocks that a rerun needs have one more user. Returns those that are free by now, and must be made again.
    fn use_ingredients(&mut self, origin: &Origin) -> Vec<(BlockKey, Recipe)> {
        let mut missing = Vec::new();
        for ingredient in origin.ingredients() {
            let used = self.blocks.use_again(ingredient);
            self.stages[ingredient.recipe.origin.stage].output_bytes += used.budget_bytes;
            if used.is_missing {
                missing.push((ingredient.part.block, ingredient.recipe.clone()));
            }
        }
        missing
    }

    /// A stage that was done has something to do again.
    fn reopen(&mut self, index: usize) {
        if std::mem::replace(&mut self.stages[index].is_done, false) {
            self.size_pools();
        }
    }

    /// Gives the first rerun whose blocks are there to a worker; one that must wait for room gives way.
    pub(super) fn start_rerun(&mut self, index: usize) -> bool {
        let stage = &self.stages[index];
        let found = stage.reruns.iter().find_map(|(&sequence, rerun)| {
            if !self.blocks.are_there(&rerun.origin) {
                return None;
            }
            let may_have = |worker: &WorkerKey| stage.may_have(*worker, &rerun.kinds);
            let idle = stage.workers.idle().find(may_have);
            let paused = || stage.workers.last_paused_that(|worker| may_have(&worker));
            Some((sequence, idle.or_else(paused)?))
        });
        let Some((sequence, worker)) = found else {
            return false;
        };
        let stage = &mut self.stages[index];
        let rerun = stage.reruns.remove(&sequence).expect("found just above");
        let held = stage.workers.set_idle(worker);
        let unwanted = stage.put_back(held);
        self.free_unwanted(unwanted);
        self.assign(
            index,
            worker,
            Active {
                sequence,
                work: Work::Rerun(rerun),
                since: self.now,
            },
        );
        true
    }

    /// Gives a worker what it shall work on.
    pub(super) fn assign(&mut self, index: usize, worker: WorkerKey, active: Active) {
        let start = start_of(index, worker, &active);
        self.effects.push(Effect::StartInput(start));
        self.stages[index].workers.assign(worker, active);
    }

    /// What a pull of a rerun brought.
    pub(super) fn rerun_pulled(&mut self, index: usize, pulled: &Pulled) {
        let worker = pulled.worker;
        let active = self.stages[index].workers.active_mut(worker);
        let Some(Work::Rerun(rerun)) = active.map(|active| &mut active.work) else {
            return;
        };
        if let Some((made, rows, _)) = pulled.block {
            let wanted = rerun.wanted.pop_first();
            self.restored(wanted.map(|(_, (lost, _))| lost), made, rows);
        }
        let active = self.stages[index].workers.active(worker);
        let Some(Work::Rerun(rerun)) = active.map(|active| &active.work) else {
            return;
        };
        if rerun.wanted.is_empty() {
            self.end_rerun(index, worker);
        } else if pulled.is_last {
            let name = self.stages[index].setup.name.clone();
            self.finish(Err(not_repeatable(&name)));
        }
    }

    fn restored(&mut self, lost: Option<BlockKey>, made: BlockKey, rows: u64) {
        let Some(lost) = lost.filter(|&lost| self.blocks.is_lost(lost)) else {
            // Nobody needs it any more, or another rerun was quicker.
            self.effects.push(Effect::Release(made));
            return;
        };
        if self.blocks.found(lost, rows) {
            self.effects.push(Effect::Restored { lost, made });
        } else {
            let stage = self
                .blocks
                .recipe(lost)
                .map_or(0, |recipe| recipe.origin.stage);
            let name = self.stages[stage].setup.name.clone();
            self.effects.push(Effect::Release(made));
            self.finish(Err(not_repeatable(&name)));
        }
    }

    /// All that was wanted is there. What the worker still has of its input is forgotten with the next one.
    fn end_rerun(&mut self, index: usize, worker: WorkerKey) {
        let Some(active) = self.stages[index].workers.input_ended(worker) else {
            return;
        };
        if let Work::Rerun(rerun) = active.work {
            self.free_ingredients(&rerun.origin);
            if !rerun.kinds.is_empty() {
                self.size_pools();
            }
        }
    }

    /// An input does not need its blocks any more.
    pub(super) fn free_ingredients(&mut self, origin: &Origin) {
        for ingredient in origin.ingredients() {
            self.free_block(ingredient.part.block, ingredient.account);
        }
    }
}

/// What the worker is told of what it is given.
pub(super) fn start_of(stage: usize, worker: WorkerKey, active: &Active) -> StartInput {
    let ((skip_blocks, skip_rows), wanted) = match &active.work {
        Work::Input(input) => ((input.blocks_out, input.rows_out), Vec::new()),
        Work::Rerun(rerun) => (rerun.skipped(), rerun.wanted.keys().copied().collect()),
    };
    StartInput {
        worker,
        stage,
        sequence: active.sequence,
        content: content_of(&active.work),
        skip_blocks,
        skip_rows,
        wanted,
    }
}

fn gone_for_good(stage: &str) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::ObjectLost,
        format!(
            "{stage}: a block was lost after others had been handed on, and its stages, which run in one worker, would give other \
             blocks when they ran again; run the job again"
        ),
    )
}

fn not_repeatable(stage: &str) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::Application,
        format!(
            "{stage}: a block was lost with its node, and its input gave other rows when it was run again: functions must \
             return the same number of rows for the same input"
        ),
    )
}
