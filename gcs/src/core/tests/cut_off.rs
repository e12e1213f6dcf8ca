//! Nodes that are cut off and come back: what they are told, and what waits for them.

use super::*;

fn silence(scene: &mut Scene) {
    scene.pass(TIMEOUTS.silence + Duration::from_secs(1));
}

fn hosted(reply: &RegisterNodeReply) -> Vec<(Bytes, Bytes)> {
    let hosted = reply.actors.iter();
    hosted
        .map(|hosted| (hosted.actor_id.clone(), hosted.worker_id.clone()))
        .collect()
}

#[test]
fn node_that_was_declared_dead_hears_that_its_actors_were_given_up() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let first = scene.register(node, 4);
    let (actor, ..) = scene.living(ActorOptions::default());
    silence(&mut scene);
    assert_eq!(scene.state(actor), ActorState::Dead);
    assert!(scene.report(node, first, 4), "it must register");
    let reply = scene.take_in(node, 4);
    assert_eq!(hosted(&reply), []);
    assert_eq!(reply.given_up_generation, first);
    // The answer was lost: the next one says it again.
    assert_eq!(scene.take_in(node, 4).given_up_generation, first);
}

#[test]
fn node_that_only_registers_again_hears_which_processes_its_actors_are() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    let (actor, _, worker) = scene.living(ActorOptions::default());
    let starting = scene.create(ActorOptions::default(), 0);
    let reply = scene.take_in(node, 4);
    let mut expected = vec![
        (actor.to_wire(), worker.to_wire()),
        (starting.to_wire(), Bytes::new()),
    ];
    expected.sort();
    let mut told = hosted(&reply);
    told.sort();
    assert_eq!(told, expected);
    assert_eq!(reply.given_up_generation, 0);
}

#[test]
fn node_that_comes_back_hears_of_processes_that_ended_meanwhile() {
    let mut scene = Scene::new();
    let (node, other) = (scene.node(4), scene.node(4));
    let process = WorkerId::random();
    scene.process_ends(other, process);
    assert_eq!(scene.take_in(node, 4).dead_workers, [process.to_wire()]);
    let fresh = scene.take_in(NodeId::random(), 4);
    assert!(fresh.dead_workers.is_empty(), "it has nothing of theirs");
}

#[test]
fn one_fault_costs_one_restart_whatever_the_doomed_worker_does() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    let (actor, _, doomed) = scene.living(restarting(1));
    silence(&mut scene);
    assert_eq!(scene.update(actor).restarts, 1);
    let reply = scene.take_in(node, 4);
    assert_eq!(hosted(&reply), [], "the old worker is to end");
    let start = scene.starts()[0];
    // Its end is told while nobody knows yet which worker the actor becomes.
    scene.worker_dies(actor, node, doomed);
    assert_eq!(scene.state(actor), ActorState::Restarting, "ACT-3");
    let worker = scene.accept(start);
    scene.construct(actor, node, worker);
    assert_eq!(
        (scene.state(actor), scene.update(actor).restarts),
        (ActorState::Alive, 1)
    );
}

#[test]
fn death_that_overtakes_the_answer_of_its_start_counts() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    let actor = scene.create(restarting(0), 0);
    let start = scene.starts()[0];
    let worker = WorkerId::random();
    scene.worker_dies(actor, node, worker);
    assert_eq!(scene.state(actor), ActorState::Pending);
    let outcome = StartOutcome::Started {
        address: Address::of(node, worker),
        pid: 7,
    };
    scene.step(|core, turn| core.start_answered(actor, start.1, node, outcome, turn));
    assert_eq!(scene.state(actor), ActorState::Dead);
}

#[test]
fn driver_that_was_cut_off_takes_its_job_and_actors_up_again() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    scene.driver_on(node);
    let detached = ActorOptions {
        is_detached: true,
        ..ActorOptions::default()
    };
    let (plain, _, plain_worker) = scene.living(ActorOptions::default());
    let (detached, _, detached_worker) = scene.living(detached);
    silence(&mut scene);
    assert!(scene.is_job_running());
    let waiting = scene.core.status("memory").waiting;
    assert!(waiting[0].contains("its driver is away"), "{waiting:?}");
    scene.pass(Duration::from_secs(30));
    let mut told = hosted(&scene.take_in(node, 4));
    told.sort();
    let mut expected = [(plain, plain_worker), (detached, detached_worker)]
        .map(|(actor, worker)| (actor.to_wire(), worker.to_wire()));
    expected.sort();
    assert_eq!(told, expected);
    // Nothing of the fault is left: the job does not end later, and takes new actors.
    let generation = scene.core.nodes()[0].generation;
    for _ in 0..10 {
        scene.now += Duration::from_secs(9);
        assert!(!scene.report(node, generation, 4));
    }
    assert_eq!(scene.state(plain), ActorState::Alive);
    assert_eq!(scene.state(detached), ActorState::Alive);
    scene.living(ActorOptions::default());
    assert!(scene.core.status("memory").waiting.is_empty());
}

#[test]
fn job_ends_when_its_driver_stays_away_for_longer_than_the_grace() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    scene.driver_on(node);
    let (plain, ..) = scene.living(ActorOptions::default());
    let (detached, ..) = scene.living(ActorOptions {
        is_detached: true,
        ..restarting(1)
    });
    let other = scene.node(4);
    for _ in 0..10 {
        scene.now += Duration::from_secs(9);
        let generation = scene.core.nodes().iter().map(|n| n.generation).max();
        scene.report(other, generation.unwrap(), 4);
    }
    assert!(!scene.is_job_running());
    assert_eq!(scene.state(plain), ActorState::Dead);
    let (there, _) = scene.bring_up(detached);
    assert_eq!(
        there, other,
        "it goes on without its job, not without a node"
    );
    assert_eq!(hosted(&scene.take_in(node, 4)), []);
}

#[test]
fn detached_actor_waits_for_its_node_although_its_job_has_ended_meanwhile() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    let driver = scene.driver_on(node);
    let detached = ActorOptions {
        is_detached: true,
        ..ActorOptions::default()
    };
    let (actor, _, worker) = scene.living(detached);
    silence(&mut scene);
    // The news of the driver's end arrive before the node registers.
    scene.process_ends(node, driver);
    assert!(!scene.is_job_running());
    assert_eq!(scene.state(actor), ActorState::Alive);
    let kept = hosted(&scene.take_in(node, 4));
    assert_eq!(kept, [(actor.to_wire(), worker.to_wire())]);
}

#[test]
fn grace_of_a_driver_survives_the_head() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    scene.driver_on(node);
    let (actor, ..) = scene.living(ActorOptions::default());
    silence(&mut scene);
    let mut again = scene.restarted();
    assert_eq!(again.state(actor), ActorState::Alive);
    again.pass(Duration::from_secs(50));
    again.register(node, 4);
    let mut late = scene.restarted();
    late.pass(Duration::from_secs(61));
    assert!(again.is_job_running() && !late.is_job_running());
    assert_eq!(late.state(actor), ActorState::Dead);
}

#[test]
fn node_that_leaves_while_its_driver_is_away_takes_the_job_along() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    scene.driver_on(node);
    silence(&mut scene);
    scene
        .step(|core, turn| core.unregister_node(node.as_bytes(), "shut down", turn))
        .unwrap();
    assert!(!scene.is_job_running());
}

#[test]
fn actor_waits_for_a_node_like_the_one_that_was_lost() {
    let mut scene = Scene::new();
    let small = NodeId::random();
    let generation = scene.register(small, 1);
    let large = scene.node(8);
    scene
        .step(|core, turn| core.unregister_node(large.as_bytes(), "", turn))
        .unwrap();
    let actor = scene.create(ActorOptions::default(), 8);
    assert_eq!(scene.failure(actor), "", "impossible now, not for ever");
    let waiting = scene.core.status("memory").waiting;
    assert!(waiting[0].contains("the largest node has"), "{waiting:?}");
    let other = scene.create(ActorOptions::default(), 9);
    assert!(
        scene.failure(other).starts_with("infeasible"),
        "never there"
    );
    let again = scene.restarted();
    assert_eq!(again.failure(actor), "", "GCS-2");

    // Nobody came for five minutes.
    for _ in 0..34 {
        scene.now += Duration::from_secs(9);
        assert!(!scene.report(small, generation, 1));
    }
    assert!(scene.failure(actor).starts_with("infeasible"));
    scene.node(8);
    assert_eq!(scene.starts()[0].0, actor);
}

#[test]
fn actor_that_was_told_to_wait_is_never_infeasible() {
    let mut scene = Scene::new();
    scene.node(1);
    let patient = ActorOptions {
        waits_when_infeasible: true,
        ..ActorOptions::default()
    };
    let actor = scene.create(patient, 8);
    assert_eq!(scene.failure(actor), "");
    let waiting = scene.core.status("memory").waiting;
    assert!(waiting[0].contains("the largest node has"), "{waiting:?}");
    scene.node(8);
    assert_eq!(scene.starts()[0].0, actor);
}
