//! Inputs of functions whose calls overlap: each has an end where fewer and fewer calls are under way, so they are long.

use std::collections::BTreeSet;
use std::time::Duration;

use aktis_common::error::ErrorCode;

use super::super::event::Event;
use super::super::*;
use super::pools::step_of;
use super::scenario::{Scenario, Shape};
use super::world::World;

/// The inputs that the second stage gets where all 160 rows, in blocks of ten, are there before it takes the first.
fn inputs_of_second(bundle_rows: u64, workers: usize) -> usize {
    let first = Shape {
        workers: 1,
        ..Shape::default()
    };
    let second = Shape {
        workers,
        bundle_rows,
        ..Shape::default()
    };
    let mut world = World::new(Scenario {
        sinks: BTreeSet::from([1]),
        nodes: vec![8],
        budget_bytes: 1 << 20,
        ..Scenario::chain(vec![10; 16], vec![first, second])
    });
    let effects = world.executor.start();
    world.carry_out(effects);
    while !world.executor.is_stage_done(0) {
        step_of(&mut world, 0);
    }
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    world.inputs_given(1)
}

#[test]
fn an_input_takes_what_waits_up_to_its_most() {
    // One block each, where calls do not overlap.
    assert_eq!(inputs_of_second(1, 1), 16);
    // Four blocks at most.
    assert_eq!(inputs_of_second(10, 1), 4);
    // All that is here.
    assert_eq!(inputs_of_second(100, 1), 1);
}

#[test]
fn workers_share_what_waits_and_end_at_about_the_same_time() {
    // A quarter of what waits is for each: 4, 3, 3, 2 blocks, and then one by one.
    assert_eq!(inputs_of_second(8, 2), 8);
}

/// Six inputs of ten rows for one worker, which asks for one that follows as soon as it has one.
fn asking() -> World {
    let shape = Shape {
        workers: 1,
        ..Shape::default()
    };
    World::new(Scenario {
        overlaps: true,
        ..Scenario::chain(vec![10; 6], vec![shape])
    })
}

#[test]
fn a_worker_that_asks_gets_the_input_that_follows_and_never_a_third() {
    let mut world = asking();
    world.run();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received, (0..60).collect::<Vec<_>>());
    assert_eq!(world.queued, 5, "all but the first");
}

#[test]
fn inputs_that_a_worker_with_two_has_died_over_are_alone_from_then_on() {
    let mut world = asking();
    let effects = world.executor.start();
    world.carry_out(effects);
    while world.queued == 0 {
        step_of(&mut world, 0);
    }
    let worker = *world.live_workers.first().expect("there is one");
    world.end(worker);
    world.answers.clear();
    world.handle(Event::WorkerLost {
        worker,
        failure: TaskFailure::new(ErrorCode::ActorDied, "killed"),
        is_explained: false,
        at: Duration::ZERO,
    });
    assert_eq!(world.executor.backlog(0), (6, 0), "both wait again");
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received, (0..60).collect::<Vec<_>>());
    // The third, fourth, fifth and sixth are not suspected.
    assert_eq!(world.queued, 1 + 3);
}
