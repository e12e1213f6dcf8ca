//! Actors end with the process that made them (`ACT-5`).

use aktis_common::error::ErrorCode;

use super::*;

#[test]
fn actors_end_with_the_process_that_made_them_and_waiting_ones_are_never_started() {
    let mut scene = Scene::new();
    let node = scene.node(1);
    let maker = WorkerId::random();
    let living = scene.made_by(node, maker, 1);
    let (_, worker) = scene.bring_up(living);
    let waiting = scene.made_by(node, maker, 1);
    let of_another = scene.made_by(node, WorkerId::random(), 1);
    scene.process_ends(node, maker);
    assert_eq!(scene.state(living), ActorState::Dead, "ACT-5");
    assert_eq!(scene.state(waiting), ActorState::Dead, "ACT-5");
    assert_eq!(scene.kills(), [worker]);
    assert_eq!(
        scene.failure(waiting),
        "the actor died: the process that made it exited with code 0"
    );
    let generation = scene.core.nodes()[0].generation;
    scene.report(node, generation, 1);
    let starts = scene.starts();
    assert_eq!(starts.len(), 1, "{starts:?}");
    assert_eq!(starts[0].0, of_another, "what they held is free");
}

#[test]
fn actors_of_an_actor_end_with_each_of_its_processes() {
    let mut scene = Scene::new();
    scene.node(4);
    let (parent, node, first) = scene.living(restarting(-1));
    let child = scene.made_by(node, first, 0);
    scene.bring_up(child);
    scene.worker_dies(parent, node, first);
    assert_eq!(scene.state(child), ActorState::Dead);
    let (_, second) = scene.bring_up(parent);
    let grandchild = scene.made_by(node, second, 0);
    scene.bring_up(grandchild);
    scene.kill(parent, true);
    scene.worker_ends(parent, node, second, true);
    assert_eq!(scene.state(grandchild), ActorState::Dead);
}

#[test]
fn detached_actor_outlives_the_process_that_made_it() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    let maker = WorkerId::random();
    let detached = ActorOptions {
        is_detached: true,
        ..ActorOptions::default()
    };
    let actor = scene.try_made_by(node, maker, detached.clone(), 0).unwrap();
    scene.bring_up(actor);
    scene.process_ends(node, maker);
    assert_eq!(scene.state(actor), ActorState::Alive);
    assert!(scene.try_made_by(node, maker, detached, 0).is_ok());
}

#[test]
fn creation_that_is_overtaken_by_the_end_of_its_maker_makes_nothing() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    let maker = WorkerId::random();
    scene.process_ends(node, maker);
    let error = scene
        .try_made_by(node, maker, ActorOptions::default(), 0)
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::Cancelled);
    assert!(scene.starts().is_empty());
}

#[test]
fn actors_end_with_the_node_of_the_process_that_made_them() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    scene.register(node, 0);
    let elsewhere = scene.node(4);
    let actor = scene.made_by(node, WorkerId::random(), 1);
    let (there, _) = scene.bring_up(actor);
    assert_eq!(there, elsewhere);
    scene
        .step(|core, turn| core.unregister_node(node.as_bytes(), "gone", turn))
        .unwrap();
    assert_eq!(scene.state(actor), ActorState::Dead);
}
