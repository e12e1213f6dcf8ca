//! The streaming executor as a state machine: events in, effects out; no clock, no threads, no data.
//!
//! ```text
//!           splits                blocks                 blocks
//!  source ─────────► stage 0 ───────────────► stage 1 ───────────────► consumer (or the last stage's sink)
//!                    pending                  incoming ► pending
//!                    workers                  workers
//!                    held, by order           held, by order
//! ```
//!
//! - EXE-1 (budget-holds): blocks that wait or are read amount to at most the budget and one block per worker.
//! - EXE-2 (never-stuck): as long as the consumer takes what is delivered and workers answer, it comes to an end.
//! - EXE-3 (every-split-once): the rows that leave are those of every split once, whatever dies on the way.
//! - EXE-4 (order-kept): if asked for, rows leave in the order of the source.
//!
//! Every stage owns a part of the budget for its output, so that a fast reader cannot starve the stages after it; the
//! rest is shared. When nothing is under way and nothing may start, one step is taken beyond the budget: the last one
//! possible, which makes room soonest.

pub mod event;
mod flow;
pub mod sizing;
pub mod stage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use event::{BlockKey, BlockSlice, Effect, Event, InputContent, Pulled, WorkerKey};
use sizing::{NodeCapacity, StageDemand};
use stage::{Active, Input, Stage, StageSetup, WorkerState};

/// What holds for the whole execution.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutorSetup {
    /// Bytes of blocks that may wait or be read.
    pub budget_bytes: u64,
    /// Whether rows leave in the order of the source.
    pub keep_order: bool,
    /// Workers that may die over one input before it is given up.
    pub max_deaths: u32,
    /// What the cluster has.
    pub nodes: Vec<NodeCapacity>,
}

/// The executor.
#[derive(Debug)]
pub struct Executor {
    setup: ExecutorSetup,
    stages: Vec<Stage>,
    demands: Vec<StageDemand>,
    /// Bytes and rest of the readers of blocks that exist.
    blocks: BTreeMap<BlockKey, LiveBlock>,
    next_worker: u64,
    delivered: usize,
    is_over: bool,
    effects: Vec<Effect>,
}

/// A block that is not free yet.
#[derive(Debug)]
struct LiveBlock {
    /// The stage that made it.
    stage: usize,
    bytes: u64,
}

impl Executor {
    /// An execution of `stages` over so many splits; the first effects come from [`start`](Self::start).
    pub fn new(
        setup: ExecutorSetup,
        stages: Vec<(StageSetup, StageDemand)>,
        splits: usize,
    ) -> Self {
        let (setups, demands): (Vec<_>, Vec<_>) = stages.into_iter().unzip();
        let mut stages: Vec<Stage> = setups.into_iter().map(Stage::new).collect();
        let first = stages
            .first_mut()
            .expect("an execution has at least one stage");
        (0..splits).for_each(|split| first.add_input(InputContent::Split(split)));
        first.is_fed = true;
        Self {
            setup,
            stages,
            demands,
            blocks: BTreeMap::new(),
            next_worker: 0,
            delivered: 0,
            is_over: false,
            effects: Vec::new(),
        }
    }

    /// What is to be done first.
    pub fn start(&mut self) -> Vec<Effect> {
        self.size_pools();
        self.advance();
        std::mem::take(&mut self.effects)
    }

    /// What is to be done after `event`.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        if let Event::Taken(block) = event {
            // Blocks may be taken after the end.
            self.delivered = self.delivered.saturating_sub(1);
            self.free_block(block);
        }
        if self.is_over {
            // Whatever still comes in is thrown away.
            if let Event::Pulled(Pulled {
                block: Some((block, ..)),
                ..
            }) = event
            {
                self.effects.push(Effect::Release(block));
            }
            return std::mem::take(&mut self.effects);
        }
        match event {
            Event::WorkerReady(worker) => self.worker_ready(worker),
            Event::WorkerLost { worker, failure } => self.worker_lost(worker, failure),
            Event::WorkerFailed { worker, failure } => {
                if self.stage_of(worker).is_some() {
                    self.finish(Err(failure));
                }
            }
            Event::Pulled(pulled) => self.pulled(pulled),
            Event::Taken(_) => {}
            Event::Cancelled => self.finish(Ok(())),
        }
        self.advance();
        std::mem::take(&mut self.effects)
    }

    /// Bytes of blocks that are not free.
    pub fn used_bytes(&self) -> u64 {
        self.blocks.values().map(|block| block.bytes).sum()
    }

    /// Inputs of the stage: waiting, in work.
    pub fn backlog(&self, stage: usize) -> (usize, usize) {
        let stage = &self.stages[stage];
        (stage.pending.len(), stage.active().count())
    }

    /// Workers of the stage: all, those still starting.
    pub fn workers(&self, stage: usize) -> (usize, usize) {
        (
            self.stages[stage].workers.len(),
            self.stages[stage].starting(),
        )
    }

    /// Whether the stage has nothing left to do.
    pub fn is_stage_done(&self, stage: usize) -> bool {
        self.stages[stage].is_done
    }

    fn stage_of(&self, worker: WorkerKey) -> Option<usize> {
        self.stages
            .iter()
            .position(|stage| stage.workers.contains_key(&worker))
    }

    fn worker_ready(&mut self, worker: WorkerKey) {
        let Some(index) = self.stage_of(worker) else {
            return;
        };
        let stage = &mut self.stages[index];
        stage.start_failures = 0;
        if let Some(state) = stage.workers.get_mut(&worker) {
            *state = WorkerState::Idle;
        }
    }

    fn worker_lost(&mut self, worker: WorkerKey, failure: TaskFailure) {
        let Some(index) = self.stage_of(worker) else {
            return;
        };
        let max_deaths = self.setup.max_deaths;
        let stage = &mut self.stages[index];
        let state = stage.workers.remove(&worker).expect("stage_of found it");
        match state {
            WorkerState::Busy(active) => {
                let Active {
                    sequence,
                    mut input,
                    ..
                } = active;
                input.deaths += 1;
                if input.deaths > max_deaths {
                    let failure = given_up(&stage.setup.name, sequence, input.deaths, &failure);
                    stage.pending.insert(sequence, input);
                    self.finish(Err(failure));
                } else {
                    stage.pending.insert(sequence, input);
                }
            }
            WorkerState::Starting => {
                stage.start_failures += 1;
                if stage.start_failures > max_deaths {
                    let failure = never_started(&stage.setup.name, stage.start_failures, &failure);
                    self.finish(Err(failure));
                }
            }
            WorkerState::Idle => {}
        }
    }

    fn pulled(&mut self, pulled: Pulled) {
        let Some(index) = self.stage_of(pulled.worker) else {
            // Its stage is over or it was given up: nobody waits for the block.
            if let Some((block, ..)) = pulled.block {
                self.effects.push(Effect::Release(block));
            }
            return;
        };
        let stage = &mut self.stages[index];
        let Some(WorkerState::Busy(active)) = stage.workers.get_mut(&pulled.worker) else {
            return;
        };
        active.is_pulling = false;
        let sequence = active.sequence;
        stage.load.busy += pulled.busy;
        stage.load.rows_in += pulled.rows_in;
        if let Some((block, rows, bytes)) = pulled.block {
            active.input.blocks_out += 1;
            active.input.rows_out += rows;
            stage.load.rows_out += rows;
            stage.hold(
                sequence,
                BlockSlice {
                    block,
                    first_row: 0,
                    rows,
                    bytes,
                },
            );
            self.blocks.insert(
                block,
                LiveBlock {
                    stage: index,
                    bytes,
                },
            );
        }
        if pulled.is_last {
            self.input_done(index, pulled.worker, sequence);
        }
    }

    fn input_done(&mut self, index: usize, worker: WorkerKey, sequence: u64) {
        let stage = &mut self.stages[index];
        stage.complete(sequence);
        let state = stage.workers.insert(worker, WorkerState::Idle);
        let Some(WorkerState::Busy(Active { input, .. })) = state else {
            return;
        };
        if let InputContent::Blocks(parts) = input.content {
            parts
                .into_iter()
                .for_each(|part| self.free_block(part.block));
        }
        self.size_pools();
    }

    fn free_block(&mut self, block: BlockKey) {
        if let Some(live) = self.blocks.remove(&block) {
            self.stages[live.stage].output_bytes -= live.bytes;
            self.effects.push(Effect::Release(block));
        }
    }

    /// Ends everything. Delivered blocks stay until they are taken.
    fn finish(&mut self, outcome: Result<(), TaskFailure>) {
        if self.is_over {
            return;
        }
        self.is_over = true;
        for index in 0..self.stages.len() {
            self.close_stage(index);
        }
        self.effects.push(Effect::Finish(outcome));
    }

    /// Ends the workers of a stage and frees what waits for it.
    fn close_stage(&mut self, index: usize) {
        let stage = &mut self.stages[index];
        stage.is_done = true;
        let mut unwanted = stage.drain_blocks();
        unwanted.extend(stage.drain_outputs());
        let workers = std::mem::take(&mut stage.workers);
        self.effects
            .extend(workers.into_keys().map(Effect::StopWorker));
        unwanted
            .into_iter()
            .for_each(|part| self.free_block(part.block));
    }

    /// Decides how many workers each stage may have from now on.
    fn size_pools(&mut self) {
        for (index, stage) in self.stages.iter().enumerate() {
            self.demands[index].is_done = stage.is_done;
            self.demands[index].cost = self.cost_per_source_row(index);
        }
        let targets = sizing::solve(&self.demands, &self.setup.nodes);
        for (stage, target) in self.stages.iter_mut().zip(targets) {
            stage.target_workers = target;
        }
    }

    /// How long a stage works for one row of the source, as far as it can be told.
    fn cost_per_source_row(&self, index: usize) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let rows = |rows: u64| rows as f64;
        let mut rows_per_source_row = 1.0;
        for stage in &self.stages[..index] {
            if stage.load.rows_in == 0 {
                return None;
            }
            rows_per_source_row *= rows(stage.load.rows_out) / rows(stage.load.rows_in);
        }
        let load = self.stages[index].load;
        let is_known = load.rows_in > 0 && !load.busy.is_zero();
        is_known.then(|| load.busy.as_secs_f64() / rows(load.rows_in) * rows_per_source_row)
    }
}

fn given_up(stage: &str, sequence: u64, deaths: u32, last: &TaskFailure) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::WorkerCrashed,
        format!(
            "{stage}: input {sequence} was given up because {deaths} worker processes died over it, the last one like \
             this: {last}; look for a crash, os._exit() or too much memory in the function"
        ),
    )
}

fn never_started(stage: &str, failures: u32, last: &TaskFailure) -> TaskFailure {
    TaskFailure::new(
        last.code,
        format!(
            "{stage}: {failures} worker processes died before they were ready, the last one like this: {last}"
        ),
    )
}

/// An input with the worker that has it.
fn busy(sequence: u64, input: Input) -> WorkerState {
    WorkerState::Busy(Active {
        sequence,
        input,
        is_pulling: true,
    })
}
