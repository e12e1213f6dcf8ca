//! What is asked of an executor between events.

use aktis_common::scheduling::ClusterView;

use super::Executor;
use super::event::BlockKey;

impl Executor {
    /// Bytes of blocks that wait or are read.
    pub fn used_bytes(&self) -> u64 {
        self.blocks.used_bytes()
    }

    /// Bytes of blocks that lie behind a barrier.
    pub fn exchange_bytes(&self) -> u64 {
        self.blocks.exchange_bytes()
    }

    /// Inputs of the stage: waiting, in work.
    pub fn backlog(&self, stage: usize) -> (usize, usize) {
        let stage = &self.stages[stage];
        (stage.pending.len(), stage.workers.busy())
    }

    /// Workers of the stage: all, those still starting.
    pub fn workers(&self, stage: usize) -> (usize, usize) {
        let workers = &self.stages[stage].workers;
        (workers.count(), workers.starting())
    }

    /// The same of one kind of its workers.
    pub fn workers_of(&self, stage: usize, kind: usize) -> (usize, usize) {
        let workers = &self.stages[stage].workers;
        (workers.count_of(kind), workers.starting_of(kind))
    }

    /// What the cluster has, as far as it is known.
    pub fn view(&self) -> &ClusterView {
        &self.setup.view
    }

    /// Partitions that were too large for one input of the stage, and the inputs that they became.
    pub fn cut_partitions(&self, stage: usize) -> (u64, u64) {
        self.stages[stage].feeds.cut()
    }

    /// Whether the stage has nothing left to do.
    pub fn is_stage_done(&self, stage: usize) -> bool {
        self.stages[stage].is_done
    }

    /// Whether it has nothing left because all that came to it has gone out, and not because nobody wants more.
    pub fn is_stage_used_up(&self, stage: usize) -> bool {
        self.stages[stage].is_used_up
    }

    /// Whether somebody needs the block.
    pub fn needs(&self, block: BlockKey) -> bool {
        self.blocks.contains(block)
    }
}
