//! What dies and what gets lost: whose fault it is, and what is made again.

use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use super::super::event::*;
use super::world::{ROW_BYTES, World};
use super::{one_stage, two_stages};

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
        let Event::WorkerReady(worker, _) = event else {
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
