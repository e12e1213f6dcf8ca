//! Inputs of functions whose calls overlap: each has an end where fewer and fewer calls are under way, so they are long.

use std::collections::BTreeSet;

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
