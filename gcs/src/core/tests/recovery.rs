use aktis_proto::v1::{ActorUpdate, KvPutRequest};

use super::*;

#[test]
fn restarted_head_knows_everything_it_knew() {
    let mut scene = Scene::new();
    scene.node(4);
    let (alive, ..) = scene.living(named("a"));
    let (dead, ..) = scene.living(named("b"));
    scene.kill(dead, true);
    let row = KvPutRequest {
        key: "k".into(),
        value: "v".into(),
        overwrite: true,
        ..KvPutRequest::default()
    };
    scene.step(|core, turn| core.kv_put(row, turn));

    let mut again = scene.restarted();
    assert_eq!(again.core.session_id(), "session", "GCS-2");
    // Each head counts what it tells.
    let known = |scene: &Scene, actor| ActorUpdate {
        change: 0,
        ..scene.update(actor)
    };
    assert_eq!(known(&again, alive), known(&scene, alive));
    assert_eq!(known(&again, dead), known(&scene, dead));
    assert_eq!(again.core.nodes(), scene.core.nodes());
    assert_eq!(again.core.jobs(), scene.core.jobs());
    assert_eq!(again.core.kv().get(b"k"), Some("v".into()));
    assert!(
        again.try_create(ActorId::random(), named("a"), 0).is_err(),
        "ACT-2"
    );
    assert!(again.starts().is_empty() && again.kills().is_empty());
}

#[test]
fn nodes_register_with_a_restarted_head() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let generation = scene.register(node, 4);
    let mut again = scene.restarted();
    assert!(
        again.report(node, generation, 4),
        "what they have is heard first"
    );
    let next = again.register(NodeId::random(), 4);
    assert!(next > generation, "NODE-G1");
}

#[test]
fn restarted_head_does_not_list_its_dead_self_as_alive() {
    let mut scene = Scene::new();
    let own = NodeId::random();
    let info = NodeInfo {
        is_head: true,
        ..info(own, 4)
    };
    scene
        .step(|core, turn| core.register_node(info, turn))
        .unwrap();
    let (actor, ..) = scene.living(restarting(1));
    let other = scene.node(4);
    let mut again = scene.restarted();
    let alive: Vec<bool> = again
        .core
        .nodes()
        .iter()
        .map(|node| node.is_alive)
        .collect();
    assert_eq!(alive.iter().filter(|alive| **alive).count(), 1);
    assert_eq!(
        again.state(actor),
        ActorState::Restarting,
        "its process went with it"
    );
    assert!(again.starts().is_empty(), "the other one may have it");
    again.register(other, 4);
    again.bring_up(actor);
}

#[test]
fn restarted_head_starts_what_it_had_not_started() {
    let mut scene = Scene::new();
    let only = NodeId::random();
    scene.register(only, 1);
    let starting = scene.create(ActorOptions::default(), 1);
    let queued = scene.create(ActorOptions::default(), 1);
    scene.starts();
    let mut again = scene.restarted();
    again.starts();
    let full = NodeInfo {
        available: info(only, 0).available,
        ..info(only, 1)
    };
    let reply = again.step(|core, turn| core.register_node(full, turn));
    let generation = reply.unwrap().generation;
    let (node, worker) = again.bring_up(starting);
    assert_eq!(again.state(queued), ActorState::Pending);
    again.worker_dies(starting, node, worker);
    assert!(
        again.starts().is_empty(),
        "the node has not said yet that it is free"
    );
    again.report(only, generation, 1);
    again.bring_up(queued);
}

#[test]
fn actor_whose_node_does_not_come_back_is_restarted_elsewhere() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, ..) = scene.living(restarting(1));
    let mut again = scene.restarted();
    let other = NodeId::random();
    again.now = Duration::from_secs(9);
    again.register(other, 4);
    again.pass(Duration::from_secs(2));
    assert_eq!(again.bring_up(actor).0, other);
}

#[test]
fn broken_row_is_an_error_that_names_its_table() {
    let row = Row {
        table: Table::Actors,
        key: "short".into(),
        value: "x".into(),
    };
    let error = GcsCore::restore(String::new(), TIMEOUTS, vec![row], Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("Actors"), "{error}");
}
