//! The streaming executor as a state machine: events in, effects out; no clock, no threads, no data.
//!
//! ```text
//!           splits             edge: blocks              edge: blocks
//!  source ─────────► stage  ───────────────► stage ───────────────► consumer (or the stage's sink)
//!                    pending                  feeds ► pending
//!                    workers                  workers
//!                    held, by order           held, by order
//! ```
//!
//! - EXE-1 (budget-holds): blocks that wait or are read amount to at most the budget and one block per worker; blocks that
//!   were lost and are made again, and what they are made of, come on top. Exchange data is not among them: blocks behind
//!   a barrier ([`feeds`]), which the object store spills. So nothing behind a barrier holds up what it waits for. What a stage
//!   that is not [repeatable](StageSetup::is_repeatable) gives leaves as a whole, and comes on top.
//! - EXE-2 (never-stuck): as long as the consumer takes what is delivered and workers answer, it comes to an end, whatever
//!   the graph is.
//! - EXE-3 (every-split-once): the rows that leave are those of every split once along every way of the graph, and every
//!   input behind a broadcast has all of it, whatever dies on the way. Of a partition that is cut ([`skew`]), so have inputs all of
//!   the feeds that are not.
//! - EXE-4 (order-kept): if asked for, rows leave in the order of the sources: of a union in the order of the edges, of an
//!   exchange by partition; within a partition of an exchange they are in the order of the giving stage, asked for or not.
//!
//! Blocks that are lost with their node are made again by the inputs that had made them ([`recovery`]).
//!
//! Every stage owns a part of the budget for its output, so that a fast reader cannot starve the stages after it; the
//! rest is shared. When nothing is under way and nothing may start, one step is taken beyond the budget: the last one
//! possible, which makes room soonest. The budget may change while it runs: other executions share the store.

mod ahead;
mod answers;
mod deaths;
mod edges;
pub mod event;
mod feeds;
mod flow;
mod kinds;
mod lineage;
mod outputs;
mod pending;
mod recovery;
pub mod sizing;
pub mod skew;
pub mod stage;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aktis_common::ids::NodeId;
use aktis_common::scheduling::ClusterView;
use aktis_worker::TaskFailure;

use crate::graph::{Edge, EdgeKind};
use deaths::Deaths;
use event::{BlockKey, BlockSlice, Effect, Event, Pulled, WorkerKey};
use kinds::KindShare;
use lineage::{Account, BlockTable, Ingredients, Recipe};
use sizing::StageDemand;
use stage::{Active, Expected, Load, Stage, StageSetup, Work, as_f64};

/// How much an estimate must change before the sizes of the pools are thought over: a tenth.
const NEWS: f64 = 0.1;

/// What holds for the whole execution.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutorSetup {
    /// Bytes of blocks that may wait or be read.
    pub budget_bytes: u64,
    /// Workers that may die over one input before it is given up.
    pub max_deaths: u32,
    /// What the cluster has.
    pub view: ClusterView,
}

/// A stage of an execution.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutorStage {
    /// What it does.
    pub setup: StageSetup,
    /// What its workers need.
    pub demand: StageDemand,
    /// Inputs that its source has, each with the node that its rows lie on, if they lie on one and that is known; none for stages whose
    /// rows come along edges.
    pub splits: Vec<Option<NodeId>>,
    /// About how many rows these have, if that is known.
    pub source_rows: Option<u64>,
    /// Inputs without blocks, before all others: their rows are noted.
    pub noted_inputs: usize,
}

/// The executor.
#[derive(Debug)]
pub struct Executor {
    setup: ExecutorSetup,
    stages: Vec<Stage>,
    demands: Vec<StageDemand>,
    blocks: BlockTable,
    next_worker: u64,
    /// Blocks that the consumer has and has not read yet.
    delivered: BTreeSet<BlockKey>,
    deaths: Deaths,
    is_over: bool,
    effects: Vec<Effect>,
    /// How long the job has run.
    now: Duration,
    /// How often the sizes of the pools were thought over, for tests.
    #[cfg(test)]
    sizings: usize,
}

impl Executor {
    /// An execution of `stages`, each after those that it gets rows from, along `edges`; the first effects come from
    /// [`start`](Self::start).
    pub fn new(setup: ExecutorSetup, parts: Vec<ExecutorStage>, edges: &[Edge]) -> Self {
        let (mut stages, mut demands) = (Vec::new(), Vec::new());
        let noted: Vec<usize> = parts.iter().map(|part| part.noted_inputs).collect();
        for (index, part) in parts.into_iter().enumerate() {
            let mut stage = Stage::new(part.setup, part.demand.pools.len());
            stage.expected = Some(Expected {
                rows: part.source_rows,
                inputs: part.splits.len() as u64,
            });
            for (split, node) in part.splits.into_iter().enumerate() {
                stage.add_input(index, Ingredients::Split(split), node);
            }
            stages.push(stage);
            demands.push(part.demand);
        }
        edges::connect(&mut stages, edges);
        for (index, stage) in stages.iter_mut().enumerate() {
            (0..noted[index]).for_each(|_| stage.add_input(index, stage.feeds.nothing(), None));
        }
        Self {
            setup,
            stages,
            demands,
            blocks: BlockTable::default(),
            next_worker: 0,
            delivered: BTreeSet::new(),
            deaths: Deaths::default(),
            is_over: false,
            effects: Vec::new(),
            now: Duration::ZERO,
            #[cfg(test)]
            sizings: 0,
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
            if self.delivered.remove(&block) {
                self.free_block(block, Account::Budget);
            }
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
            Event::WorkerReady(worker, node) => self.worker_ready(worker, node),
            Event::WorkerLost {
                worker,
                failure,
                is_explained,
                at,
            } => self.worker_lost(worker, &failure, is_explained, at),
            Event::ConstructorFailed { worker, failure } => {
                self.constructor_failed(worker, failure);
            }
            Event::WorkerFailed { worker, failure } => {
                if self.stage_of(worker).is_some() {
                    self.finish(Err(failure));
                }
            }
            Event::Broken(failure) => self.finish(Err(failure)),
            Event::Pulled(pulled) => self.pulled(&pulled),
            Event::InputLost { worker, blocks } => self.input_lost(worker, blocks),
            Event::BlockLost(block) => self.block_lost(block),
            Event::NodesChanged(view) => self.nodes_changed(view),
            Event::BudgetChanged(bytes) => self.setup.budget_bytes = bytes,
            Event::Taken(_) | Event::TimePassed => {}
            Event::Cancelled => self.finish(Ok(())),
        }
        self.advance();
        std::mem::take(&mut self.effects)
    }

    /// New nodes are used, and workers that had been meant for lost ones are not waited for.
    fn nodes_changed(&mut self, view: ClusterView) {
        if self.setup.view == view {
            return;
        }
        self.setup.view = view;
        self.size_pools();
        for stage in &mut self.stages {
            while let Some(worker) = stage.surplus_start() {
                stage.workers.remove(worker);
                self.effects.push(Effect::StopWorker(worker));
            }
        }
    }

    fn stage_of(&self, worker: WorkerKey) -> Option<usize> {
        self.stages
            .iter()
            .position(|stage| stage.workers.contains(worker))
    }

    fn worker_ready(&mut self, worker: WorkerKey, node: Option<NodeId>) {
        let Some(index) = self.stage_of(worker) else {
            return;
        };
        let stage = &mut self.stages[index];
        stage.starts[stage.workers.kind_of(worker)].forget();
        stage.workers.set_node(worker, node);
        stage.workers.set_idle(worker);
    }

    fn pulled(&mut self, pulled: &Pulled) {
        let Some(index) = self.stage_of(pulled.worker) else {
            // Its stage is over or it was given up: nobody waits for the block.
            if let Some((block, ..)) = pulled.block {
                self.effects.push(Effect::Release(block));
            }
            return;
        };
        let stage = &mut self.stages[index];
        // The blocks of an input that begins anew with each worker would let it die for ever.
        if pulled.is_last || pulled.block.is_some() && stage.setup.is_repeatable {
            self.deaths.got_on();
        }
        stage.workers.pull_ended(pulled.worker);
        if pulled.wants_input {
            stage.workers.wants_input(pulled.worker);
        }
        let done = Load {
            busy: pulled.busy,
            rows_in: pulled.rows_in,
            rows_out: 0,
        };
        stage.add_load(pulled.worker, done);
        let Some(active) = stage.workers.active_mut(pulled.worker) else {
            return;
        };
        let Active { sequence, work, .. } = active;
        let sequence = *sequence;
        let Work::Input(input) = work else {
            return self.rerun_pulled(index, pulled);
        };
        if let Some((block, rows, bytes)) = pulled.block {
            let recipe = Recipe {
                origin: Arc::clone(&input.origin),
                blocks_before: input.blocks_out,
                rows_before: input.rows_out,
                rows,
                partition: pulled.partition,
            };
            input.blocks_out += 1;
            input.rows_out += rows;
            stage.load.rows_out += rows;
            let part = BlockSlice {
                block,
                first_row: 0,
                rows,
                bytes,
                block_rows: rows,
            };
            stage.hold(sequence, part);
            self.blocks.add(block, bytes, recipe);
        }
        if pulled.is_last {
            self.input_done(index, pulled.worker, sequence);
        }
    }

    fn input_done(&mut self, index: usize, worker: WorkerKey, sequence: u64) {
        let now = self.now;
        let stage = &mut self.stages[index];
        stage.outputs.complete(sequence);
        stage.shares[stage.workers.kind_of(worker)].inputs += 1;
        let mut was_bound = false;
        if let Some(active) = stage.workers.input_ended(worker)
            && let Work::Input(input) = active.work
        {
            was_bound = !input.kinds.is_empty();
            self.free_ingredients(&input.origin);
        }
        if let Some(next) = self.stages[index].workers.active_mut(worker) {
            next.since = now;
        }
        if was_bound || self.has_news_of_costs() {
            self.size_pools();
        }
    }

    /// Nobody wants blocks that have not left their stage.
    fn free_unwanted(&mut self, unwanted: Vec<BlockSlice>) {
        for part in unwanted {
            self.free_block(part.block, Account::Budget);
        }
    }

    /// One user of the block less.
    fn free_block(&mut self, block: BlockKey, account: Account) {
        if let Some(freed) = self.blocks.free(block, account) {
            self.stages[freed.stage].output_bytes -= freed.budget_bytes;
            if freed.is_to_release {
                self.effects.push(Effect::Release(block));
            }
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
        // What was to be made again has no stage that it waits in.
        for block in self.blocks.others(&self.delivered) {
            for account in self.blocks.users(block) {
                self.free_block(block, account);
            }
        }
        self.effects.push(Effect::Finish(outcome));
    }

    /// Ends the workers of a stage and frees what waits for it.
    fn close_stage(&mut self, index: usize) {
        let stage = &mut self.stages[index];
        stage.is_done = true;
        let (unwanted, workers) = stage.drain();
        self.effects
            .extend(workers.into_iter().map(Effect::StopWorker));
        unwanted
            .into_iter()
            .for_each(|(block, account)| self.free_block(block, account));
    }

    /// Decides how many workers each stage may have from now on.
    fn size_pools(&mut self) {
        #[cfg(test)]
        {
            self.sizings += 1;
        }
        let costs = self.costs_per_source_row();
        for ((demand, stage), costs) in self.demands.iter_mut().zip(&self.stages).zip(costs) {
            // Behind a barrier there is nothing to do yet.
            demand.is_done = stage.is_done || stage.feeds.are_closed();
            demand.useful_workers = stage.useful_workers();
            demand.first_kinds = stage.first_kinds();
            for (pool, cost) in demand.pools.iter_mut().zip(costs) {
                pool.cost = cost;
            }
        }
        let targets = sizing::pool_sizes(&self.demands, &self.setup.view);
        for (stage, targets) in self.stages.iter_mut().zip(targets) {
            stage.targets = targets;
        }
        self.expect_rows();
    }

    /// What will come to the stages that get rows along forward edges, as far as it can be told. Where not all rows will be wanted,
    /// nobody knows.
    fn expect_rows(&mut self) {
        let mut is_limited = vec![false; self.stages.len()];
        for index in (0..self.stages.len()).rev() {
            let stage = &self.stages[index];
            let mut next = stage.next.iter();
            is_limited[index] =
                stage.setup.row_limit.is_some() || next.any(|next| is_limited[next.stage]);
        }
        for (index, is_limited) in is_limited.into_iter().enumerate() {
            self.stages[index].is_limited = is_limited;
            if self.stages[index].is_source() {
                continue;
            }
            let coming = self.coming_to(index).filter(|_| !is_limited);
            self.stages[index].expect(coming);
        }
    }

    fn coming_to(&self, index: usize) -> Option<Expected> {
        let nothing = Expected {
            rows: Some(0),
            inputs: 0,
        };
        let mut givers = self.stages[index].feeds.givers();
        givers.try_fold(nothing, |all, (from, kind)| {
            let is_forward = kind == EdgeKind::Forward;
            let one = is_forward.then(|| self.stages[from].expected_to_leave())??;
            let rows = all.rows.zip(one.rows);
            Some(Expected {
                rows: rows.map(|(all, one)| all.saturating_add(one)),
                inputs: all.inputs.saturating_add(one.inputs),
            })
        })
    }

    /// Whether the sizes of the pools rest on estimates that do not hold any more. Sizing looks at all workers and nodes,
    /// so it is not done for each input.
    fn has_news_of_costs(&self) -> bool {
        let costs = self.costs_per_source_row().into_iter().flatten();
        let pools = self.demands.iter().flat_map(|demand| &demand.pools);
        costs.zip(pools).any(|(now, pool)| match (pool.cost, now) {
            (Some(before), Some(now)) => (now - before).abs() > NEWS * before.abs(),
            (before, now) => before != now,
        })
    }

    /// What must hold between events.
    #[cfg(test)]
    fn check(&self) {
        for stage in &self.stages {
            stage.workers.check();
            stage.pending.check();
            stage.feeds.check();
        }
        let stages: u64 = self.stages.iter().map(|stage| stage.output_bytes).sum();
        assert_eq!(self.blocks.used_bytes(), stages);
    }

    /// How long a worker of each kind of each stage works for one row of the sources, as far as it can be told.
    fn costs_per_source_row(&self) -> Vec<Vec<Option<f64>>> {
        let mut costs = Vec::with_capacity(self.stages.len());
        // How many rows come to a stage, and leave it, for one row of the sources.
        let mut leaving: Vec<Option<f64>> = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            let load = stage.load;
            let coming = if stage.is_source() {
                Some(1.0)
            } else {
                stage.feeds.givers().map(|(from, _)| leaving[from]).sum()
            };
            let cost = |share: &KindShare| {
                let cost = share.load.seconds_per_row();
                coming.zip(cost).map(|(rows, cost): (f64, f64)| rows * cost)
            };
            costs.push(stage.shares.iter().map(cost).collect());
            let growth = (load.rows_in > 0).then(|| as_f64(load.rows_out) / as_f64(load.rows_in));
            leaving.push(coming.zip(growth).map(|(rows, growth)| rows * growth));
        }
        costs
    }
}
