//! Several ends of one execution.

use std::collections::BTreeSet;

use super::super::event::*;
use super::scenario::{Scenario, Shape};
use super::world::World;
use crate::graph::Edge;

/// A source whose rows go to two sinks.
fn forked(splits: usize, budget_bytes: u64) -> Scenario {
    let chain = Scenario::chain(vec![20; splits], vec![Shape::default(); 3]);
    Scenario {
        edges: vec![Edge::forward(0, 1), Edge::forward(0, 2)],
        sinks: BTreeSet::from([1, 2]),
        budget_bytes,
        ..chain
    }
}

/// Everything happens but what `is_held_back` is true for, as long as anything else may.
fn run_without(world: &mut World, is_held_back: impl Fn(&World, &Event) -> bool) {
    let effects = world.executor.start();
    world.carry_out(effects);
    loop {
        let next = world
            .answers
            .iter()
            .position(|event| !is_held_back(world, event));
        let Some(next) = next else { return };
        let event = world.answers.swap_remove(next);
        world.handle(event);
    }
}

#[test]
fn slow_sink_holds_up_no_more_than_the_budget_and_all_goes_on_behind_it() {
    let mut world = World::new(forked(40, 1000));
    let is_of_slow = |world: &World, event: &Event| {
        let Event::Pulled(pulled) = event else {
            return false;
        };
        let sinking = world.sinking.get(&pulled.worker);
        sinking.is_some_and(|sinking| sinking.iter().any(|(stage, _)| *stage == 2))
    };
    run_without(&mut world, is_of_slow);
    assert!(world.outcome.is_none(), "one sink has not answered");
    let (fast, slow) = (world.sunk[&1].len(), world.sunk.get(&2).map_or(0, Vec::len));
    assert!(fast > 0 && fast < 800, "the fast one got what fits: {fast}");
    assert_eq!(slow, 0);
    // The budget, and a block for each worker.
    assert!(world.most_used <= 1000 + 6 * 100, "{}", world.most_used);
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!((world.sunk[&1].len(), world.sunk[&2].len()), (800, 800));
}

#[test]
fn failure_of_one_sink_ends_all() {
    let mut world = World::new(forked(10, 1000));
    let effects = world.executor.start();
    world.carry_out(effects);
    let is_sinking = |world: &World| {
        let mut answers = world.answers.iter();
        answers.find_map(|event| match event {
            Event::Pulled(pulled) if world.sinking.contains_key(&pulled.worker) => {
                Some(pulled.worker)
            }
            _ => None,
        })
    };
    let worker = loop {
        if let Some(worker) = is_sinking(&world) {
            break worker;
        }
        world.step();
    };
    let failure = super::TaskFailure::new(super::ErrorCode::Application, "the disk is full");
    let effects = world.executor.handle(Event::WorkerFailed {
        worker,
        failure: failure.clone(),
    });
    world.carry_out(effects);
    assert_eq!(world.outcome, Some(Err(failure)));
    assert!(world.live_workers.is_empty());
}
