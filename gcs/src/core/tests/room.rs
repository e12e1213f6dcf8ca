//! Room is kept for actors that wait (ADR 132).

use super::*;

/// The patience of the starts that were asked for since the last call.
fn patience(scene: &mut Scene) -> Vec<u64> {
    let starts = scene.effects.iter().filter_map(|effect| match effect {
        Effect::StartActor { request, .. } => Some(request.patience_ms),
        _ => None,
    });
    starts.collect()
}

#[test]
fn room_is_kept_for_twice_as_long_after_it_was_kept_in_vain_and_then_others_have_it() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let generation = scene.register(node, 4);
    scene.report(node, generation, 0);
    let actor = scene.create(ActorOptions::default(), 4);
    scene.pass(Duration::from_secs(1));
    for expected in [2_000, 4_000, 8_000] {
        assert_eq!(patience(&mut scene), [expected]);
        let start = scene.starts()[0];
        let kept_for = Duration::from_millis(expected);
        scene.now += kept_for;
        scene.report(node, generation, 0);
        scene.step(|core, turn| {
            core.start_answered(actor, start.1, start.2, StartOutcome::NoRoom, turn);
        });
        scene.pass(kept_for - Duration::from_millis(1));
        scene.report(node, generation, 0);
        assert!(patience(&mut scene).is_empty(), "it is the turn of others");
        scene.pass(Duration::from_millis(1_001));
    }
    let start = scene.starts()[0];
    scene.accept(start);
    // It begins anew some day, and then it has not waited yet.
    let displacing = &scene.core.displacing;
    assert_eq!(displacing.patience_ms(actor), 0);
}

/// Whoever took its room there did so at once.
#[test]
fn room_that_was_not_kept_costs_no_pause() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let generation = scene.register(node, 4);
    scene.report(node, generation, 0);
    let actor = scene.create(ActorOptions::default(), 4);
    scene.pass(Duration::from_secs(1));
    for _ in 0..2 {
        let start = scene.starts()[0];
        scene.step(|core, turn| {
            core.start_answered(actor, start.1, start.2, StartOutcome::NoRoom, turn);
        });
        // Much later the node is free for a moment.
        scene.now += Duration::from_secs(20);
        scene.report(node, generation, 4);
    }
    assert_eq!(patience(&mut scene), [2_000]);
}

#[test]
fn raylet_is_told_that_an_actor_which_it_keeps_room_for_is_not_to_be() {
    let mut scene = Scene::new();
    scene.node(1);
    let actor = scene.create(ActorOptions::default(), 1);
    scene.starts();
    let request = KillActorRequest {
        actor_id: actor.to_wire(),
        no_restart: true,
        ..Default::default()
    };
    scene
        .step(|core, turn| core.kill_actor(&request, turn))
        .unwrap();
    let is_told = scene.effects.iter().any(|effect| {
        matches!(effect, Effect::KillWorker { request, .. }
            if request.worker_id.is_empty() && request.actor_id == actor.to_wire())
    });
    assert!(is_told);
}

/// Before, all that needed a CPU waited in the whole cluster.
#[test]
fn one_node_is_kept_for_an_actor_that_others_passed_often() {
    let mut scene = Scene::new();
    let mut nodes = [NodeId::random(), NodeId::random()];
    nodes.sort();
    let generations = nodes.map(|node| scene.register(node, 2));
    let free = |scene: &mut Scene, which: usize, cpus: i64| {
        scene.report(nodes[which], generations[which], cpus);
    };
    free(&mut scene, 0, 1);
    free(&mut scene, 1, 1);
    let wide = scene.create(ActorOptions::default(), 2);
    for _ in 0..16 {
        scene.create(ActorOptions::default(), 1);
        let start = scene.starts()[0];
        scene.accept(start);
        free(&mut scene, 0, 1);
        free(&mut scene, 1, 1);
    }
    let small = [
        scene.create(ActorOptions::default(), 1),
        scene.create(ActorOptions::default(), 1),
    ];
    let starts = scene.starts();
    let [(actor, _, node)] = starts[..] else {
        panic!("expected one start, got {starts:?}")
    };
    assert_eq!((actor, node), (small[0], nodes[1]));
    free(&mut scene, 0, 2);
    assert_eq!(scene.starts()[0].0, wide, "SCH-4");
}
