//! What a head could not keep before it ended, and the next one hears from the nodes (`GCS-3`).

use super::*;

impl Scene {
    /// The head ends, and its storage has taken nothing since it held `kept`.
    fn restarted_on(mut self, kept: BTreeMap<(Table, Bytes), Bytes>) -> Self {
        self.kept = kept;
        self.restarted()
    }
}

#[test]
fn restart_that_was_not_kept_is_the_actor_all_the_same() {
    for is_other_first in [false, true] {
        let mut scene = Scene::new();
        scene.node(1);
        scene.node(1);
        let actor = scene.create(restarting(1), 1);
        let (node, first) = scene.bring_up(actor);
        let kept = scene.kept.clone();
        scene.worker_dies(actor, node, first);
        let (other, second) = scene.bring_up(actor);
        assert_ne!(node, other, "the first one has not said that it is free");

        let mut again = scene.restarted_on(kept);
        let death = |scene: &mut Scene| {
            scene.worker_dies(actor, node, first);
            scene.register(node, 1);
            assert!(scene.starts().is_empty(), "GCS-3: another node may have it");
        };
        if is_other_first {
            again.construct_after(1, actor, other, second);
            again.register(other, 1);
        }
        death(&mut again);
        if !is_other_first {
            again.construct_after(1, actor, other, second);
            again.register(other, 1);
        }
        assert_eq!(again.state(actor), ActorState::Alive);
        assert_eq!(again.update(actor).restarts, 1);
        assert!(again.starts().is_empty() && !again.kills().contains(&second));
    }
}

#[test]
fn place_that_was_not_kept_is_found_again() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let generation = scene.register(node, 1);
    scene.report(node, generation, 0);
    let actor = scene.create(ActorOptions::default(), 1);
    let kept = scene.kept.clone();
    scene.report(node, generation, 1);
    let (_, worker) = scene.bring_up(actor);
    let mut again = scene.restarted_on(kept);
    again.construct(actor, node, worker);
    let reply = again.take_in(node, 0);
    assert_eq!(reply.actors[0].worker_id, worker.to_wire());
    assert!(again.starts().is_empty() && again.kills().is_empty());
    assert_eq!(again.state(actor), ActorState::Alive);
}

#[test]
fn process_of_a_life_that_was_given_up_is_not_the_actor() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    let (actor, _, worker) = scene.living(restarting(2));
    scene.worker_dies(actor, node, worker);
    let start = scene.starts()[0];
    scene.step(|core, turn| {
        core.start_answered(start.0, start.1, start.2, StartOutcome::NoRoom, turn);
    });
    assert_eq!(scene.state(actor), ActorState::Restarting);
    scene.construct_after(0, actor, node, worker);
    assert_eq!(scene.state(actor), ActorState::Restarting);
    assert_eq!(scene.kills(), [worker], "ACT-3");
}

#[test]
fn numbers_of_registrations_that_were_not_kept_are_not_given_again() {
    let mut scene = Scene::new();
    let kept = scene.kept.clone();
    let node = NodeId::random();
    let lost = scene.register(node, 1);
    let mut again = scene.restarted_on(kept);
    let info = NodeInfo {
        generation: lost,
        ..info(node, 1)
    };
    let reply = again.step(|core, turn| core.register_node(info, turn));
    assert!(reply.unwrap().generation > lost, "NODE-G1");
}

/// An actor that is alive on its first node, while the last head had restarted it on another one and could not keep that.
fn twice_begun() -> (Scene, ActorId, WorkerId, (NodeId, WorkerId)) {
    let mut scene = Scene::new();
    scene.node(1);
    scene.node(1);
    let actor = scene.create(restarting(1), 1);
    let kept = scene.kept.clone();
    let (first_node, first) = scene.bring_up(actor);
    scene.worker_dies(actor, first_node, first);
    let (other, second) = scene.bring_up(actor);
    let mut again = scene.restarted_on(kept);
    again.register(other, 1);
    again.register(first_node, 1);
    again.construct(actor, first_node, first);
    assert_eq!(
        again.update(actor).address.unwrap().worker().unwrap(),
        first
    );
    (again, actor, first, (other, second))
}

#[test]
fn later_life_whose_end_is_told_before_its_start_is_over_all_the_same() {
    let (mut scene, actor, first, (other, second)) = twice_begun();
    scene.worker_dies(actor, other, second);
    assert_eq!(scene.state(actor), ActorState::Alive);
    scene.construct_after(1, actor, other, second);
    assert_eq!(scene.update(actor).restarts, 1, "WATCH-1: no step back");
    assert_eq!(scene.state(actor), ActorState::Dead, "ACT-4");
    assert!(scene.kills().contains(&first), "ACT-3");
}

#[test]
fn process_whose_place_a_later_one_has_is_killed() {
    let (mut scene, actor, first, (other, second)) = twice_begun();
    scene.construct_after(1, actor, other, second);
    assert_eq!(
        scene.update(actor).address.unwrap().worker().unwrap(),
        second
    );
    assert_eq!(scene.kills(), [first], "ACT-3");
}
