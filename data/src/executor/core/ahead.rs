//! The next input of a worker, there before it asks: where so many wait that it costs nothing.
//!
//! What is bound to a worker may wait there while another is free. So an input is only sent ahead if the other workers have enough to do
//! until this one is done with it; a worker that is much slower than others gets none as long as these could be done before.

use super::Executor;
use super::event::{Effect, WorkerKey};
use super::flow::is_well;
use super::stage::{Stage, as_f64};
use crate::graph::EdgeKind;

impl Executor {
    /// Gives an input to a worker that works on one and will be the first to have none, so that it has the next one at hand then.
    pub(super) fn look_ahead(&mut self, index: usize) -> bool {
        let stage = &self.stages[index];
        if !stage.may_look_ahead() {
            return false;
        }
        let may_take = |&(worker, _): &(WorkerKey, u64)| {
            is_well(stage, worker) && stage.has_enough_beside(worker)
        };
        let Some((worker, first)) = stage.workers.with_one().find(may_take) else {
            return false;
        };
        self.queue_behind(index, worker, first)
    }
}

impl Executor {
    /// Pulls once more from a worker that has its next input at hand, before it has answered the last pull: so it goes on with the next block
    /// without asking anybody, too. However few blocks its inputs give, there is one for each of two pulls.
    pub(super) fn pull_ahead(&mut self, index: usize) -> bool {
        let stage = &self.stages[index];
        let next = stage.workers.first_pulled_once();
        let Some(next) = next.filter(|_| stage.setup.looks_ahead) else {
            return false;
        };
        if !self.may_pull(index, next.sequence, false) {
            return false;
        }
        self.stages[index].workers.pull_begun(next.worker);
        self.effects.push(Effect::Pull(next.worker));
        true
    }
}

impl Stage {
    /// Whether inputs may wait in workers that have one, and there are any to spare.
    fn may_look_ahead(&self) -> bool {
        let is_streamed = || {
            self.feeds
                .givers()
                .all(|(_, kind)| kind == EdgeKind::Forward)
        };
        let is_settled =
            self.workers.first_idle().is_none() && self.workers.count() <= self.target_workers();
        let may = self.setup.looks_ahead && !self.is_limited && is_settled;
        may && is_streamed() && self.waiting() >= self.workers.count()
    }

    /// Whether an input that waits in this worker is done no later than if it waited for the first one that is free: the others have
    /// enough to do until then. How fast it is must be known.
    fn has_enough_beside(&self, worker: WorkerKey) -> bool {
        // It has one, which it may just have begun, and takes as long for the next one.
        let workers = as_f64(self.workers.count() as u64);
        self.done_meanwhile(worker)
            .is_some_and(|done| as_f64(self.waiting() as u64) >= 2.0 * done - workers)
    }
}
