//! The executor against simulated workers that answer in any order and die at any time.

mod barriers;
mod graphs;
mod kinds;
mod losses;
mod nodes;
mod outputs;
mod overlapping;
mod pools;
mod scenario;
mod timing;
mod world;

use std::collections::BTreeSet;

use aktis_common::error::ErrorCode;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::event::*;
use super::*;
use graphs::graphs;
use scenario::{Scenario, Shape};
use world::{ROW_BYTES, World};

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
        (any::<(bool, bool, bool)>(), 1usize..3),
        prop_oneof![Just(1u64), 10u64..400, Just(1_000_000)],
        0usize..6,
        0usize..8,
        (prop::collection::vec(0i64..4, 0..3), 0usize..6, 0u8..3),
        prop::collection::vec(any::<u16>(), 50..300),
    )
        .prop_map(
            |(
                splits,
                stages,
                ((keep_order, overlaps, looks_ahead), kinds),
                budget_bytes,
                deaths,
                losses,
                (more, moves, told_nodes),
                choices,
            )| {
                // Always room for one worker of each stage.
                let least = i64::try_from(stages.len()).expect("few stages");
                Scenario {
                    nodes: [least].into_iter().chain(more).collect(),
                    moves,
                    told_nodes,
                    keep_order,
                    overlaps,
                    looks_ahead,
                    budget_bytes,
                    deaths,
                    losses,
                    choices,
                    kinds,
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
    let workers = workers * world.scenario.kinds as u64;
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
fn failed_function_ends_everything_with_its_failure() {
    let mut world = World::new(two_stages(3));
    let effects = world.executor.start();
    world.carry_out(effects);
    let Some(Event::WorkerReady(worker, _)) = world.answers.pop() else {
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
