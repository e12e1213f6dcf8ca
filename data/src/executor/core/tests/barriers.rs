//! What lies behind barriers: no room, no workers, and nothing more than was lost is made again.

use super::scenario::{Scenario, Shape};
use super::world::{ROW_BYTES, World};
use crate::graph::{Edge, EdgeKind};

/// Eight splits, rows by partition, one input for each of four partitions.
fn shuffle() -> Scenario {
    let shape = Shape {
        partitions: 4,
        ..Shape::default()
    };
    let mut scenario = Scenario::chain(vec![40; 8], vec![shape, Shape::default()]);
    scenario.edges[0].kind = EdgeKind::Exchange { partitions: 4 };
    scenario
}

fn start(scenario: Scenario) -> World {
    let mut world = World::new(scenario);
    let effects = world.executor.start();
    world.carry_out(effects);
    world
}

#[test]
fn exchange_data_takes_no_room_of_the_budget() {
    let mut world = start(shuffle());
    let mut most = 0;
    while world.outcome.is_none() {
        world.step();
        most = most.max(world.executor.exchange_bytes());
    }
    world.run_on();
    assert_eq!(most, 8 * 40 * ROW_BYTES, "all lies behind the barrier");
    assert!(world.most_used <= world.scenario.budget_bytes);
    assert_eq!(world.executor.exchange_bytes(), 0);
}

#[test]
fn stage_behind_a_barrier_has_no_worker_before_that_opens() {
    let mut world = start(shuffle());
    while world.executor.backlog(0) != (0, 0) {
        assert_eq!(world.executor.workers(1), (0, 0));
        world.step();
    }
    world.run_on();
    assert_eq!(world.received.len(), 320);
}

/// One block of one partition: the seven others of its input stay as they are.
#[test]
fn exactly_the_lost_block_of_a_partition_is_made_again() {
    let mut scenario = shuffle();
    scenario.stages[0].rows_per_block = 100;
    let mut world = start(scenario);
    while world.executor.workers(1).0 == 0 {
        world.step();
    }
    let lost = *world.contents.keys().min().expect("all of the exchange");
    world.contents.remove(&lost);
    world.lost.insert(lost);
    let made = world.next_block;
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received.len(), 320);
    assert_eq!(world.remade, 1);
    let delivered = 4 * 8;
    assert!(world.next_block <= made + delivered + 1);
}

#[test]
fn small_neighbouring_partitions_become_one_input_up_to_a_size() {
    let inputs = |bundle_bytes| {
        let mut scenario = shuffle();
        scenario.stages[1].bundle_bytes = bundle_bytes;
        scenario.stages[1].rows_per_block = 1000;
        let mut world = World::new(scenario);
        world.run();
        assert_eq!(world.received.len(), 320);
        world.inputs_given(1)
    };
    // 200 rows in the first partition, 40 in each of the others.
    assert_eq!(inputs(0), 4);
    assert_eq!(inputs(80 * ROW_BYTES), 3);
    assert_eq!(inputs(320 * ROW_BYTES), 1);
}

/// Eight splits, all rows in so many even parts.
fn even(partitions: u32) -> Scenario {
    let mut scenario = Scenario::chain(vec![40; 8], vec![Shape::default(), Shape::default()]);
    scenario.edges[0].kind = EdgeKind::Even { partitions };
    scenario
}

/// EXE-4 (order-kept), whether it is asked for or not.
#[test]
fn even_parts_are_runs_of_all_rows_in_their_order() {
    for (partitions, inputs) in [(1, 1), (3, 3), (7, 7), (1000, 320)] {
        let mut scenario = even(partitions);
        scenario.keep_order = false;
        scenario.stages[1].workers = 1;
        scenario.choices = vec![5, 1, 9, 2, 7];
        let mut world = World::new(scenario);
        world.run();
        assert_eq!(world.outcome, Some(Ok(())));
        assert_eq!(world.inputs_given(1), inputs);
        assert_eq!(world.received, (0..320).collect::<Vec<u64>>());
        assert_eq!(world.executor.exchange_bytes(), 0);
    }
}

/// Two parts have rows of it.
#[test]
fn lost_block_of_even_parts_is_made_again_once() {
    let mut scenario = even(3);
    scenario.stages[0].rows_per_block = 100;
    let mut world = start(scenario);
    while world.executor.workers(1).0 == 0 {
        world.step();
    }
    let mut blocks: Vec<_> = world.contents.iter().collect();
    blocks.sort_unstable_by_key(|(_, rows)| rows[0]);
    // Rows 80 to 120, of the first part and the second.
    let lost = *blocks[2].0;
    world.contents.remove(&lost);
    world.lost.insert(lost);
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received, (0..320).collect::<Vec<u64>>());
    assert_eq!(world.remade, 1);
}

/// A join of two shuffles, the first partition of which has 200 of 320 rows.
fn skewed(spread: Option<usize>) -> Scenario {
    let giver = Shape {
        partitions: 4,
        ..Shape::default()
    };
    let join = Shape {
        spread,
        workers: 8,
        ..Shape::default()
    };
    let mut scenario = Scenario::chain(vec![40; 8], vec![giver.clone(), giver, join]);
    scenario.splits[1] = vec![40; 8];
    let kind = EdgeKind::Exchange { partitions: 4 };
    scenario.edges = vec![
        Edge {
            from: 0,
            to: 2,
            kind,
        },
        Edge {
            from: 1,
            to: 2,
            kind,
        },
    ];
    scenario
}

#[test]
fn partition_that_is_much_larger_than_others_becomes_several_inputs() {
    for (spread, inputs, cut) in [
        (None, 4, (0, 0)),
        (Some(0), 6, (1, 3)),
        (Some(1), 6, (1, 3)),
    ] {
        let mut world = start(skewed(spread));
        let mut most_workers = 0;
        while world.outcome.is_none() {
            world.step();
            most_workers = most_workers.max(world.executor.workers(2).0);
        }
        world.run_on();
        assert_eq!(world.outcome, Some(Ok(())));
        assert_eq!(world.inputs_given(2), inputs);
        assert_eq!(world.executor.cut_partitions(2), cut);
        assert_eq!(most_workers, inputs, "all inputs have a worker at once");
        let rows = if spread.is_some() { 320 } else { 640 };
        assert_eq!(world.received.len(), rows);
    }
}

#[test]
fn gather_of_nothing_is_one_empty_input() {
    let mut scenario = Scenario::chain(Vec::new(), vec![Shape::default(); 2]);
    scenario.edges[0].kind = EdgeKind::GATHER;
    let mut world = World::new(scenario);
    world.run();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.inputs_given(1), 1);
}

/// Rows forward and bounds of the same rows beside them, as a sort has them: the rows wait for the bounds.
#[test]
fn rows_that_wait_for_what_is_made_of_them_hold_nobody_up() {
    let mut scenario = Scenario::chain(vec![40; 50], vec![Shape::default(); 3]);
    scenario.edges = vec![
        Edge {
            from: 0,
            to: 1,
            kind: EdgeKind::GATHER,
        },
        Edge::forward(0, 2),
        Edge {
            from: 1,
            to: 2,
            kind: EdgeKind::Broadcast,
        },
    ];
    let mut world = World::new(scenario);
    world.run();
    assert_eq!(world.received, (0..2000).collect::<Vec<_>>());
    assert!(
        world.most_used <= 1000 + 6 * 10 * ROW_BYTES,
        "{}",
        world.most_used
    );
}

/// In order, the second of two sources waits for the first within its room; nothing is kept that could be read later.
#[test]
fn second_part_of_an_ordered_union_waits_within_the_budget() {
    let mut scenario = Scenario::chain(vec![40; 50], vec![Shape::default(); 3]);
    scenario.splits[1] = vec![40; 50];
    scenario.edges = vec![Edge::forward(0, 2), Edge::forward(1, 2)];
    let mut world = start(scenario);
    while world.outcome.is_none() {
        assert_eq!(world.executor.exchange_bytes(), 0);
        world.step();
    }
    world.run_on();
    assert_eq!(world.received, (0..4000).collect::<Vec<_>>());
    assert!(
        world.most_used <= 1000 + 6 * 10 * ROW_BYTES,
        "{}",
        world.most_used
    );
}

/// Each of two sources waits for the other, in another stage: one of the two feeds is set apart.
#[test]
fn sources_that_wait_for_each_other_in_two_stages_stay_within_the_budget() {
    let mut scenario = Scenario::chain(vec![40; 20], vec![Shape::default(); 4]);
    scenario.splits[1] = vec![40; 20];
    scenario.edges = vec![
        Edge::forward(0, 2),
        Edge {
            from: 1,
            to: 2,
            kind: EdgeKind::Broadcast,
        },
        Edge::forward(0, 3),
        Edge::forward(1, 3),
    ];
    let mut world = World::new(scenario);
    world.run();
    assert_eq!(world.received.len(), 3 * 800);
    assert!(
        world.most_used <= 1000 + 8 * 10 * ROW_BYTES,
        "{}",
        world.most_used
    );
}

/// What an event costs must not depend on how many partitions wait.
#[test]
fn pools_are_sized_when_barriers_open_and_not_for_every_partition() {
    let mut scenario = shuffle();
    scenario.stages[0].partitions = 1000;
    scenario.edges[0].kind = EdgeKind::Exchange { partitions: 1000 };
    scenario.splits[0] = vec![1000; 4];
    let mut world = World::new(scenario);
    world.run();
    assert_eq!(world.received.len(), 4000);
    assert!(world.executor.sizings <= 20, "{}", world.executor.sizings);
}
