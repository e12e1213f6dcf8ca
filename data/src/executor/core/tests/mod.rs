//! The executor against simulated workers that answer in any order and die at any time.

mod barriers;
mod graphs;
mod nodes;
mod outputs;
mod timing;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use aktis_common::error::ErrorCode;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::event::*;
use super::*;
use graphs::graphs;
use nodes::view;
use world::{ROW_BYTES, Scenario, Shape, World};

fn shapes() -> impl Strategy<Value = Shape> {
    (
        1usize..20,
        1usize..4,
        0u64..30,
        prop::option::weighted(0.2, 0u64..60),
        any::<bool>(),
        prop::bool::weighted(0.8),
    )
        .prop_map(
            |(rows_per_block, workers, bundle_rows, row_limit, runs_empty, is_repeatable)| Shape {
                rows_per_block,
                workers,
                bundle_rows,
                row_limit,
                runs_empty,
                is_repeatable,
                ..Shape::default()
            },
        )
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    (
        prop::collection::vec(0usize..40, 0..8),
        prop::collection::vec(shapes(), 1..4),
        any::<bool>(),
        prop_oneof![Just(1u64), 10u64..400, Just(1_000_000)],
        0usize..6,
        0usize..8,
        (prop::collection::vec(0i64..4, 0..3), 0usize..6),
        prop::collection::vec(any::<u16>(), 50..300),
    )
        .prop_map(
            |(splits, stages, keep_order, budget_bytes, deaths, losses, (more, moves), choices)| {
                // Always room for one worker of each stage.
                let least = i64::try_from(stages.len()).expect("few stages");
                Scenario {
                    nodes: [least].into_iter().chain(more).collect(),
                    moves,
                    keep_order,
                    budget_bytes,
                    deaths,
                    losses,
                    choices,
                    ..Scenario::chain(splits, stages)
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// EXE-1 (budget-holds), EXE-2 (never-stuck), EXE-3 (every-split-once), EXE-4 (order-kept).
    #[test]
    fn every_row_arrives_once_within_the_budget_whatever_dies_or_gets_lost(scenario in scenarios()) {
        let mut world = World::new(scenario.clone());
        world.run();
        prop_assert_eq!(world.outcome.clone(), Some(Ok(())));
        let total: u64 = scenario.splits[0].iter().map(|&rows| rows as u64).sum();
        let limit = scenario.stages.iter().filter_map(|shape| shape.row_limit).min();
        let wanted = total.min(limit.unwrap_or(u64::MAX));
        let distinct: BTreeSet<u64> = world.received.iter().copied().collect();
        prop_assert_eq!(world.received.len() as u64, wanted, "EXE-3");
        prop_assert_eq!(distinct.len() as u64, wanted, "EXE-3");
        if scenario.keep_order {
            prop_assert_eq!(&world.received, &(0..wanted).collect::<Vec<_>>(), "EXE-4");
        }
        check_end(&world)?;
    }

    /// EXE-1 (budget-holds), EXE-2 (never-stuck), EXE-3 (every-split-once), EXE-4 (order-kept), whatever the graph is.
    #[test]
    fn every_row_of_a_graph_arrives_once_along_every_way(scenario in graphs()) {
        let mut world = World::new(scenario.clone());
        world.run();
        prop_assert_eq!(world.outcome.clone(), Some(Ok(())));
        let ends = scenario.ends();
        let ends = ends.iter().flat_map(|&end| world.stage_rows[end].clone());
        let mut expected: Vec<u64> = ends.collect();
        let mut received = world.received.clone();
        if !(scenario.keep_order && scenario.is_order_defined()) {
            received.sort_unstable();
            expected.sort_unstable();
        }
        prop_assert_eq!(received, expected, "EXE-3, EXE-4");
        for end in (0..scenario.stages.len()).filter(|&stage| scenario.is_sink(stage)) {
            let mut expected = world.stage_rows[end].clone();
            let mut sunk = world.sunk.remove(&end).unwrap_or_default();
            expected.sort_unstable();
            sunk.sort_unstable();
            prop_assert_eq!(sunk, expected, "EXE-3: a sink has every row of its branch once");
        }
        check_end(&world)?;
    }
}

/// EXE-1 (budget-holds), and nothing is left.
fn check_end(world: &World) -> Result<(), TestCaseError> {
    let shapes = world.scenario.stages.iter();
    let largest = shapes
        .clone()
        .map(|shape| shape.rows_per_block as u64)
        .max();
    let workers: u64 = shapes.map(|shape| shape.workers as u64).sum();
    let most = world.scenario.budget_bytes + workers * largest.unwrap_or(0) * ROW_BYTES;
    let mut shapes = world.scenario.stages.iter();
    // What is made again, and what leaves as a whole, comes on top.
    let has_more = world.scenario.losses > 0 || !shapes.all(|shape| shape.is_repeatable);
    let is_within = has_more || world.most_used <= most;
    prop_assert!(is_within, "EXE-1: {} > {}", world.most_used, most);
    let (contents, lost) = (&world.contents, &world.lost);
    prop_assert!(contents.is_empty(), "every block is released: {contents:?}");
    prop_assert!(lost.is_empty(), "every lost block is released: {lost:?}");
    prop_assert!(world.live_workers.is_empty(), "every worker is ended");
    Ok(())
}

fn two_stages(splits: usize) -> Scenario {
    let shape = Shape::default();
    Scenario::chain(vec![20; splits], vec![shape.clone(), shape])
}

fn one_stage(splits: usize) -> Scenario {
    let two = two_stages(splits);
    Scenario::chain(vec![20; splits], two.stages[..1].to_vec())
}

#[test]
fn fused_sink_moves_no_block() {
    let mut scenario = one_stage(5);
    scenario.sinks = BTreeSet::from([0]);
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
fn stage_that_nothing_comes_to_gets_one_empty_input_if_that_tells_its_columns() {
    for runs_empty in [true, false] {
        let shape = Shape {
            runs_empty,
            ..Shape::default()
        };
        for splits in [vec![], vec![0, 0]] {
            let count = splits.len();
            let mut world = World::new(Scenario::chain(splits, vec![shape.clone(); 2]));
            world.run();
            assert_eq!(world.outcome, Some(Ok(())));
            let given = (world.inputs_given(0), world.inputs_given(1));
            assert_eq!(given, (count, usize::from(runs_empty)));
        }
        let mut world = World::new(Scenario::chain(vec![0, 5], vec![shape; 2]));
        world.run();
        assert_eq!(world.inputs_given(1), 1, "the one with rows");
    }
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
                Event::WorkerLost {
                    worker,
                    failure,
                    is_explained: false,
                    at: Duration::ZERO,
                }
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
        .map(|part| part.rows * ROW_BYTES)
        .sum();
    assert_eq!(world.executor.used_bytes(), delivered);
}

/// What an event costs must not depend on how many inputs wait: a job may have 100 000.
#[test]
fn cost_of_an_event_does_not_grow_with_the_inputs_that_wait() {
    let splits = 3000;
    let mut scenario = one_stage(splits);
    scenario.keep_order = false;
    scenario.splits = vec![vec![10; splits]];
    let mut world = World::new(scenario);
    world.run();
    assert_eq!(world.outcome, Some(Ok(())));
    let looked_at = world.executor.stages[0].outputs.looked_at;
    assert!(
        looked_at <= 3 * splits as u64,
        "{looked_at} looks for {splits} inputs"
    );
    let sizings = world.executor.sizings;
    assert!(
        sizings <= 20,
        "{sizings} sizings for {splits} inputs of the same cost"
    );
}

/// They load their models while the first ones work, not one after the other when rows wait.
#[test]
fn workers_of_all_stages_start_at_once_where_there_will_be_work_for_them() {
    let mut scenario = two_stages(8);
    scenario.stages.iter_mut().for_each(|shape| {
        shape.workers = 4;
        shape.bundle_rows = 20;
    });
    scenario.nodes = vec![8];
    let started = |scenario: &Scenario| {
        let mut world = World::new(scenario.clone());
        let effects = world.executor.start();
        world.carry_out(effects);
        (world.executor.workers(0).0, world.executor.workers(1).0)
    };
    assert_eq!(started(&scenario), (4, 4));
    // Two inputs will come of all rows.
    scenario.stages[1].bundle_rows = 100;
    assert_eq!(started(&scenario), (4, 2));
    // Nobody knows how many rows will be asked for.
    scenario.stages[1].row_limit = Some(30);
    assert_eq!(started(&scenario), (4, 1));
}

/// Answers of the workers of one stage only.
fn step_of(world: &mut World, stage: usize) {
    let of_stage = |event: &Event| match event {
        Event::WorkerReady(worker) | Event::Pulled(Pulled { worker, .. }) => {
            world.executor.stages[stage].workers.contains(*worker)
        }
        _ => false,
    };
    let next = world.answers.iter().position(of_stage);
    let event = world.answers.remove(next.expect("it has something to do"));
    let effects = world.executor.handle(event);
    world.carry_out(effects);
}

/// What waits for a worker is counted whole, and not one at a time.
#[test]
fn pool_grows_by_all_that_waits() {
    let mut scenario = two_stages(8);
    for shape in &mut scenario.stages {
        shape.workers = 4;
        shape.bundle_rows = 10;
    }
    scenario.stages[1].row_limit = Some(1000);
    scenario.nodes = vec![8];
    let mut world = World::new(scenario);
    let effects = world.executor.start();
    world.carry_out(effects);
    while world.executor.workers(1).0 < 4 {
        step_of(&mut world, 0);
        let waiting = world.executor.stages[1].waiting();
        let workers = world.executor.workers(1).0;
        assert!(workers >= waiting.min(4), "{waiting} wait, {workers} start");
    }
    assert!(!world.executor.is_stage_done(0));
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
}

/// Not only when all of its inputs are done.
#[test]
fn room_that_a_stage_has_no_work_for_is_used_by_the_next_one_at_once() {
    let mut scenario = two_stages(6);
    scenario.budget_bytes = 1 << 20;
    scenario
        .stages
        .iter_mut()
        .for_each(|shape| shape.workers = 4);
    scenario.nodes = vec![4];
    let mut world = World::new(scenario);
    let effects = world.executor.start();
    world.carry_out(effects);
    assert_eq!(
        (world.executor.workers(0).0, world.executor.workers(1).0),
        (2, 2)
    );
    while world.executor.workers(0).0 == 2 {
        step_of(&mut world, 0);
    }
    assert!(!world.executor.is_stage_done(0));
    assert_eq!(
        (world.executor.workers(0).0, world.executor.workers(1).0),
        (1, 3)
    );
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
}

/// Four workers that go with one node are one incident, not four.
#[test]
fn workers_that_die_together_are_one_incident() {
    let mut scenario = one_stage(40);
    scenario.stages[0].workers = 4;
    let mut world = World::new(scenario);
    world.executor.setup.max_deaths = 1;
    let effects = world.executor.start();
    world.carry_out(effects);
    let starting = std::mem::take(&mut world.answers);
    assert_eq!(starting.len(), 4);
    for event in starting {
        let Event::WorkerReady(worker) = event else {
            panic!("only starts were asked for");
        };
        world.live_workers.remove(&worker);
        let failure = TaskFailure::new(ErrorCode::NodeDied, "its node is gone");
        let effects = world.executor.handle(Event::WorkerLost {
            worker,
            failure,
            is_explained: false,
            at: Duration::ZERO,
        });
        world.carry_out(effects);
    }
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received.len(), 800);
}

/// The blocks that a lost block was made of are free by then: they are made again too.
#[test]
fn lost_block_is_made_again_from_the_source_on() {
    let mut world = World::new(two_stages(4));
    let effects = world.executor.start();
    world.carry_out(effects);
    while world.consumer.is_empty() {
        world.step();
    }
    let lost = world.consumer[0].block;
    world.contents.remove(&lost);
    world.lost.insert(lost);
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received, (0..80).collect::<Vec<_>>());
}

#[test]
fn block_that_comes_back_with_other_rows_ends_the_job() {
    let mut world = World::new(two_stages(4));
    let effects = world.executor.start();
    world.carry_out(effects);
    while world.consumer.is_empty() {
        world.step();
    }
    let lost = world.consumer[0].block;
    world.contents.remove(&lost);
    world.lost.insert(lost);
    world.scenario.stages[1].rows_per_block = 3;
    world.run_on();
    let failure = world.outcome.expect("ended").expect_err("failed");
    assert!(failure.message.contains("gave other rows"), "{failure}");
}

fn one_wide_stage(nodes: Vec<i64>) -> Scenario {
    let mut scenario = one_stage(40);
    scenario.stages[0].workers = 8;
    scenario.nodes = nodes;
    scenario
}

#[test]
fn node_that_comes_while_a_job_runs_gets_work() {
    let mut world = World::new(one_wide_stage(vec![2]));
    let effects = world.executor.start();
    world.carry_out(effects);
    assert_eq!(world.executor.workers(0), (2, 2));
    let effects = world.executor.handle(Event::NodesChanged(view(&[2, 3])));
    world.nodes = vec![2, 3];
    world.carry_out(effects);
    assert_eq!(world.executor.workers(0), (5, 5));
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received, (0..800).collect::<Vec<_>>());
}

/// They wait for room that is not there any more, and without them a smaller pool does the work.
#[test]
fn workers_that_were_meant_for_a_node_that_went_are_not_waited_for() {
    let mut world = World::new(one_wide_stage(vec![1, 3]));
    world.nodes = vec![1];
    let effects = world.executor.start();
    world.carry_out(effects);
    assert_eq!((world.live_workers.len(), world.roomless.len()), (4, 3));
    let effects = world.executor.handle(Event::NodesChanged(view(&[1])));
    world.carry_out(effects);
    assert_eq!((world.live_workers.len(), world.roomless.len()), (1, 0));
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received.len(), 800);
}

#[test]
fn same_nodes_once_more_are_no_news() {
    let mut world = World::new(one_wide_stage(vec![2]));
    let effects = world.executor.start();
    world.carry_out(effects);
    let sizings = world.executor.sizings;
    let effects = world.executor.handle(Event::NodesChanged(view(&[2])));
    assert_eq!((effects, world.executor.sizings), (Vec::new(), sizings));
}

/// What another run of an input gives may be cut otherwise: nobody may have seen a block of the first.
#[test]
fn stage_that_is_not_repeatable_gives_nothing_of_a_run_that_did_not_end() {
    let mut scenario = one_stage(1);
    scenario.splits = vec![vec![40]];
    scenario.keep_order = false;
    let mut world = World::new(scenario);
    world.executor.stages[0].setup.is_repeatable = false;
    let effects = world.executor.start();
    world.carry_out(effects);
    // Until a few blocks are there, then its worker dies.
    while world.executor.used_bytes() < 20 * ROW_BYTES {
        world.step();
    }
    assert!(world.consumer.is_empty() && world.received.is_empty());
    let worker = *world.live_workers.iter().next().expect("it works");
    world.answers.clear();
    world.end(worker);
    let failure = TaskFailure::new(ErrorCode::ActorDied, "exit code 1");
    let effects = world.executor.handle(Event::WorkerLost {
        worker,
        failure,
        is_explained: false,
        at: Duration::ZERO,
    });
    assert_eq!(world.executor.used_bytes(), 0, "its blocks are forgotten");
    world.carry_out(effects);
    world.scenario.stages[0].rows_per_block = 3;
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received, (0..40).collect::<Vec<_>>());
}

#[test]
fn block_of_a_stage_that_is_not_repeatable_is_gone_for_good() {
    let mut world = World::new(one_stage(1));
    world.executor.stages[0].setup.is_repeatable = false;
    let effects = world.executor.start();
    world.carry_out(effects);
    while world.consumer.is_empty() {
        world.step();
    }
    let lost = world.consumer[0].block;
    world.contents.remove(&lost);
    world.lost.insert(lost);
    world.run_on();
    let failure = world.outcome.expect("ended").expect_err("failed");
    assert!(failure.message.contains("run the job again"), "{failure}");
}
