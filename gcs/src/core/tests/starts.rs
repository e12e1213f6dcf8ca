//! Starts that a raylet does not answer.

use super::*;

type Start = (ActorId, u64, NodeId);

impl Scene {
    fn only_start(&mut self) -> Start {
        let starts = self.starts();
        let [start] = starts[..] else {
            panic!("expected one start, got {starts:?}")
        };
        start
    }

    fn answer(&mut self, start: Start, outcome: StartOutcome) {
        self.step(|core, turn| core.start_answered(start.0, start.1, start.2, outcome, turn));
    }
}

fn unanswered() -> StartOutcome {
    StartOutcome::Unanswered("connection reset".to_owned())
}

fn unreachable() -> StartOutcome {
    StartOutcome::Unreachable("connection refused".to_owned())
}

#[test]
fn start_whose_answer_is_lost_is_asked_about_and_not_begun_elsewhere() {
    let mut scene = Scene::new();
    let node = scene.node(1);
    let actor = scene.create(ActorOptions::default(), 1);
    let mut start = scene.only_start();
    scene.node(1);
    // Whether a later request arrives says nothing of the first one.
    for outcome in [unanswered(), unreachable(), unanswered()] {
        scene.answer(start, outcome);
        start = scene.only_start();
        assert_eq!((start.0, start.2), (actor, node));
        let waiting = scene.core.status("").waiting;
        assert!(waiting[0].contains("does not answer"), "{waiting:?}");
    }
    let worker = scene.accept(start);
    scene.construct(actor, node, worker);
    assert_eq!(scene.state(actor), ActorState::Alive);
    assert_eq!(scene.update(actor).restarts, 0);
    assert!(scene.core.status("").waiting.is_empty());
}

#[test]
fn start_that_did_not_leave_is_placed_elsewhere() {
    let mut scene = Scene::new();
    scene.node(1);
    scene.create(ActorOptions::default(), 1);
    let start = scene.only_start();
    let other = scene.node(1);
    scene.answer(start, unreachable());
    assert_eq!(scene.only_start().2, other);
}

#[test]
fn raylet_that_reports_and_does_not_answer_registers_and_loses_the_actor() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let generation = scene.register(node, 1);
    let actor = scene.create(ActorOptions::default(), 1);
    let mut start = scene.only_start();
    let other = scene.node(1);
    for _ in 0..3 {
        assert!(!scene.report(node, generation, 1));
        scene.answer(start, unanswered());
        start = scene.only_start();
        scene.now += TIMEOUTS.silence / 2;
        scene.register(other, 1);
    }
    assert!(
        scene.report(node, generation, 1),
        "it is to hear what is there"
    );
    let reply = scene.take_in(node, 1);
    assert_eq!(reply.actors, [], "NODE-3: what it may have begun ends");
    let start = scene.only_start();
    assert_eq!((start.0, start.2), (actor, other));
    assert_eq!(scene.update(actor).restarts, 0);
}
