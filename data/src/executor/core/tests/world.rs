//! Simulated workers, blocks and a consumer around the executor.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::resources::{ResourceRequest, ResourceSet};

use super::super::event::*;
use super::super::sizing::{PoolDemand, StageDemand};
use super::super::skew::Spread;
use super::super::stage::StageSetup;
use super::super::*;
use super::graphs::Cut;
use super::nodes::view;
use super::scenario::{Scenario, Shape};

pub(super) const ROW_BYTES: u64 = 10;

/// An input inside a simulated worker: blocks it has still to give.
pub(super) struct Work {
    pub(super) stage: usize,
    /// With their numbers, the last first.
    pub(super) blocks: Vec<(u64, Cut)>,
    /// Only these are sent, if there are any.
    pub(super) wanted: Vec<u64>,
    pub(super) rows: Vec<u64>,
    /// How often it may yet be asked for an input that follows without a block.
    asks: usize,
}

impl Work {
    /// The number of the next block to be sent.
    fn next_number(&mut self) -> Option<u64> {
        let is_wanted = |number: &u64| self.wanted.is_empty() || self.wanted.contains(number);
        while self
            .blocks
            .last()
            .is_some_and(|(number, _)| !is_wanted(number))
        {
            self.blocks.pop();
        }
        self.blocks.last().map(|(number, _)| *number)
    }
}

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) executor: Executor,
    pub(super) split_rows: Vec<Vec<Vec<u64>>>,
    /// Of each stage, by definition.
    pub(super) stage_rows: Vec<Vec<u64>>,
    pub(super) work: HashMap<WorkerKey, VecDeque<Work>>,
    pub(super) contents: HashMap<BlockKey, Vec<u64>>,
    pub(super) answers: Vec<Event>,
    /// What was delivered and not read.
    pub(super) consumer: Vec<BlockSlice>,
    /// Blocks that nobody can read any more.
    pub(super) lost: BTreeSet<BlockKey>,
    pub(super) losses_left: usize,
    /// The consumer waits for its first block to be made again.
    pub(super) is_consumer_waiting: bool,
    pub(super) received: Vec<u64>,
    /// What sinks took, by their stages.
    pub(super) sunk: BTreeMap<usize, Vec<u64>>,
    /// What they take when their answer arrives.
    pub(super) sinking: HashMap<WorkerKey, VecDeque<(usize, Vec<u64>)>>,
    /// Workers that were started and not ended.
    pub(super) live_workers: BTreeSet<WorkerKey>,
    /// Those of them that have no room yet.
    pub(super) roomless: VecDeque<WorkerKey>,
    /// Processors of the nodes now.
    pub(super) nodes: Vec<i64>,
    pub(super) moves_left: usize,
    pub(super) next_block: u64,
    /// Inputs that were given to workers of each stage.
    pub(super) given: Vec<usize>,
    /// Who was given an input, and its place in the order of its stage.
    pub(super) starts: Vec<(WorkerKey, u64)>,
    /// Of which kind workers are.
    pub(super) kinds: BTreeMap<WorkerKey, usize>,
    /// Those of them that were to follow another.
    pub(super) queued: usize,
    /// Blocks that were asked for again.
    pub(super) remade: usize,
    pub(super) deaths_left: usize,
    pub(super) choice: usize,
    pub(super) most_used: u64,
    /// How long it has run.
    pub(super) now: Duration,
    pub(super) outcome: Option<Result<(), TaskFailure>>,
}

/// What the executor is told of a stage.
fn setup_of(scenario: &Scenario, index: usize, shape: &Shape) -> StageSetup {
    StageSetup {
        name: format!("stage {index}"),
        bundle_rows: shape.bundle_rows,
        // Of some shapes, inputs take more than they need.
        long_rows: if shape.bundle_rows > 1 {
            4 * shape.bundle_rows
        } else {
            0
        },
        long_bytes: 1 << 20,
        bundle_bytes: shape.bundle_bytes,
        enough_bytes: 0,
        keep_order: scenario.keep_order,
        row_limit: shape.row_limit,
        makes_blocks: !scenario.is_sink(index),
        runs_empty: shape.runs_empty,
        is_repeatable: shape.is_repeatable || scenario.losses > 0,
        spread: scenario.spread_feed(index).map(|feed| Spread {
            feeds: vec![feed],
            times_mean: 2,
            least_bytes: 1,
        }),
        looks_ahead: scenario.looks_ahead && !scenario.overlaps,
    }
}

impl World {
    pub(super) fn new(scenario: Scenario) -> Self {
        let mut next_row = 0;
        let mut take = |rows: usize| -> Vec<u64> {
            let first = next_row;
            next_row += rows as u64;
            (first..next_row).collect()
        };
        let splits = scenario.splits.iter();
        let split_rows = splits
            .map(|splits| splits.iter().map(|&rows| take(rows)).collect())
            .collect();
        let stages = scenario.stages.iter().enumerate().map(|(index, shape)| {
            let setup = setup_of(&scenario, index, shape);
            let pool = |cpus| PoolDemand {
                resources: ResourceRequest::new(ResourceSet::of_cpus(cpus), 0)
                    .expect("makes sense"),
                min_workers: 1,
                initial_workers: None,
                max_workers: Some(shape.workers),
                cost: None,
            };
            let demand = StageDemand {
                pools: (0..scenario.kinds)
                    .map(|kind| {
                        pool(if kind == 0 {
                            1
                        } else {
                            scenario.cpus_of_others
                        })
                    })
                    .collect(),
                useful_workers: None,
                is_done: false,
                first_kinds: Vec::new(),
            };
            ExecutorStage {
                setup,
                demand,
                splits: scenario.nodes_of_splits(index),
                source_rows: Some(scenario.splits[index].iter().sum::<usize>() as u64),
                noted_inputs: 0,
            }
        });
        let setup = ExecutorSetup {
            budget_bytes: scenario.budget_bytes,
            max_deaths: u32::MAX,
            view: view(&scenario.nodes),
        };
        let executor = Executor::new(setup, stages.collect(), &scenario.edges);
        Self {
            deaths_left: scenario.deaths,
            scenario: scenario.clone(),
            executor,
            stage_rows: scenario.rows(),
            split_rows,
            work: HashMap::new(),
            contents: HashMap::new(),
            answers: Vec::new(),
            consumer: Vec::new(),
            lost: BTreeSet::new(),
            losses_left: scenario.losses,
            is_consumer_waiting: false,
            received: Vec::new(),
            sunk: BTreeMap::new(),
            sinking: HashMap::new(),
            live_workers: BTreeSet::new(),
            roomless: VecDeque::new(),
            nodes: scenario.nodes.clone(),
            moves_left: scenario.moves,
            next_block: 0,
            given: vec![0; scenario.stages.len()],
            starts: Vec::new(),
            kinds: BTreeMap::new(),
            queued: 0,
            remade: 0,
            choice: 0,
            most_used: 0,
            now: Duration::ZERO,
            outcome: None,
        }
    }

    /// Inputs that workers of the stage were given.
    pub(super) fn inputs_given(&self, stage: usize) -> usize {
        self.given[stage]
    }

    /// A number below `bound`, from the scenario's list.
    pub(super) fn choose(&mut self, bound: usize) -> usize {
        let choices = &self.scenario.choices;
        self.choice += 1;
        usize::from(choices[self.choice % choices.len()]) % bound
    }

    pub(super) fn run(&mut self) {
        let effects = self.executor.start();
        self.carry_out(effects);
        self.run_on();
    }

    pub(super) fn run_on(&mut self) {
        // Far more steps than any of the scenarios needs.
        for _ in 0..200_000 {
            if self.outcome.is_some() && self.answers.is_empty() && self.consumer.is_empty() {
                return;
            }
            if !self.answers.is_empty() || self.can_consumer_act() {
                self.step();
                continue;
            }
            let Some(at) = self.executor.looks_again_at() else {
                panic!("EXE-2 (never-stuck): {:?}", self.executor);
            };
            self.now = self.now.max(at);
            self.handle(Event::TimePassed);
        }
        panic!("EXE-2 (never-stuck): no end");
    }

    pub(super) fn can_consumer_act(&self) -> bool {
        !self.consumer.is_empty() && !self.is_consumer_waiting
    }

    pub(super) fn step(&mut self) {
        self.maybe_lose();
        self.maybe_move();
        let consumer = if self.can_consumer_act() { 2 } else { 0 };
        let pick = self.choose(self.answers.len() + consumer);
        let event = if pick < self.answers.len() {
            self.take_answer(pick)
        } else {
            self.consume()
        };
        let event = self.maybe_die(event);
        self.handle(event);
    }

    /// The one at this place, or one before it of the same worker: they come in their order.
    fn take_answer(&mut self, pick: usize) -> Event {
        let of_worker = |event: &Event| {
            worker_of(event).is_some() && worker_of(event) == worker_of(&self.answers[pick])
        };
        let first = self.answers.iter().position(of_worker);
        self.answers.remove(first.unwrap_or(pick))
    }

    /// What the worker would have answered is heard by nobody.
    pub(super) fn drop_answers(&mut self, worker: WorkerKey) {
        let is_its = |event: &mut Event| worker_of(event) == Some(worker);
        let dropped: Vec<Event> = self.answers.extract_if(.., is_its).collect();
        for event in dropped {
            if let Event::Pulled(Pulled {
                block: Some((block, ..)),
                ..
            }) = event
            {
                self.contents.remove(&block);
                self.lost.remove(&block);
            }
        }
        self.sinking.remove(&worker);
    }

    /// What happened arrives.
    pub(super) fn handle(&mut self, event: Event) {
        self.commit(&event);
        if let Event::InputLost { worker, .. } | Event::WorkerLost { worker, .. } = &event {
            self.drop_answers(*worker);
        }
        self.executor.check();
        let passed = self.choose(30) as u64;
        self.now += Duration::from_millis(passed);
        self.executor.set_time(self.now);
        let effects = self.executor.handle(event);
        self.most_used = self.most_used.max(self.executor.used_bytes());
        self.carry_out(effects);
    }

    /// The consumer reads its first block, or asks for it to be made again.
    pub(super) fn consume(&mut self) -> Event {
        let part = self.consumer[0];
        if self.lost.contains(&part.block) && self.outcome.is_some() {
            // It failed, and the consumer gives up.
            self.consumer.remove(0);
            return Event::Taken(part.block);
        }
        if self.lost.contains(&part.block) {
            self.is_consumer_waiting = true;
            return Event::BlockLost(part.block);
        }
        self.consumer.remove(0);
        let rows = self.rows_of(&part);
        self.received.extend(rows);
        Event::Taken(part.block)
    }

    pub(super) fn rows_of(&self, part: &BlockSlice) -> Vec<u64> {
        let first = part.first_row as usize;
        self.contents[&part.block][first..first + part.rows as usize].to_vec()
    }

    /// A block may get lost, wherever it waits. Nobody is told.
    pub(super) fn maybe_lose(&mut self) {
        if self.losses_left == 0 || self.choose(3) > 0 {
            return;
        }
        let mut blocks: Vec<BlockKey> = self.contents.keys().copied().collect();
        blocks.sort_unstable();
        if !blocks.is_empty() {
            // One, or all that a node had.
            let first = self.choose(blocks.len());
            let count = if self.choose(3) == 0 { blocks.len() } else { 1 };
            for &block in blocks.iter().skip(first).step_by(2).take(count) {
                self.contents.remove(&block);
                self.lost.insert(block);
            }
            self.losses_left -= 1;
        }
    }

    /// A worker may die instead of answering.
    pub(super) fn maybe_die(&mut self, event: Event) -> Event {
        let worker = match &event {
            Event::WorkerReady(worker, _) => *worker,
            Event::Pulled(pulled) => pulled.worker,
            _ => return event,
        };
        if self.deaths_left == 0 || !self.live_workers.contains(&worker) || self.choose(3) > 0 {
            return event;
        }
        self.deaths_left -= 1;
        if let Event::Pulled(Pulled {
            block: Some((block, ..)),
            ..
        }) = event
        {
            // Its block dies with it.
            self.contents.remove(&block);
            self.lost.remove(&block);
        }
        self.end(worker);
        if self.scenario.kinds > 1 && self.choose(2) == 0 {
            let kind = self.choose(self.scenario.kinds);
            self.executor.bind(worker, &[kind]);
        }
        Event::WorkerLost {
            is_explained: false,
            at: Duration::ZERO,
            worker,
            failure: TaskFailure::new(ErrorCode::ActorDied, "killed"),
        }
    }

    /// What a sink wrote counts with its answer; a worker that dies instead, or was ended, has written nothing.
    fn commit(&mut self, event: &Event) {
        let Event::Pulled(pulled) = event else {
            return;
        };
        let sinking = self.sinking.get_mut(&pulled.worker);
        if let Some((stage, rows)) = sinking.and_then(VecDeque::pop_front)
            && self.live_workers.contains(&pulled.worker)
        {
            self.sunk.entry(stage).or_default().extend(rows);
        }
    }

    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::StartWorker { worker, kind, .. } => {
                    self.kinds.insert(worker, kind);
                    self.live_workers.insert(worker);
                    self.roomless.push_back(worker);
                    self.give_room();
                }
                Effect::StopWorker(worker) => {
                    self.end(worker);
                    self.answers
                        .retain(|event| !matches!(event, Event::WorkerReady(w, _) if *w == worker));
                }
                // Its input waits again.
                Effect::TakeBack(_) => {}
                Effect::StartInput(start) => self.start_input(start),
                Effect::Pull(worker) => self.pull(worker),
                Effect::QueueInput(start) => self.queue_input(start),
                Effect::Deliver(part) => {
                    self.consumer.push(part);
                }
                Effect::Release(block) => {
                    assert!(
                        self.contents.remove(&block).is_some() || self.lost.remove(&block),
                        "released twice: {block:?}"
                    );
                }
                Effect::Restored { lost, made } => self.restored(lost, made),
                Effect::Finish(outcome) => {
                    assert!(self.outcome.replace(outcome).is_none(), "finished twice");
                    self.is_consumer_waiting = false;
                }
            }
        }
    }

    /// A block has its rows again, unless the new one got lost as well.
    pub(super) fn restored(&mut self, lost: BlockKey, made: BlockKey) {
        // Two workers may have missed it, one of them long ago.
        self.contents.remove(&lost);
        self.lost.remove(&lost);
        match self.contents.remove(&made) {
            Some(rows) => {
                self.contents.insert(lost, rows);
            }
            None => {
                assert!(self.lost.remove(&made), "made of nothing: {made:?}");
                self.lost.insert(lost);
            }
        }
        let is_first = self.consumer.first().is_some_and(|part| part.block == lost);
        self.is_consumer_waiting &= !is_first;
    }

    pub(super) fn start_input(&mut self, start: StartInput) {
        self.work.remove(&start.worker);
        self.take_input(start);
    }

    /// An input follows the one that the worker has.
    fn queue_input(&mut self, start: StartInput) {
        if let Some(works) = self.work.get(&start.worker) {
            assert!(works.len() <= 1, "no more than two inputs");
            self.queued += 1;
        }
        self.take_input(start);
    }

    fn take_input(&mut self, start: StartInput) {
        if !self.live_workers.contains(&start.worker) {
            // It died, and the executor is about to hear of it.
            return;
        }
        if let InputContent::Blocks { feeds, .. } = &start.content {
            let blocks = feeds.iter().flatten().map(|part| part.block);
            let blocks: Vec<BlockKey> = blocks.filter(|block| self.lost.contains(block)).collect();
            if !blocks.is_empty() {
                self.work.remove(&start.worker);
                let worker = start.worker;
                self.answers.push(Event::InputLost { worker, blocks });
                return;
            }
        }
        let rows: Vec<u64> = match &start.content {
            InputContent::Split(split) => self.split_rows[start.stage][*split].clone(),
            InputContent::Blocks { feeds, .. } => self.rows_of_feeds(start.stage, feeds),
        };
        let cut = self.scenario.cut(start.stage, &rows);
        let numbered = (0..).zip(cut).skip(start.skip_blocks as usize);
        let mut blocks: Vec<(u64, Cut)> = numbered.collect();
        blocks.reverse();
        self.remade += start.wanted.len();
        self.given[start.stage] += 1;
        self.starts.push((start.worker, start.sequence));
        let work = Work {
            stage: start.stage,
            blocks,
            wanted: start.wanted,
            rows,
            asks: if self.scenario.overlaps { 2 } else { 0 },
        };
        self.work.entry(start.worker).or_default().push_back(work);
        self.pull(start.worker);
    }

    /// Whether the worker asks for an input that follows, by chance.
    fn asks(&mut self) -> bool {
        self.scenario.overlaps && self.choose(2) == 0
    }

    pub(super) fn pull(&mut self, worker: WorkerKey) {
        let is_lost =
            |event: &Event| matches!(event, Event::InputLost { worker: of, .. } if *of == worker);
        if !self.live_workers.contains(&worker) || self.answers.iter().any(is_lost) {
            // The executor is about to hear of it, and of nothing that comes behind.
            return;
        }
        let asks = self.asks();
        let works = self.work.get_mut(&worker).expect("pulled with an input");
        let work = works.front_mut().expect("pulled with an input");
        let stage = work.stage;
        if asks && work.asks > 0 {
            work.asks -= 1;
            return self.answers.push(Event::Pulled(Pulled {
                worker,
                block: None,
                partition: 0,
                is_last: false,
                wants_input: true,
                rows_in: 0,
                busy: Duration::ZERO,
            }));
        }
        let mut pulled = Pulled {
            worker,
            block: None,
            partition: 0,
            is_last: true,
            wants_input: asks,
            rows_in: work.rows.len() as u64,
            busy: Duration::from_millis(work.rows.len() as u64),
        };
        if self.scenario.is_sink(stage) {
            let blocks = std::mem::take(&mut work.blocks).into_iter().rev();
            let rows = blocks.flat_map(|(_, cut)| cut.rows).collect();
            let sinking = self.sinking.entry(worker).or_default();
            sinking.push_back((stage, rows));
        } else {
            if work.next_number().is_some()
                && let Some((_, Cut { partition, rows })) = work.blocks.pop()
            {
                pulled.partition = partition;
                let block = BlockKey(self.next_block);
                self.next_block += 1;
                pulled.block = Some((block, rows.len() as u64, rows.len() as u64 * ROW_BYTES));
                self.contents.insert(block, rows);
            }
            pulled.is_last = work.next_number().is_none();
        }
        if pulled.is_last {
            works.pop_front();
        }
        self.answers.push(Event::Pulled(pulled));
    }
}

/// Whose answer it is.
fn worker_of(event: &Event) -> Option<WorkerKey> {
    match event {
        Event::WorkerReady(worker, _) | Event::InputLost { worker, .. } => Some(*worker),
        Event::Pulled(pulled) => Some(pulled.worker),
        _ => None,
    }
}
