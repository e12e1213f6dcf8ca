//! How many workers each stage has, from the first one on, and what nodes that come and go make of that.

use aktis_common::ids::NodeId;
use aktis_common::resources::{MEMORY, NodeResources, Quantity, ResourceSet};
use aktis_common::scheduling::{ClusterView, NodeView};

use super::super::event::*;
use super::super::sizing::WORKER_MEMORY;
use super::nodes::view;
use super::scenario::Scenario;
use super::world::World;
use super::{one_stage, two_stages};

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

/// Answers of the workers of one stage only, as long as there are any.
fn try_step_of(world: &mut World, stage: usize) -> bool {
    let of_stage = |event: &Event| match event {
        Event::WorkerReady(worker, _) | Event::Pulled(Pulled { worker, .. }) => {
            world.executor.stages[stage].workers.contains(*worker)
        }
        _ => false,
    };
    let Some(next) = world.answers.iter().position(of_stage) else {
        return false;
    };
    let event = world.answers.remove(next);
    let effects = world.executor.handle(event);
    world.carry_out(effects);
    true
}

pub(super) fn step_of(world: &mut World, stage: usize) {
    assert!(try_step_of(world, stage), "it has something to do");
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

/// What a stage has beyond its target holds its memory until its input is done: one worker is owed to the other stage meanwhile.
#[test]
fn workers_are_as_many_as_have_memory_also_while_the_bottleneck_moves() {
    let mut scenario = two_stages(60);
    for shape in &mut scenario.stages {
        shape.workers = 8;
        shape.bundle_rows = 2;
    }
    scenario.nodes = vec![8];
    let mut world = World::new(scenario);
    let memory = Quantity::from_whole(4 * WORKER_MEMORY.whole());
    world.executor.setup.view = ClusterView::new(vec![NodeView {
        id: NodeId::new([1; 16]),
        resources: NodeResources::new(
            ResourceSet::of_cpus(8).with(MEMORY, memory),
            Vec::new(),
            [].into(),
        ),
    }]);
    let effects = world.executor.start();
    world.carry_out(effects);
    let mut most = 0;
    for turn in 0.. {
        let stage = turn / 8 % 2;
        if !try_step_of(&mut world, stage) && !try_step_of(&mut world, 1 - stage) {
            break;
        }
        most = most.max(world.executor.workers(0).0 + world.executor.workers(1).0);
    }
    assert!((3..=5).contains(&most), "{most}");
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

/// What it has done of it will be done again.
#[test]
fn input_of_a_worker_that_gives_way_is_taken_back() {
    let mut scenario = two_stages(8);
    scenario.stages[1].workers = 1;
    scenario.nodes = vec![3];
    scenario.budget_bytes = 1;
    let mut world = World::new(scenario);
    let effects = world.executor.start();
    world.carry_out(effects);
    // The other stage has no worker yet, and this one may not go on without it.
    while try_step_of(&mut world, 0) {}
    let effects = world.executor.handle(Event::NodesChanged(view(&[2])));
    let gives_way = effects.windows(2).any(|pair| match pair {
        [Effect::TakeBack(worker), Effect::StopWorker(ended)] => worker == ended,
        _ => false,
    });
    assert!(gives_way, "{effects:?}");
    world.carry_out(effects);
    world.run_on();
    assert_eq!(world.outcome, Some(Ok(())));
    assert_eq!(world.received.len(), 160);
}
