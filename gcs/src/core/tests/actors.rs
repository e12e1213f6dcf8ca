use aktis_common::error::ErrorCode;
use aktis_proto::v1::{Failure, FinishJobRequest};

use super::*;

#[test]
fn actor_becomes_alive_where_it_was_placed() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    let (actor, there, worker) = scene.living(ActorOptions::default());
    assert_eq!(there, node);
    let update = scene.update(actor);
    assert_eq!(update.address, Some(Address::of(node, worker)));
    assert_eq!(
        scene.published(actor),
        [ActorState::Pending, ActorState::Alive]
    );
}

#[test]
fn report_of_the_constructor_may_overtake_the_answer_of_the_raylet() {
    let mut scene = Scene::new();
    scene.node(4);
    let actor = scene.create(ActorOptions::default(), 1);
    let start = scene.starts()[0];
    let worker = WorkerId::random();
    scene.construct(actor, start.2, worker);
    let address = Address::of(start.2, worker);
    let outcome = StartOutcome::Started { address, pid: 7 };
    scene.step(|core, turn| core.start_answered(actor, start.1, start.2, outcome, turn));
    assert_eq!(scene.state(actor), ActorState::Alive);
    assert!(scene.kills().is_empty());
}

#[test]
fn actor_waits_for_room_and_starts_when_another_is_constructed() {
    let mut scene = Scene::new();
    scene.node(1);
    let running = ActorOptions {
        running_resources: Some(ResourceRequest::default()),
        ..ActorOptions::default()
    };
    let first = scene.create(running.clone(), 1);
    let second = scene.create(running, 1);
    let starts = scene.starts();
    assert_eq!(starts.len(), 1, "one CPU: one constructor at a time");
    let status = scene.core.status("memory");
    assert!(
        status.waiting[0].contains(r#"needs {"CPU": 1}"#),
        "{:?}",
        status.waiting
    );
    let worker = scene.accept(starts[0]);
    scene.construct(first, starts[0].2, worker);
    assert_eq!(scene.starts()[0].0, second, "1 CPU to place, none to run");
}

#[test]
fn infeasible_actor_says_so_at_once_and_starts_when_a_node_joins() {
    let mut scene = Scene::new();
    scene.node(2);
    let actor = scene.create(ActorOptions::default(), 8);
    assert_eq!(
        scene.failure(actor),
        r#"infeasible: needs {"CPU": 8}, but the largest node has {"CPU": 2}"#
    );
    assert_eq!(scene.state(actor), ActorState::Pending);
    let large = scene.node(8);
    assert_eq!(scene.starts()[0].2, large);
    assert_eq!(scene.failure(actor), "");
}

#[test]
fn nothing_is_called_infeasible_before_the_first_node_is_there() {
    let mut scene = Scene::new();
    let actor = scene.create(ActorOptions::default(), 1);
    assert_eq!(scene.failure(actor), "");
    scene.node(1);
    assert_eq!(scene.starts().len(), 1);
}

#[test]
fn raylet_without_room_is_left_alone_until_its_next_report() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let generation = scene.register(node, 1);
    let actor = scene.create(ActorOptions::default(), 1);
    let start = scene.starts()[0];
    scene.step(|core, turn| {
        core.start_answered(actor, start.1, start.2, StartOutcome::NoRoom, turn);
    });
    assert!(scene.starts().is_empty());
    scene.report(node, generation, 0);
    assert!(scene.starts().is_empty());
    scene.report(node, generation, 1);
    assert_eq!(scene.starts().len(), 1);
}

#[test]
fn actor_that_only_tasks_leave_no_room_is_started_all_the_same_after_a_while() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let generation = scene.register(node, 2);
    scene.report(node, generation, 0);
    let (first, second, third) = (
        scene.create(ActorOptions::default(), 1),
        scene.create(ActorOptions::default(), 1),
        scene.create(ActorOptions::default(), 1),
    );
    assert!(scene.starts().is_empty());
    let wake = scene.core.next_wake().expect("they are not forgotten");
    assert!(wake <= scene.now + Duration::from_secs(1));
    scene.pass(Duration::from_secs(1));
    let starts = scene.starts();
    let started: Vec<ActorId> = starts.iter().map(|start| start.0).collect();
    assert_eq!(
        started,
        [first, second],
        "actors have not more than there is"
    );
    // Tasks that run for long keep it.
    let (actor, attempt, node) = starts[0];
    scene.step(|core, turn| {
        core.start_answered(actor, attempt, node, StartOutcome::NoRoom, turn);
    });
    assert!(scene.starts().is_empty());
    scene.report(node, generation, 0);
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.starts()[0].0, third, "the others come first now");
    scene.accept(starts[1]);
    scene.pass(Duration::from_secs(1));
    assert!(
        scene.starts().is_empty(),
        "an actor does not make room for one"
    );
}

#[test]
fn start_that_fails_for_good_is_not_tried_again() {
    let mut scene = Scene::new();
    scene.node(4);
    for (code, state) in [
        (ErrorCode::RuntimeEnv, ActorState::Dead),
        (ErrorCode::WorkerCrashed, ActorState::Restarting),
    ] {
        let actor = scene.create(restarting(-1), 0);
        let (_, attempt, node) = scene.starts()[0];
        let outcome = StartOutcome::Failed(Failure::of(code, "no"));
        scene.step(|core, turn| core.start_answered(actor, attempt, node, outcome, turn));
        assert_eq!(scene.state(actor), state);
    }
}

#[test]
fn dead_worker_restarts_its_actor_as_often_as_allowed() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, node, worker) = scene.living(restarting(1));
    scene.worker_dies(actor, node, worker);
    assert_eq!(scene.state(actor), ActorState::Restarting);
    let (node, worker) = scene.bring_up(actor);
    assert_eq!(
        (scene.state(actor), scene.update(actor).restarts),
        (ActorState::Alive, 1)
    );
    scene.worker_dies(actor, node, worker);
    assert_eq!(scene.state(actor), ActorState::Dead, "ACT-4");
    assert_eq!(
        scene.failure(actor),
        "the actor died: its process was killed by signal 9; its 1 restarts are used up"
    );
    let lived = [
        ActorState::Pending,
        ActorState::Alive,
        ActorState::Restarting,
    ];
    let all = [&lived[..], &[ActorState::Alive, ActorState::Dead]].concat();
    assert_eq!(scene.published(actor), all);
}

#[test]
fn death_of_an_earlier_incarnation_is_not_believed() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, node, first) = scene.living(restarting(-1));
    scene.worker_dies(actor, node, first);
    let (_, second) = scene.bring_up(actor);
    scene.worker_dies(actor, node, first);
    assert_eq!(scene.state(actor), ActorState::Alive, "ACT-3");
    scene.construct(actor, node, first);
    assert_eq!(scene.update(actor).address, Some(Address::of(node, second)));
    assert_eq!(scene.kills(), [first], "ACT-3");
}

#[test]
fn actor_that_exits_on_purpose_is_not_restarted() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, node, worker) = scene.living(restarting(-1));
    scene.worker_ends(actor, node, worker, true);
    assert_eq!(scene.state(actor), ActorState::Dead);
}

#[test]
fn raising_constructor_kills_the_actor_with_its_exception() {
    let mut scene = Scene::new();
    scene.node(4);
    let actor = scene.create(restarting(-1), 1);
    let start = scene.starts()[0];
    let worker = scene.accept(start);
    let failure = Failure {
        exception: Bytes::from_static(b"pickled"),
        ..Failure::of(ErrorCode::Application, "ValueError: no")
    };
    let report = ReportActorStartedRequest {
        actor_id: actor.to_wire(),
        address: Some(Address::of(start.2, worker)),
        pid: 7,
        failure: Some(failure.clone()),
        ..ReportActorStartedRequest::default()
    };
    scene
        .step(|core, turn| core.actor_started(report, turn))
        .unwrap();
    assert_eq!(scene.state(actor), ActorState::Dead);
    assert_eq!(scene.update(actor).failure, Some(failure));
}

#[test]
fn kill_without_restart_is_final_and_kill_with_restart_is_not() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, node, worker) = scene.living(restarting(-1));
    scene.kill(actor, false);
    assert_eq!(scene.kills(), [worker]);
    assert_eq!(
        scene.state(actor),
        ActorState::Alive,
        "until its worker is gone"
    );
    scene.worker_dies(actor, node, worker);
    let (_, second) = scene.bring_up(actor);
    scene.kill(actor, true);
    assert_eq!(scene.kills(), [second]);
    assert_eq!(scene.state(actor), ActorState::Dead);
    scene.worker_dies(actor, node, second);
    assert_eq!(scene.state(actor), ActorState::Dead, "ACT-1");
    assert!(scene.starts().is_empty());
}

#[test]
fn worker_of_an_actor_that_was_killed_while_it_started_is_killed_when_known() {
    let mut scene = Scene::new();
    scene.node(4);
    let actor = scene.create(ActorOptions::default(), 1);
    let start = scene.starts()[0];
    scene.kill(actor, true);
    let worker = scene.accept(start);
    assert_eq!(scene.kills(), [worker]);
}

#[test]
fn name_belongs_to_one_living_actor_of_a_namespace() {
    let mut scene = Scene::new();
    scene.node(4);
    let (first, ..) = scene.living(named("n"));
    let error = scene
        .try_create(ActorId::random(), named("n"), 0)
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::AlreadyExists, "ACT-2");
    assert!(error.to_string().contains("get_if_exists=True"), "{error}");

    let other = ActorOptions {
        namespace: "other".to_owned(),
        ..named("n")
    };
    scene.living(other);
    let mut request = creation(ActorId::random(), scene.job, named("n"), 0);
    request.get_if_exists = true;
    let found = scene
        .step(|core, turn| core.create_actor(request, turn))
        .unwrap();
    assert_eq!(found.actor_id, first.to_wire());

    scene.kill(first, true);
    assert!(
        scene.try_create(ActorId::random(), named("n"), 0).is_ok(),
        "ACT-1"
    );
}

#[test]
fn unknown_name_says_where_else_it_exists() {
    let mut scene = Scene::new();
    scene.node(4);
    scene.living(named("n"));
    let request = GetActorRequest {
        name: "n".to_owned(),
        namespace: "x".to_owned(),
        ..Default::default()
    };
    let error = scene.core.get_actor(&request).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
    assert!(
        error
            .to_string()
            .ends_with("there is one in namespace space"),
        "{error}"
    );
}

#[test]
fn actors_end_with_their_job_but_for_detached_ones() {
    let mut scene = Scene::new();
    scene.node(4);
    let (owned, _, worker) = scene.living(ActorOptions::default());
    let (detached, ..) = scene.living(ActorOptions {
        is_detached: true,
        ..ActorOptions::default()
    });
    let request = FinishJobRequest {
        job_id: scene.job.to_wire(),
        cause: String::new(),
    };
    scene
        .step(|core, turn| core.finish_job(&request, turn))
        .unwrap();
    assert_eq!(scene.state(owned), ActorState::Dead);
    assert_eq!(scene.state(detached), ActorState::Alive);
    assert_eq!(scene.kills(), [worker]);
    let late = scene
        .try_create(ActorId::random(), ActorOptions::default(), 0)
        .unwrap_err();
    assert_eq!(late.code(), ErrorCode::Cancelled);
}

#[test]
fn job_ends_when_its_driver_dies() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    let driver = WorkerId::random();
    scene.job = JobId::random();
    let job = scene.job;
    scene.add_job(job, Address::of(node, driver));
    let (actor, ..) = scene.living(ActorOptions::default());
    let death = WorkerDied {
        worker: Some(Address::of(node, driver)),
        cause: "died".to_owned(),
        ..WorkerDied::default()
    };
    let report = ReportWorkerDeathRequest {
        death: Some(death),
        ..Default::default()
    };
    scene
        .step(|core, turn| core.worker_died(report, turn))
        .unwrap();
    assert_eq!(scene.state(actor), ActorState::Dead);
}

/// The process is still an owner, and what it made outlives the actor.
#[test]
fn end_of_an_actor_whose_process_lingers_is_no_death_of_a_process() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, node, worker) = scene.living(ActorOptions::default());
    let report = ReportWorkerDeathRequest {
        death: Some(WorkerDied {
            worker: Some(Address::of(node, worker)),
            cause: "it ended itself".to_owned(),
            ..Default::default()
        }),
        actor_id: actor.to_wire(),
        is_lingering: true,
        ..Default::default()
    };
    scene
        .step(|core, turn| core.worker_died(report, turn))
        .unwrap();
    assert_eq!(scene.state(actor), ActorState::Dead);
    let is_death = |effect: &Effect| {
        let kind = match effect {
            Effect::Publish(publication) => publication.kind.as_ref(),
            _ => None,
        };
        matches!(kind, Some(Kind::WorkerDied(_)))
    };
    assert!(!scene.effects.iter().any(is_death));
}

#[test]
fn process_of_an_actor_that_nobody_needs_is_asked_to_end() {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, _, worker) = scene.living(ActorOptions::default());
    let request = KillActorRequest {
        actor_id: actor.to_wire(),
        no_restart: true,
        is_graceful: true,
        ..Default::default()
    };
    scene
        .step(|core, turn| core.kill_actor(&request, turn))
        .unwrap();
    assert_eq!(scene.state(actor), ActorState::Dead);
    let ends: Vec<_> = scene
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::KillWorker { request, .. } => Some(request),
            _ => None,
        })
        .collect();
    assert!(matches!(&ends[..], [end] if end.is_graceful && end.worker_id == worker.to_wire()));
}

#[test]
fn node_death_moves_actors_that_may_restart() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    scene.register(node, 4);
    let (moves, ..) = scene.living(restarting(1));
    let (stays, ..) = scene.living(restarting(0));
    let other = scene.node(4);
    scene
        .step(|core, turn| core.unregister_node(node.as_bytes(), "gone", turn))
        .unwrap();
    let (there, _) = scene.bring_up(moves);
    assert_eq!(there, other);
    assert_eq!(scene.failure(stays), "the actor died: its node died: gone");
}

#[test]
fn creation_that_is_sent_twice_makes_one_actor() {
    let mut scene = Scene::new();
    scene.node(4);
    let id = ActorId::random();
    scene.try_create(id, named("n"), 1).unwrap();
    scene.try_create(id, named("n"), 1).unwrap();
    assert_eq!(scene.starts().len(), 1);
}

#[test]
fn request_that_makes_no_sense_is_refused() {
    let mut scene = Scene::new();
    let error = scene
        .try_create(ActorId::random(), ActorOptions::default(), -1)
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(
        error
            .to_string()
            .contains(r#"resource "CPU": -1 is negative"#),
        "{error}"
    );
    let empty = scene.step(|core, turn| core.create_actor(CreateActorRequest::default(), turn));
    assert_eq!(empty.unwrap_err().to_string(), "the request lacks spec");
}
