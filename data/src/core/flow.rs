//! How rows move on: releasing outputs, making inputs, pulling within the budget, starting and ending workers.

use super::event::{BlockSlice, Effect, InputContent, StartInput, WorkerKey};
use super::stage::{Stage, WorkerState};
use super::{Executor, busy};

impl Executor {
    /// Does everything that may be done now.
    pub(super) fn advance(&mut self) {
        if self.is_over {
            return;
        }
        loop {
            self.release_outputs();
            if self.is_over {
                return;
            }
            let acted = (0..self.stages.len())
                .rev()
                .any(|stage| self.advance_stage(stage, false));
            if !acted && !self.take_forced_step() {
                return;
            }
        }
    }

    /// Moves outputs on to the next stage or the consumer, and closes stages that are done.
    fn release_outputs(&mut self) {
        for index in 0..self.stages.len() {
            if self.stages[index].is_done {
                continue;
            }
            let (wanted, unwanted) = self.stages[index].release(self.setup.keep_order);
            unwanted
                .into_iter()
                .for_each(|part| self.free_block(part.block));
            for part in wanted {
                self.hand_on(index, part);
            }
            if !self.stages[index].is_drained() {
                continue;
            }
            self.close_up_to(index);
            match self.stages.get_mut(index + 1) {
                Some(next) => next.is_fed = true,
                None => return self.finish(Ok(())),
            }
        }
    }

    fn hand_on(&mut self, from: usize, part: BlockSlice) {
        match self.stages.get_mut(from + 1) {
            Some(next) => next.incoming.push_back(part),
            None => {
                self.delivered += 1;
                self.effects.push(Effect::Deliver(part));
            }
        }
    }

    /// A stage that has given all its rows needs nothing from those before it either.
    fn close_up_to(&mut self, last: usize) {
        for index in 0..=last {
            if !self.stages[index].is_done {
                self.close_stage(index);
            }
        }
        self.size_pools();
    }

    /// One action of a stage, if there is one that may be done.
    fn advance_stage(&mut self, index: usize, is_forced: bool) -> bool {
        if self.stages[index].is_done {
            return false;
        }
        self.resize(index)
            || self.start_input(index, is_forced)
            || self.pull_more(index, is_forced)
            || self.make_input(index, is_forced)
    }

    /// When nothing is under way and nothing may start: one step beyond the budget, as late in the pipeline as possible.
    fn take_forced_step(&mut self) -> bool {
        let is_waiting = self.delivered > 0 || self.stages.iter().any(Stage::awaits_answer);
        if is_waiting {
            return false;
        }
        (0..self.stages.len())
            .rev()
            .any(|stage| self.advance_stage(stage, true) || self.run_head_instead(stage))
    }

    /// Makes an input of blocks that came in.
    fn make_input(&mut self, index: usize, is_forced: bool) -> bool {
        let stage = &mut self.stages[index];
        // Not before somebody can take it: until then more blocks may join it.
        if !stage.pending.is_empty() || stage.idle_worker().is_none() && !stage.workers.is_empty() {
            return false;
        }
        match stage.next_bundle(is_forced) {
            Some(blocks) => {
                stage.add_input(InputContent::Blocks(blocks));
                true
            }
            None => false,
        }
    }

    /// Gives the first waiting input to an idle worker.
    fn start_input(&mut self, index: usize, is_forced: bool) -> bool {
        let stage = &self.stages[index];
        let Some((&sequence, _)) = stage.pending.first_key_value() else {
            return false;
        };
        let Some(worker) = stage.idle_worker() else {
            return false;
        };
        if !self.may_pull(index, sequence, is_forced) {
            return false;
        }
        self.send_input(index, worker, sequence);
        true
    }

    fn send_input(&mut self, index: usize, worker: WorkerKey, sequence: u64) {
        let stage = &mut self.stages[index];
        let input = stage
            .pending
            .remove(&sequence)
            .expect("only pending inputs are sent");
        self.effects.push(Effect::StartInput(StartInput {
            worker,
            stage: index,
            sequence,
            content: input.content.clone(),
            skip_blocks: input.blocks_out,
            skip_rows: input.rows_out,
        }));
        stage.workers.insert(worker, busy(sequence, input));
    }

    /// Pulls from the worker whose input comes first in the order.
    fn pull_more(&mut self, index: usize, is_forced: bool) -> bool {
        let waiting = self.stages[index]
            .active()
            .filter(|(_, active)| !active.is_pulling);
        let first = waiting.min_by_key(|(_, active)| active.sequence);
        let Some((worker, sequence)) = first.map(|(worker, active)| (worker, active.sequence))
        else {
            return false;
        };
        if !self.may_pull(index, sequence, is_forced) {
            return false;
        }
        if let Some(WorkerState::Busy(active)) = self.stages[index].workers.get_mut(&worker) {
            active.is_pulling = true;
        }
        self.effects.push(Effect::Pull(worker));
        true
    }

    /// The input whose outputs everybody waits for has no worker: a later one gives way to it.
    fn run_head_instead(&mut self, index: usize) -> bool {
        let stage = &mut self.stages[index];
        let head = stage.head();
        if !self.setup.keep_order || stage.is_done || !stage.pending.contains_key(&head) {
            return false;
        }
        let last = stage.active().max_by_key(|(_, active)| active.sequence);
        let Some(worker) = last.map(|(worker, _)| worker) else {
            return false;
        };
        if let Some(WorkerState::Busy(active)) = stage.workers.insert(worker, WorkerState::Idle) {
            stage.pending.insert(active.sequence, active.input);
        }
        self.send_input(index, worker, head);
        true
    }

    /// Whether a pull may bring one more block: EXE-1.
    fn may_pull(&self, index: usize, sequence: u64, is_forced: bool) -> bool {
        let stage = &self.stages[index];
        if !stage.setup.makes_blocks {
            return true;
        }
        if is_forced {
            // Beyond the budget only what can leave at once.
            return !self.setup.keep_order || sequence == stage.head();
        }
        let owned = self.owned_bytes();
        if expected_bytes(stage) + stage.largest_block_bytes <= owned {
            return true;
        }
        let makers = self.stages.iter().filter(|stage| stage.setup.makes_blocks);
        let owners = makers.clone().count() as u64;
        let shared = self.setup.budget_bytes - owned * owners;
        let borrowed: u64 = makers
            .map(|stage| expected_bytes(stage).saturating_sub(owned))
            .sum();
        borrowed + stage.largest_block_bytes <= shared
            && self.used_bytes() < self.setup.budget_bytes
    }

    /// The part of the budget that every stage has for itself: half of it is shared.
    fn owned_bytes(&self) -> u64 {
        let makers = self
            .stages
            .iter()
            .filter(|stage| stage.setup.makes_blocks)
            .count() as u64;
        self.setup.budget_bytes / 2 / makers.max(1)
    }

    /// Starts workers that have something to do, ends those that have not.
    fn resize(&mut self, index: usize) -> bool {
        let is_source = index == 0;
        let stage = &mut self.stages[index];
        let have = stage.workers.len();
        let waiting = stage.pending.len() + usize::from(!stage.incoming.is_empty());
        let active = stage.active().count();
        // Later stages start one worker early: it loads its model while the first rows are read.
        let early = usize::from(!is_source && !stage.is_fed);
        let useful = (waiting + active).max(early).min(stage.target_workers);
        if have < useful {
            let worker = WorkerKey(self.next_worker);
            self.next_worker += 1;
            stage.workers.insert(worker, WorkerState::Starting);
            self.effects.push(Effect::StartWorker {
                stage: index,
                worker,
            });
            return true;
        }
        let is_spare =
            have > stage.target_workers || (stage.is_fed && waiting == 0 && have > active);
        if is_spare && let Some(worker) = stage.idle_worker() {
            stage.workers.remove(&worker);
            self.effects.push(Effect::StopWorker(worker));
            return true;
        }
        false
    }
}

/// Bytes of a stage's blocks, those counted that its pulls are expected to bring.
fn expected_bytes(stage: &Stage) -> u64 {
    stage.output_bytes + stage.pulls_under_way() * stage.largest_block_bytes
}
