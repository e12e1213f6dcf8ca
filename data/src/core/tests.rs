//! The executor against simulated workers that answer in any order and die at any time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use proptest::prelude::*;

use super::event::*;
use super::sizing::{NodeCapacity, StageDemand};
use super::stage::StageSetup;
use super::*;

const ROW_BYTES: u64 = 10;

/// One stage of a scenario: rows per block, workers, bundle, limit.
#[derive(Debug, Clone)]
struct Shape {
    rows_per_block: usize,
    workers: usize,
    bundle_rows: u64,
    row_limit: Option<u64>,
}

#[derive(Debug, Clone)]
struct Scenario {
    splits: Vec<usize>,
    stages: Vec<Shape>,
    has_sink: bool,
    keep_order: bool,
    budget_bytes: u64,
    deaths: usize,
    choices: Vec<u16>,
}

/// An input inside a simulated worker: blocks it has still to give.
struct Work {
    stage: usize,
    blocks: Vec<Vec<u64>>,
    skip: u64,
    rows: Vec<u64>,
}

struct World {
    scenario: Scenario,
    executor: Executor,
    split_rows: Vec<Vec<u64>>,
    work: HashMap<WorkerKey, Work>,
    contents: HashMap<BlockKey, Vec<u64>>,
    answers: Vec<Event>,
    consumer: Vec<(BlockKey, Vec<u64>)>,
    received: Vec<u64>,
    live_workers: BTreeSet<WorkerKey>,
    next_block: u64,
    deaths_left: usize,
    choice: usize,
    most_used: u64,
    outcome: Option<Result<(), TaskFailure>>,
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let mut next_row = 0;
        let mut split_rows = Vec::new();
        for &rows in &scenario.splits {
            split_rows.push((next_row..next_row + rows as u64).collect());
            next_row += rows as u64;
        }
        let last = scenario.stages.len() - 1;
        let stages = scenario.stages.iter().enumerate().map(|(index, shape)| {
            let setup = StageSetup {
                name: format!("stage {index}"),
                bundle_rows: shape.bundle_rows,
                row_limit: shape.row_limit,
                makes_blocks: !(scenario.has_sink && index == last),
            };
            let demand = StageDemand {
                resources: BTreeMap::from([("CPU".to_owned(), 1)]),
                min_workers: 1,
                max_workers: shape.workers,
                cost: None,
                is_done: false,
            };
            (setup, demand)
        });
        let nodes = vec![NodeCapacity {
            totals: BTreeMap::from([("CPU".to_owned(), 100)]),
        }];
        let setup = ExecutorSetup {
            budget_bytes: scenario.budget_bytes,
            keep_order: scenario.keep_order,
            max_deaths: u32::MAX,
            nodes,
        };
        let executor = Executor::new(setup, stages.collect(), scenario.splits.len());
        Self {
            deaths_left: scenario.deaths,
            scenario,
            executor,
            split_rows,
            work: HashMap::new(),
            contents: HashMap::new(),
            answers: Vec::new(),
            consumer: Vec::new(),
            received: Vec::new(),
            live_workers: BTreeSet::new(),
            next_block: 0,
            choice: 0,
            most_used: 0,
            outcome: None,
        }
    }

    /// A number below `bound`, from the scenario's list.
    fn choose(&mut self, bound: usize) -> usize {
        let choices = &self.scenario.choices;
        self.choice += 1;
        usize::from(choices[self.choice % choices.len()]) % bound
    }

    fn run(&mut self) {
        let effects = self.executor.start();
        self.carry_out(effects);
        // Far more steps than any of the scenarios needs.
        for _ in 0..200_000 {
            if self.outcome.is_some() && self.answers.is_empty() && self.consumer.is_empty() {
                return;
            }
            assert!(
                !self.answers.is_empty() || !self.consumer.is_empty(),
                "EXE-2 (never-stuck): {:?}",
                self.executor
            );
            self.step();
        }
        panic!("EXE-2 (never-stuck): no end");
    }

    fn step(&mut self) {
        let pick = self.choose(self.answers.len() + self.consumer.len());
        let event = if pick < self.answers.len() {
            self.answers.swap_remove(pick)
        } else {
            let (block, rows) = self.consumer.remove(0);
            self.received.extend(rows);
            Event::Taken(block)
        };
        let event = self.maybe_die(event);
        let effects = self.executor.handle(event);
        self.most_used = self.most_used.max(self.executor.used_bytes());
        self.carry_out(effects);
    }

    /// A worker may die instead of answering.
    fn maybe_die(&mut self, event: Event) -> Event {
        let worker = match &event {
            Event::WorkerReady(worker) => *worker,
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
        }
        self.work.remove(&worker);
        self.live_workers.remove(&worker);
        Event::WorkerLost {
            worker,
            failure: TaskFailure::new(ErrorCode::ActorDied, "killed"),
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::StartWorker { worker, .. } => {
                    self.live_workers.insert(worker);
                    self.answers.push(Event::WorkerReady(worker));
                }
                Effect::StopWorker(worker) => {
                    self.live_workers.remove(&worker);
                    self.work.remove(&worker);
                    self.answers
                        .retain(|event| !matches!(event, Event::WorkerReady(w) if *w == worker));
                }
                Effect::StartInput(start) => self.start_input(start),
                Effect::Pull(worker) => self.pull(worker),
                Effect::Deliver(part) => {
                    let rows = &self.contents[&part.block];
                    let first = part.first_row as usize;
                    let rows = rows[first..first + part.rows as usize].to_vec();
                    self.consumer.push((part.block, rows));
                }
                Effect::Release(block) => {
                    assert!(
                        self.contents.remove(&block).is_some(),
                        "released twice: {block:?}"
                    );
                }
                Effect::Finish(outcome) => {
                    assert!(self.outcome.replace(outcome).is_none(), "finished twice");
                }
            }
        }
    }

    fn start_input(&mut self, start: StartInput) {
        let rows: Vec<u64> = match &start.content {
            InputContent::Split(split) => self.split_rows[*split].clone(),
            InputContent::Blocks(parts) => parts
                .iter()
                .flat_map(|part| {
                    let first = part.first_row as usize;
                    self.contents[&part.block][first..first + part.rows as usize].to_vec()
                })
                .collect(),
        };
        let shape = &self.scenario.stages[start.stage];
        let mut blocks: Vec<Vec<u64>> = rows
            .chunks(shape.rows_per_block)
            .map(<[u64]>::to_vec)
            .collect();
        blocks.reverse();
        let work = Work {
            stage: start.stage,
            blocks,
            skip: start.skip_blocks,
            rows,
        };
        self.work.insert(start.worker, work);
        self.pull(start.worker);
    }

    fn pull(&mut self, worker: WorkerKey) {
        let is_sink = {
            let stage = self.work[&worker].stage;
            self.scenario.has_sink && stage + 1 == self.scenario.stages.len()
        };
        let work = self.work.get_mut(&worker).expect("pulled with an input");
        let mut pulled = Pulled {
            worker,
            block: None,
            is_last: true,
            rows_in: work.rows.len() as u64,
            busy: Duration::from_millis(work.rows.len() as u64),
        };
        if is_sink {
            // The rows are committed with the answer; a worker that dies instead has committed nothing.
            let rows = std::mem::take(&mut work.rows);
            self.contents.insert(BlockKey(u64::MAX - worker.0), rows);
        } else {
            while work.skip > 0 {
                work.skip -= 1;
                work.blocks.pop();
            }
            if let Some(rows) = work.blocks.pop() {
                let block = BlockKey(self.next_block);
                self.next_block += 1;
                pulled.block = Some((block, rows.len() as u64, rows.len() as u64 * ROW_BYTES));
                self.contents.insert(block, rows);
            }
            pulled.is_last = work.blocks.is_empty();
        }
        self.answers.push(Event::Pulled(pulled));
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        1usize..20,
        1usize..4,
        0u64..30,
        prop::option::weighted(0.2, 0u64..60),
    )
        .prop_map(|(rows_per_block, workers, bundle_rows, row_limit)| Shape {
            rows_per_block,
            workers,
            bundle_rows,
            row_limit,
        })
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    (
        prop::collection::vec(0usize..40, 0..8),
        prop::collection::vec(shapes(), 1..4),
        any::<bool>(),
        prop_oneof![Just(1u64), 10u64..400, Just(1_000_000)],
        0usize..6,
        prop::collection::vec(any::<u16>(), 50..300),
    )
        .prop_map(
            |(splits, stages, keep_order, budget_bytes, deaths, choices)| Scenario {
                splits,
                stages,
                has_sink: false,
                keep_order,
                budget_bytes,
                deaths,
                choices,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// EXE-1 (budget-holds), EXE-2 (never-stuck), EXE-3 (every-split-once), EXE-4 (order-kept).
    #[test]
    fn every_row_arrives_once_within_the_budget_whatever_dies(scenario in scenarios()) {
        let mut world = World::new(scenario.clone());
        world.run();
        prop_assert_eq!(world.outcome.clone(), Some(Ok(())));
        let total: u64 = scenario.splits.iter().map(|&rows| rows as u64).sum();
        let limit = scenario.stages.iter().filter_map(|shape| shape.row_limit).min();
        let wanted = total.min(limit.unwrap_or(u64::MAX));
        let distinct: BTreeSet<u64> = world.received.iter().copied().collect();
        prop_assert_eq!(world.received.len() as u64, wanted, "EXE-3");
        prop_assert_eq!(distinct.len() as u64, wanted, "EXE-3");
        if scenario.keep_order {
            prop_assert_eq!(&world.received, &(0..wanted).collect::<Vec<_>>(), "EXE-4");
        }
        let largest = scenario.stages.iter().map(|shape| shape.rows_per_block as u64).max().unwrap_or(0);
        let workers: u64 = scenario.stages.iter().map(|shape| shape.workers as u64).sum();
        let most = scenario.budget_bytes + workers * largest * ROW_BYTES;
        prop_assert!(world.most_used <= most, "EXE-1: {} > {}", world.most_used, most);
        prop_assert!(world.contents.is_empty(), "every block is released: {:?}", world.contents);
        prop_assert!(world.live_workers.is_empty(), "every worker is ended");
    }
}

fn two_stages(splits: usize) -> Scenario {
    let shape = Shape {
        rows_per_block: 10,
        workers: 2,
        bundle_rows: 0,
        row_limit: None,
    };
    Scenario {
        splits: vec![20; splits],
        stages: vec![shape.clone(), shape],
        has_sink: false,
        keep_order: true,
        budget_bytes: 1000,
        deaths: 0,
        choices: vec![0],
    }
}

#[test]
fn fused_sink_moves_no_block() {
    let mut scenario = two_stages(5);
    scenario.stages.truncate(1);
    scenario.has_sink = true;
    let mut world = World::new(scenario);
    world.run();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.next_block, 0);
}

#[test]
fn empty_source_ends_at_once() {
    let mut world = World::new(two_stages(0));
    world.run();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.most_used, 0);
}

#[test]
fn input_that_kills_its_workers_is_given_up_by_name() {
    let mut world = World::new(two_stages(1));
    world.executor.setup.max_deaths = 2;
    world.deaths_left = usize::MAX;
    let effects = world.executor.start();
    world.carry_out(effects);
    // Workers start, but die with every pull.
    while world.outcome.is_none() {
        let event = world.answers.swap_remove(0);
        let event = match event {
            Event::Pulled(Pulled { worker, .. }) => {
                world.work.remove(&worker);
                let failure = TaskFailure::new(ErrorCode::ActorDied, "exit code 1");
                Event::WorkerLost { worker, failure }
            }
            other => other,
        };
        let effects = world.executor.handle(event);
        world.carry_out(effects);
    }
    let failure = world.outcome.expect("it ended").expect_err("it failed");
    assert_eq!(failure.code, ErrorCode::WorkerCrashed);
    assert!(
        failure.message.contains("stage 0") && failure.message.contains("3 worker"),
        "{failure}"
    );
}

#[test]
fn failed_function_ends_everything_with_its_failure() {
    let mut world = World::new(two_stages(3));
    let effects = world.executor.start();
    world.carry_out(effects);
    let Some(Event::WorkerReady(worker)) = world.answers.pop() else {
        panic!("a worker starts")
    };
    let failure = TaskFailure::new(ErrorCode::Application, "ValueError: no");
    let effects = world.executor.handle(Event::WorkerFailed {
        worker,
        failure: failure.clone(),
    });
    world.carry_out(effects);
    assert_eq!(world.outcome, Some(Err(failure)));
    assert!(world.live_workers.is_empty());
}

#[test]
fn cancelling_frees_all_but_what_was_delivered() {
    let mut world = World::new(two_stages(4));
    let effects = world.executor.start();
    world.carry_out(effects);
    while world.consumer.is_empty() {
        world.step();
    }
    let effects = world.executor.handle(Event::Cancelled);
    world.carry_out(effects);
    assert_eq!(world.outcome, Some(Ok(())));
    let delivered: u64 = world
        .consumer
        .iter()
        .map(|(_, rows)| rows.len() as u64 * ROW_BYTES)
        .sum();
    assert_eq!(world.executor.used_bytes(), delivered);
}
