//! The executor against workers that take time, on a clock of their own: how long a job takes beside the least that it could.
//!
//! Everything but work, loading and ways that a test names takes no time here, so that the numbers are those of the executor's decisions
//! alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use super::super::event::*;
use super::scenario::{Scenario, Shape};
use super::world::World;

const MILLISECOND: u64 = 1_000_000;

/// A stage whose workers load for a while and then take equally long for each row.
pub(super) struct Pace {
    start: Duration,
    row: Duration,
}

/// A block of an input that is to be given.
struct Part {
    stage: usize,
    rows: u64,
    is_last: bool,
}

pub(super) struct Timed {
    /// For its executor; its own steps are not used.
    world: World,
    paces: Vec<Pace>,
    /// Times as long as others, by the number of the worker.
    slow: BTreeMap<u64, u64>,
    /// The same of kinds of workers.
    pub(super) slow_kinds: Vec<u64>,
    kind_of: BTreeMap<WorkerKey, usize>,
    /// Inputs that workers of each kind were given.
    pub(super) given: Vec<usize>,
    /// What an input is on its way to a worker, and an answer on its way back.
    way: Duration,
    /// Blocks that an input gives.
    blocks: u64,
    /// What workers have to give yet, a block for each pull.
    parts: BTreeMap<WorkerKey, VecDeque<Part>>,
    /// When a worker is done with all that it was pulled for.
    free: BTreeMap<WorkerKey, u64>,
    slots: usize,
    running: BTreeMap<WorkerKey, usize>,
    roomless: VecDeque<(WorkerKey, usize)>,
    now: u64,
    /// When something happens, what came first, and what it is.
    coming: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    numbers: u64,
    is_over: bool,
}

impl Timed {
    pub(super) fn new(scenario: Scenario, paces: Vec<Pace>) -> Self {
        let slots = scenario.nodes.iter().sum::<i64>();
        Self {
            world: World::new(scenario),
            paces,
            slow: BTreeMap::new(),
            slow_kinds: Vec::new(),
            kind_of: BTreeMap::new(),
            given: vec![0; 2],
            way: Duration::ZERO,
            blocks: 1,
            parts: BTreeMap::new(),
            free: BTreeMap::new(),
            slots: usize::try_from(slots).expect("nodes have processors"),
            running: BTreeMap::new(),
            roomless: VecDeque::new(),
            now: 0,
            coming: BinaryHeap::new(),
            events: BTreeMap::new(),
            numbers: 0,
            is_over: false,
        }
    }

    fn later(&mut self, after: u64, event: Event) {
        self.numbers += 1;
        self.coming.push(Reverse((self.now + after, self.numbers)));
        self.events.insert(self.numbers, event);
    }

    /// How long all of it takes.
    pub(super) fn run(&mut self) -> Duration {
        let effects = self.world.executor.start();
        self.carry_out(effects);
        while let Some(Reverse((at, number))) = self.coming.pop() {
            let looks = self.world.executor.looks_again_at().map(nanos);
            if let Some(looks) = looks.filter(|&looks| looks < at) {
                self.coming.push(Reverse((at, number)));
                self.now = self.now.max(looks);
                self.tell(Event::TimePassed);
                continue;
            }
            let Some(event) = self.events.remove(&number) else {
                continue;
            };
            self.now = at;
            if let Event::Pulled(Pulled { worker, .. }) | Event::WorkerReady(worker, _) = &event
                && !self.running.contains_key(worker)
            {
                continue;
            }
            self.tell(event);
            if self.is_over {
                return Duration::from_nanos(self.now);
            }
        }
        panic!("EXE-2 (never-stuck): {:?}", self.world.executor);
    }

    fn tell(&mut self, event: Event) {
        let now = Duration::from_nanos(self.now);
        self.world.executor.set_time(now);
        let effects = self.world.executor.handle(event);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::StartWorker {
                    stage,
                    kind,
                    worker,
                    ..
                } => {
                    self.kind_of.insert(worker, kind);
                    self.roomless.push_back((worker, stage));
                }
                Effect::StopWorker(worker) => {
                    self.running.remove(&worker);
                    self.roomless.retain(|(other, _)| *other != worker);
                }
                Effect::StartInput(input) | Effect::QueueInput(input) => {
                    self.take(&input);
                    self.pull(input.worker);
                }
                Effect::Deliver(part) => self.later(0, Event::Taken(part.block)),
                Effect::Finish(outcome) => {
                    outcome.expect("nothing fails");
                    self.is_over = true;
                }
                Effect::Pull(worker) => self.pull(worker),
                Effect::Release(_) | Effect::TakeBack(_) => {}
                Effect::Restored { .. } => panic!("nothing is lost"),
            }
        }
        while self.running.len() < self.slots
            && let Some((worker, stage)) = self.roomless.pop_front()
        {
            self.running.insert(worker, stage);
            let loads = nanos(self.paces[stage].start);
            let node = self.world.scenario.node_of(worker.0);
            self.later(loads, Event::WorkerReady(worker, node));
        }
    }

    fn take(&mut self, input: &StartInput) {
        let rows = match &input.content {
            InputContent::Split(split) => self.world.scenario.splits[input.stage][*split] as u64,
            InputContent::Blocks { feeds, .. } => {
                feeds.iter().flatten().map(|part| part.rows).sum()
            }
        };
        let kind = self.kind_of[&input.worker];
        self.given[kind] += 1;
        let parts = self.parts.entry(input.worker).or_default();
        parts.extend((1..=self.blocks).map(|block| Part {
            stage: input.stage,
            rows: rows * block / self.blocks - rows * (block - 1) / self.blocks,
            is_last: block == self.blocks,
        }));
    }

    fn pull(&mut self, worker: WorkerKey) {
        let parts = self.parts.get_mut(&worker);
        let Some(Part {
            stage,
            rows,
            is_last,
        }) = parts.and_then(VecDeque::pop_front)
        else {
            panic!("pulled without an input");
        };
        let kind = self.kind_of[&worker];
        let times = self.slow.get(&worker.0).or(self.slow_kinds.get(kind));
        let times = times.copied().unwrap_or(1);
        let takes = nanos(self.paces[stage].row) * rows * times;
        let free = self.free.entry(worker).or_default();
        *free = takes + (*free).max(self.now + nanos(self.way));
        let after = *free + nanos(self.way) - self.now;
        let block = BlockKey(self.world.next_block);
        self.world.next_block += 1;
        self.later(
            after,
            Event::Pulled(Pulled {
                worker,
                block: (rows > 0).then_some((block, rows, rows)),
                partition: 0,
                is_last,
                wants_input: false,
                rows_in: rows,
                busy: Duration::from_nanos(takes),
            }),
        );
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("minutes at most")
}

pub(super) fn pace(start_ms: u64, row_ms: u64) -> Pace {
    Pace {
        start: Duration::from_nanos(start_ms * MILLISECOND),
        row: Duration::from_nanos(row_ms * MILLISECOND),
    }
}

/// Rows in splits as they are cut before a model, and pools that may take the whole machine.
pub(super) fn pools(rows: usize, split: usize, stages: usize, slots: i64) -> Scenario {
    let shape = Shape {
        workers: usize::MAX,
        bundle_rows: 1,
        ..Shape::default()
    };
    Scenario {
        nodes: vec![slots],
        keep_order: false,
        looks_ahead: true,
        budget_bytes: 1 << 30,
        ..Scenario::chain(vec![split; rows / split], vec![shape; stages])
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few minutes")]
pub(super) fn times_the_least(took: Duration, least_ms: u64) -> f64 {
    took.as_nanos() as f64 / (least_ms * MILLISECOND) as f64
}

/// 16 slots, loading takes five seconds, a row 170 ms and then 210 ms.
#[test]
fn two_stages_share_the_slots_by_what_their_rows_cost() {
    for rows in [400, 1600] {
        let mut timed = Timed::new(
            pools(rows, 2, 2, 16),
            vec![pace(5000, 170), pace(5000, 210)],
        );
        let took = timed.run();
        let ratio = times_the_least(took, 5000 + rows as u64 * 380 / 16);
        assert!(
            ratio <= 1.10,
            "{rows} rows: {took:?}, {ratio:.3} times the least"
        );
    }
}

/// One of eight workers is ten times as slow as the others.
#[test]
fn straggler_costs_little() {
    let mut timed = Timed::new(pools(1600, 7, 1, 8), vec![pace(100, 100)]);
    timed.slow.insert(3, 10);
    let took = timed.run();
    let ratio = times_the_least(took, 1600 * 100 / 8);
    assert!(
        ratio <= 1.3,
        "{took:?}, {ratio:.3} times what eight equal ones need"
    );
}

/// Inputs of 20 ms, and as much as a tenth of that on the way to a worker and back.
#[test]
fn workers_have_their_next_input_at_hand() {
    let mut timed = Timed::new(pools(400, 1, 1, 4), vec![pace(0, 20)]);
    timed.way = Duration::from_millis(2);
    let took = timed.run();
    let ratio = times_the_least(took, 400 * 20 / 4);
    assert!(ratio <= 1.02, "{took:?}, {ratio:.3} times the least");
}

/// The same of a stage behind another one, where what comes is told by blocks.
#[test]
fn workers_of_a_second_stage_have_their_next_input_at_hand() {
    let mut scenario = pools(250, 1, 2, 4);
    scenario
        .stages
        .iter_mut()
        .for_each(|stage| stage.workers = 2);
    let mut timed = Timed::new(scenario, vec![pace(0, 10), pace(0, 20)]);
    timed.way = Duration::from_millis(2);
    let took = timed.run();
    let ratio = times_the_least(took, 250 * 20 / 2);
    assert!(ratio <= 1.03, "{took:?}, {ratio:.3} times the least");
}

/// Inputs of ten blocks, each of which is asked for: the ways there and back take as long as a block.
#[test]
fn workers_go_on_with_the_next_block_before_they_are_asked_for_it() {
    let mut timed = Timed::new(pools(800, 10, 1, 4), vec![pace(0, 2)]);
    timed.blocks = 10;
    timed.way = Duration::from_millis(1);
    let took = timed.run();
    let ratio = times_the_least(took, 800 * 2 / 4);
    assert!(ratio <= 1.2, "{took:?}, {ratio:.3} times the least");
}

/// A worker that is ten times as slow has nothing wait in it that others would be done with.
#[test]
fn nothing_waits_in_a_straggler() {
    let mut timed = Timed::new(pools(1600, 7, 1, 8), vec![pace(100, 100)]);
    timed.way = Duration::from_millis(5);
    timed.slow.insert(3, 10);
    let took = timed.run();
    let ratio = times_the_least(took, 1600 * 100 / 8);
    assert!(
        ratio <= 1.3,
        "{took:?}, {ratio:.3} times what eight equal ones need"
    );
}
