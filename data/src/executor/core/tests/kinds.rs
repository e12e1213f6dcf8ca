//! Stages whose workers are of two kinds.

use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use super::super::event::*;
use super::one_stage;
use super::scenario::Scenario;
use super::timing::{Timed, pace, pools, times_the_least};
use super::world::World;

/// Inputs of ten rows for one worker of each kind.
fn mixed(inputs: usize) -> Scenario {
    let mut scenario = pools(10 * inputs, 10, 1, 2);
    scenario.stages[0].workers = 1;
    scenario.kinds = 2;
    scenario
}

/// A row takes 10 ms in workers of the first kind, and so many times as long in those of the second.
fn timed(inputs: usize, times: u64) -> Timed {
    let mut timed = Timed::new(mixed(inputs), vec![pace(50, 10)]);
    timed.slow_kinds = vec![1, times];
    timed
}

#[test]
fn both_kinds_work_until_the_end_and_the_fast_one_does_more() {
    let mut timed = timed(110, 10);
    let took = timed.run();
    // Together they do eleven inputs in a second.
    let ratio = times_the_least(took, 50 + 110 * 1000 / 11);
    assert!(ratio <= 1.05, "{took:?}, {ratio:.3} times the least");
    assert!(
        timed.given[1] >= 9 && timed.given[0] >= 98,
        "{:?}",
        timed.given
    );
}

/// Although it was given one when nobody knew how slow it is.
#[test]
fn end_does_not_wait_for_a_slow_kind() {
    for inputs in [2, 3, 5, 20] {
        let mut timed = timed(inputs, 500);
        let took = timed.run();
        // The fast one alone, and half an input in which it turns out that the other takes long.
        let ratio = times_the_least(took, 50 + inputs as u64 * 100);
        let most = if inputs == 2 { 1.21 } else { 1.01 };
        assert!(ratio <= most, "{inputs} inputs: {took:?}, {ratio:.3}");
    }
}

/// It is known by now what it takes.
#[test]
fn slow_kind_gets_none_of_the_last_inputs() {
    let mut timed = timed(15, 10);
    let took = timed.run();
    // One of ten times the length, and after that nothing that would end after the others.
    let ratio = times_the_least(took, 50 + 14 * 100);
    assert!(ratio <= 1.01, "{took:?}, {ratio:.3}, {:?}", timed.given);
}

/// A kind that is not much slower is no straggler: it gets inputs to the end.
#[test]
fn kind_that_is_a_little_slower_works_to_the_end() {
    let mut timed = timed(10, 2);
    let took = timed.run();
    let ratio = times_the_least(took, 50 + 700);
    assert!(ratio <= 1.01, "{took:?}, {ratio:.3}, {:?}", timed.given);
}

/// Workers of one kind never get room: others of the cluster have it.
#[test]
fn kind_without_room_does_not_stop_the_others() {
    let mut scenario = one_stage(6);
    scenario.stages[0].workers = 1;
    scenario.kinds = 2;
    let mut world = World::new(scenario);
    let effects = world.executor.start();
    let kinds: Vec<(usize, WorkerKey)> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::StartWorker { kind, worker, .. } => Some((*kind, *worker)),
            _ => None,
        })
        .collect();
    let [(0, roomless), (1, _)] = kinds[..] else {
        panic!("one of each kind is started: {kinds:?}");
    };
    world.carry_out(effects);
    world
        .answers
        .retain(|event| !matches!(event, Event::WorkerReady(worker, _) if *worker == roomless));
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received, (0..120).collect::<Vec<_>>());
}

/// The first input of a worker of the first kind is for the second kind from now on. Returns the kinds of workers that had it.
fn kinds_that_had(nodes: &[i64], cpus_of_second: i64) -> Vec<usize> {
    let mut scenario = one_stage(6);
    scenario.stages[0].workers = 1;
    scenario.kinds = 2;
    scenario.cpus_of_others = cpus_of_second;
    scenario.nodes = nodes.to_vec();
    let mut world = World::new(scenario);
    let effects = world.executor.start();
    world.carry_out(effects);
    let (worker, input) = loop {
        let mut starts = world.starts.iter();
        if let Some(&first) = starts.find(|(worker, _)| world.kinds[worker] == 0) {
            break first;
        }
        world.step();
    };
    world.end(worker);
    world.executor.bind(worker, &[1]);
    world.handle(Event::WorkerLost {
        worker,
        failure: TaskFailure::new(ErrorCode::OutOfMemory, "a row alone has no room"),
        is_explained: true,
        at: Duration::ZERO,
    });
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received, (0..120).collect::<Vec<_>>());
    let had = world
        .starts
        .iter()
        .filter(|(_, sequence)| *sequence == input);
    had.map(|(worker, _)| world.kinds[worker]).collect()
}

#[test]
fn input_that_has_no_room_in_workers_of_a_kind_goes_to_another() {
    assert_eq!(kinds_that_had(&[100], 1), [0, 1]);
    // Where there is room for one worker, that is one of the other kind.
    assert_eq!(kinds_that_had(&[1], 1), [0, 1]);
}

/// Nothing waits for workers that can never be.
#[test]
fn input_for_a_kind_that_has_no_room_anywhere_goes_to_any() {
    assert_eq!(kinds_that_had(&[1], 2), [0, 0]);
}
