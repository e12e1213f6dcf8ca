//! Processes that are lost and have not ended: `ACT-3`.

use super::*;

impl Scene {
    /// A raylet says that it has lost a worker, whose process may run still.
    fn loses(&mut self, actor: ActorId, node: NodeId, worker: WorkerId) {
        let death = WorkerDied {
            worker: Some(Address::of(node, worker)),
            cause: "is cut off".to_owned(),
            ..WorkerDied::default()
        };
        let report = ReportWorkerDeathRequest {
            death: Some(death),
            actor_id: actor.to_wire(),
            is_ending: true,
            ..Default::default()
        };
        self.step(|core, turn| core.worker_died(report, turn))
            .unwrap();
    }

    /// How often the end of a process was published.
    fn deaths(&self) -> usize {
        let is_death = |effect: &&Effect| {
            matches!(effect, Effect::Publish(publication)
                if matches!(publication.kind, Some(Kind::WorkerDied(_))))
        };
        self.effects.iter().filter(is_death).count()
    }
}

#[test]
fn actor_begins_anew_when_the_process_that_it_had_has_ended() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, node, worker) = scene.living(restarting(1));
    scene.loses(actor, node, worker);
    assert_eq!(scene.state(actor), ActorState::Restarting);
    assert!(scene.starts().is_empty(), "ACT-3");
    let waiting = scene.core.status("memory").waiting;
    assert!(waiting[0].contains("has not ended yet"), "{waiting:?}");
    assert_eq!(scene.deaths(), 1, "callers are told at once");
    scene.worker_dies(actor, node, worker);
    scene.bring_up(actor);
    assert_eq!(scene.deaths(), 1, "one death is one piece of news");
    assert_eq!(scene.update(actor).restarts, 1, "ACT-4: one loss");
    // Told once more, since the raylet did not hear that it was heard.
    scene.worker_dies(actor, node, worker);
    assert_eq!(scene.state(actor), ActorState::Alive);
}

#[test]
fn actor_without_restarts_is_dead_as_soon_as_its_process_is_lost() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, node, worker) = scene.living(ActorOptions::default());
    scene.loses(actor, node, worker);
    assert_eq!(scene.state(actor), ActorState::Dead);
    scene.worker_dies(actor, node, worker);
    assert!(scene.starts().is_empty(), "ACT-1");
}

#[test]
fn actor_begins_anew_when_the_node_of_its_old_process_is_gone() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, node, worker) = scene.living(restarting(1));
    scene.loses(actor, node, worker);
    let other = scene.node(4);
    scene
        .step(|core, turn| core.unregister_node(node.as_bytes(), "gone", turn))
        .unwrap();
    let (there, _) = scene.bring_up(actor);
    assert_eq!(there, other);
    assert_eq!(scene.update(actor).restarts, 1, "ACT-4: one loss");
}

#[test]
fn restarted_head_waits_for_the_end_of_a_process_as_well() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, node, worker) = scene.living(restarting(1));
    scene.loses(actor, node, worker);
    let mut again = scene.restarted();
    assert_eq!(again.state(actor), ActorState::Restarting);
    assert!(again.starts().is_empty(), "ACT-3");
    again.worker_dies(actor, node, worker);
    again.register(node, 4);
    again.bring_up(actor);
    assert_eq!(again.update(actor).restarts, 1);
}

/// The answer to a start may come after the news that the worker it names is lost.
#[test]
fn loss_that_overtakes_the_answer_to_the_start_waits_for_the_end_too() {
    let mut scene = Scene::new();
    scene.node(4);
    let actor = scene.create(restarting(1), 0);
    let start = scene.starts()[0];
    let worker = WorkerId::random();
    scene.loses(actor, start.2, worker);
    let outcome = StartOutcome::Started {
        address: Address::of(start.2, worker),
        pid: 7,
    };
    scene.step(|core, turn| core.start_answered(actor, start.1, start.2, outcome, turn));
    assert!(scene.starts().is_empty(), "ACT-3");
    scene.worker_dies(actor, start.2, worker);
    scene.bring_up(actor);
}

#[test]
fn actor_that_is_killed_while_its_process_ends_is_dead() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, node, worker) = scene.living(restarting(-1));
    scene.loses(actor, node, worker);
    scene.kill(actor, true);
    assert_eq!(scene.state(actor), ActorState::Dead);
    assert!(scene.core.status("memory").waiting.is_empty());
    scene.worker_dies(actor, node, worker);
    assert!(scene.starts().is_empty(), "ACT-1");
}
