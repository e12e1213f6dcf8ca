//! How rows move on: releasing outputs, making inputs, pulling within the budget, starting and ending workers.

use aktis_common::resources::{CPU, MEMORY};
use aktis_common::scheduling::{ClusterView, NodeView};

use super::Executor;
use super::event::{Effect, WorkerKey};
use super::recovery::start_of;
use super::sizing;
use super::stage::{Active, Input, Stage, Work};
use super::workers::{Paused, WorkerState};

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
            if !acted && !self.make_room() && !self.take_forced_step() {
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
            let (wanted, unwanted) = self.stages[index].release();
            self.free_unwanted(unwanted);
            for part in wanted {
                self.hand_on(index, part);
            }
            if !self.stages[index].is_drained() {
                continue;
            }
            let stage = &mut self.stages[index];
            stage.is_used_up = stage.has_no_input_left();
            self.close_with_feeders(index);
            self.end_edges_from(index);
        }
        // Delivered blocks may get lost until they are read.
        let mut ends = self.stages.iter().filter(|stage| stage.next.is_empty());
        if ends.all(|stage| stage.is_done) && self.delivered.is_empty() {
            self.finish(Ok(()));
        }
    }

    /// A stage that has given all its rows needs nothing from those before it either; they are over unless others need them.
    fn close_with_feeders(&mut self, last: usize) {
        for index in (0..=last).rev() {
            let stage = &self.stages[index];
            let mut next = stage.next.iter();
            let is_needed = next.len() == 0 || next.any(|next| !self.stages[next.stage].is_done);
            if !stage.is_done && (index == last || !is_needed) {
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
        self.stages[index].unbind_in_vain();
        self.take_over(index)
            || self.resize(index)
            || self.start_rerun(index)
            || self.start_bound(index, is_forced)
            || self.start_input(index, is_forced)
            || (!is_forced && (self.queue_input(index) || self.look_ahead(index)))
            || self.pull_more(index, is_forced)
            || (!is_forced && self.pull_ahead(index))
            || self.make_input(index, is_forced)
    }

    /// When all that is awaited are workers that have no room: a worker beyond the size of its pool goes, though it has an
    /// input. The cluster may have become smaller than the pools.
    fn make_room(&mut self) -> bool {
        let mut stages = self.stages.iter();
        let starts = stages.any(|stage| stage.awaits_first_worker() || stage.awaits_kind());
        let pulls = self.stages.iter().any(|stage| stage.workers.pulling() > 0);
        if !starts || pulls || self.consumer_reads() {
            return false;
        }
        let beyond = self.stages.iter().enumerate().find_map(|(index, stage)| {
            // The last of all may be of a kind that has no more than it may have.
            let is_beyond = |worker| stage.is_beyond(worker);
            let worker = stage.workers.last_paused_that(is_beyond);
            worker.map(|worker| (index, worker))
        });
        let Some((index, worker)) = beyond else {
            return false;
        };
        self.stop_busy(index, worker);
        true
    }

    /// Ends a worker of the stage, and puts back the inputs that it has.
    pub(super) fn stop_busy(&mut self, index: usize, worker: WorkerKey) {
        let stage = &mut self.stages[index];
        if let Some(WorkerState::Busy(held)) = stage.workers.remove(worker) {
            let unwanted = stage.put_back(held.into_all());
            self.free_unwanted(unwanted);
            self.effects.push(Effect::TakeBack(worker));
        }
        self.effects.push(Effect::StopWorker(worker));
    }

    /// Whether the consumer has something to read. It may wait for a block that is lost, and for what makes that again.
    fn consumer_reads(&self) -> bool {
        !self.delivered.is_empty() && self.blocks.all_lost().is_disjoint(&self.delivered)
    }

    /// When nothing is under way and nothing may start: one step beyond the budget, as late in the pipeline as possible (`EXE-2`).
    fn take_forced_step(&mut self) -> bool {
        let is_waiting = self.consumer_reads() || self.stages.iter().any(Stage::awaits_answer);
        if is_waiting {
            return false;
        }
        // What only waits for others comes last: it would fill the store without helping anybody.
        let leads = self.leading_on();
        let all = (0..self.stages.len()).rev();
        let (leading, others): (Vec<usize>, Vec<usize>) = all.partition(|&stage| leads[stage]);
        leading
            .into_iter()
            .chain(others)
            .any(|stage| self.advance_stage(stage, true) || self.run_head_instead(stage))
    }

    /// Makes an input of blocks that came in.
    fn make_input(&mut self, index: usize, is_forced: bool) -> bool {
        let stage = &mut self.stages[index];
        // Not before somebody can take it: until then more blocks may join it.
        let is_taken =
            stage.workers.first_idle().is_some() || stage.workers.wanting().next().is_some();
        let is_early = !is_taken && stage.workers.count() > 0;
        !is_early && self.make_input_now(index, is_forced)
    }

    fn make_input_now(&mut self, index: usize, is_forced: bool) -> bool {
        let stage = &mut self.stages[index];
        if stage.pending.has_unbound() {
            return false;
        }
        let measure = stage.measure(is_forced);
        let Some(content) = stage.feeds.next_input(&mut self.blocks, measure) else {
            return false;
        };
        stage.add_input(index, content, None);
        true
    }

    /// Gives an input that only some kinds of workers may have to an idle one of these.
    fn start_bound(&mut self, index: usize, is_forced: bool) -> bool {
        let stage = &self.stages[index];
        let found = stage.pending.bound().find_map(|(sequence, input)| {
            let mut idle = stage.workers.idle();
            let worker = idle.find(|&worker| stage.may_have(worker, &input.kinds))?;
            let may_start =
                self.blocks.are_there(&input.origin) && self.may_pull(index, sequence, is_forced);
            may_start.then_some((worker, sequence))
        });
        let Some((worker, sequence)) = found else {
            return false;
        };
        self.send_input(index, worker, sequence);
        true
    }

    /// Gives the first waiting input whose blocks are there to an idle worker.
    fn start_input(&mut self, index: usize, is_forced: bool) -> bool {
        let stage = &self.stages[index];
        let may_take = |&worker: &WorkerKey| is_forced || !stage.holds_up_the_end(worker);
        let Some(worker) = stage.idle_worker(may_take) else {
            return false;
        };
        let mut wanted = stage.wanted_by(worker, 0);
        if is_forced {
            // Only what is next can leave at once.
            wanted.node = None;
        }
        let is_there = |input: &Input| self.blocks.are_there(&input.origin);
        let Some(sequence) = stage.pending.first(wanted, is_there) else {
            return false;
        };
        if !self.may_pull(index, sequence, is_forced) {
            return false;
        }
        self.send_input(index, worker, sequence);
        true
    }

    fn send_input(&mut self, index: usize, worker: WorkerKey, sequence: u64) {
        let active = self.take_pending(index, sequence);
        self.assign(index, worker, active);
    }

    fn take_pending(&mut self, index: usize, sequence: u64) -> Active {
        let input = self.stages[index]
            .pending
            .remove(sequence)
            .expect("only pending inputs are sent");
        Active {
            sequence,
            work: Work::Input(input),
            since: self.now,
        }
    }

    /// Gives an input to a worker that is about to have too few calls under way, and pulls it for the one that it has. Inputs that
    /// workers have died over are alone with theirs: whose rows are to blame must be known.
    fn queue_input(&mut self, index: usize) -> bool {
        let stage = &self.stages[index];
        let may_take =
            |of: &Paused| is_well(stage, of.worker) && !stage.holds_up_the_end(of.worker);
        let Some(Paused {
            sequence: first,
            worker,
            ..
        }) = stage.workers.wanting().find(may_take)
        else {
            return false;
        };
        self.queue_behind(index, worker, first)
    }

    /// Gives the worker the first waiting input behind the one that it has, at place `first` of the order.
    pub(super) fn queue_behind(&mut self, index: usize, worker: WorkerKey, first: u64) -> bool {
        let stage = &self.stages[index];
        if !stage.pending.has_unbound() {
            return self.make_input_now(index, false);
        }
        let will_do = |input: &Input| input.deaths == 0 && self.blocks.are_there(&input.origin);
        let wanted = stage.wanted_by(worker, first + 1);
        let Some(sequence) = stage.pending.first(wanted, will_do) else {
            return false;
        };
        if !self.may_pull(index, first, false) {
            return false;
        }
        let next = self.take_pending(index, sequence);
        let start = start_of(index, worker, &next);
        self.effects.push(Effect::QueueInput(start));
        self.stages[index].workers.queue(worker, next);
        true
    }

    /// Pulls from the worker whose input comes first in the order.
    fn pull_more(&mut self, index: usize, is_forced: bool) -> bool {
        let Some(paused) = self.stages[index].workers.first_paused() else {
            return false;
        };
        let worker = paused.worker;
        if paused.is_input && !self.may_pull(index, paused.sequence, is_forced) {
            return false;
        }
        self.stages[index].workers.pull_begun(worker);
        self.effects.push(Effect::Pull(worker));
        true
    }

    /// The input whose outputs everybody waits for has no worker: a later one gives way to it.
    fn run_head_instead(&mut self, index: usize) -> bool {
        let stage = &mut self.stages[index];
        let head = stage.outputs.head();
        let waits = stage.pending.get(head);
        let is_ready = waits.is_some_and(|input| self.blocks.are_there(&input.origin));
        if !stage.gives_in_order || stage.is_done || !is_ready {
            return false;
        }
        let kinds = waits.map_or_else(Box::default, |input| input.kinds.clone());
        let may_have = |worker| stage.may_have(worker, &kinds);
        let Some(worker) = stage.workers.last_paused_that(may_have) else {
            return false;
        };
        let held = stage.workers.set_idle(worker);
        let unwanted = stage.put_back(held);
        self.free_unwanted(unwanted);
        self.send_input(index, worker, head);
        true
    }

    /// Whether a pull may bring one more block: EXE-1.
    pub(super) fn may_pull(&self, index: usize, sequence: u64, is_forced: bool) -> bool {
        let stage = &self.stages[index];
        if !stage.setup.makes_blocks || (!stage.gives_in_order && self.leaves_the_budget(stage)) {
            return true;
        }
        if is_forced {
            // Beyond the budget only what can leave at once.
            return !stage.gives_in_order || sequence == stage.outputs.head();
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
            && self.blocks.used_bytes() < self.setup.budget_bytes
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
        let stage = &mut self.stages[index];
        let waiting = stage.waiting();
        let active = stage.workers.busy();
        // Workers of later stages start early: they load their models while the first rows are read. Behind a barrier that would
        // only take room from those before it.
        let early = if stage.is_fed() || stage.feeds.are_closed() {
            0
        } else {
            stage.early_workers()
        };
        let kind = stage
            .kind_to_start_for_bound()
            .or_else(|| stage.kind_to_start((waiting + active).max(early)));
        if let Some(kind) = kind.filter(|_| self.has_memory_for_another(index)) {
            let stage = &mut self.stages[index];
            let worker = WorkerKey(self.next_worker);
            self.next_worker += 1;
            stage.workers.add(worker, kind);
            self.effects.push(Effect::StartWorker {
                stage: index,
                kind,
                worker,
                incidents: stage.starts[kind].incidents,
            });
            return true;
        }
        let stage = &mut self.stages[index];
        if let Some((worker, has_no_work)) = stage.spare_worker() {
            stage.workers.remove(worker);
            self.effects.push(Effect::StopWorker(worker));
            if has_no_work {
                // Its room is for those who have.
                self.size_pools();
            }
            return true;
        }
        false
    }
}

impl Executor {
    /// Whether one more worker of the stage has the memory that it counts for: where that is what limits them, workers that a stage has
    /// beyond its target hold theirs until they are done with their inputs. One is owed to each stage.
    fn has_memory_for_another(&self, index: usize) -> bool {
        if self.stages[index].workers.count() == 0 || !is_memory_scarce(&self.setup.view) {
            return true;
        }
        let count = |of: fn(&Stage) -> usize| self.stages.iter().map(of).sum::<usize>();
        count(|stage| stage.workers.count()) < count(Stage::target_workers)
    }
}

/// Whether not every processor can have a worker, for want of memory.
fn is_memory_scarce(view: &ClusterView) -> bool {
    let is_short = |node: &NodeView| {
        let total = node.resources.total();
        total.get(MEMORY).whole()
            < total
                .get(CPU)
                .whole()
                .saturating_mul(sizing::WORKER_MEMORY.whole())
    };
    sizing::is_memory_known(view) && view.nodes().iter().any(is_short)
}

/// Whether the worker has an input that no other has died over: such a one is alone with its worker. And none waits for it that others
/// may not have: that comes next.
pub(super) fn is_well(stage: &Stage, worker: WorkerKey) -> bool {
    let active = stage.workers.active(worker).map(|active| &active.work);
    matches!(active, Some(Work::Input(input)) if input.deaths == 0) && !stage.is_awaited(worker)
}

/// Bytes of a stage's blocks, those counted that its pulls are expected to bring.
fn expected_bytes(stage: &Stage) -> u64 {
    stage.output_bytes + stage.workers.pulling() as u64 * stage.largest_block_bytes
}
