use aktis_common::ids::{ActorId, JobId};
use aktis_common::resources::{CPU, ResourceRequest};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::*;
use aktis_raylet::Raylet;

use crate::process::Process;
use crate::sandbox::{Sandbox, client, driver, eventually, is_running};

fn start_request(
    actor: ActorId,
    job: JobId,
    class_name: &str,
    generation: u64,
) -> StartActorRequest {
    let request = |cpus: f64| {
        let request = ResourceRequest::from_numbers([(CPU, cpus)], 0).unwrap();
        Some((&request).into())
    };
    let spec = TaskSpec {
        actor_id: actor.to_wire(),
        job_id: job.to_wire(),
        resources: request(1.0),
        ..TaskSpec::default()
    };
    let options = ActorOptions {
        class_name: class_name.to_owned(),
        running_resources: request(0.0),
        ..ActorOptions::default()
    };
    let start = StartActor {
        spec: Some(spec),
        options: Some(options),
        ..StartActor::default()
    };
    StartActorRequest {
        start: Some(start),
        generation,
        ..StartActorRequest::default()
    }
}

fn place(reply: &StartActorReply) -> &Address {
    match &reply.outcome {
        Some(start_actor_reply::Outcome::Address(place)) => place,
        other => panic!("expected an address, got {other:?}"),
    }
}

#[tokio::test]
async fn actor_is_hosted_and_gives_its_cpu_back_after_its_start() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut raylet = client(&node);
    let memory = sandbox.gcs.gcs.memory.clone();
    let job = JobId::random();
    for count in 1..=3 {
        let request = start_request(ActorId::random(), job, "Counter", 1);
        let reply = raylet.start_actor(request).await.unwrap().into_inner();
        assert!(is_running(reply.pid));
        assert_eq!(place(&reply).node().unwrap(), node.node_id());
        eventually("the gcs hears of the start", || {
            memory.lock().started.len() == count
        })
        .await;
        assert_eq!(memory.lock().started[count - 1].failure, None);
    }
    node.shutdown().await;
}

#[tokio::test]
async fn failed_constructor_is_reported_and_its_worker_ends() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    let request = start_request(ActorId::random(), JobId::random(), "Broken", 1);
    let reply = client(&node)
        .start_actor(request)
        .await
        .unwrap()
        .into_inner();
    eventually("the gcs hears of the failure", || {
        let memory = memory.lock();
        let failure = memory
            .started
            .first()
            .and_then(|report| report.failure.as_ref());
        failure.is_some_and(|failure| failure.message == "constructor raised")
    })
    .await;
    eventually("the worker ends", || !is_running(reply.pid)).await;
    node.shutdown().await;
}

#[tokio::test]
async fn killed_actor_is_reported_with_actor_and_cause() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    let (mut raylet, actor) = (client(&node), ActorId::random());
    let request = start_request(actor, JobId::random(), "Counter", 1);
    let reply = raylet.start_actor(request).await.unwrap().into_inner();
    let worker_id = place(&reply).worker_id.clone();
    let kill = |actor_id| KillWorkerRequest {
        worker_id: worker_id.clone(),
        actor_id,
        cause: "killed by its owner".to_owned(),
        ..KillWorkerRequest::default()
    };
    raylet
        .kill_worker(kill(ActorId::random().to_wire()))
        .await
        .unwrap();
    assert!(
        is_running(reply.pid),
        "it hosts another actor than the one that was meant"
    );
    raylet.kill_worker(kill(actor.to_wire())).await.unwrap();
    eventually("the gcs hears of the death", || {
        !memory.lock().deaths.is_empty()
    })
    .await;
    let report = memory.lock().deaths[0].clone();
    assert_eq!(report.actor_id, actor.to_wire());
    assert_eq!(report.death.unwrap().cause, "killed by its owner");
    assert!(!report.is_intended);
    // Its lane is closed before it has ended.
    eventually("the worker ends", || !is_running(reply.pid)).await;
    node.shutdown().await;
}

#[tokio::test]
async fn start_for_an_older_registration_is_to_be_placed_anew() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut raylet = client(&node);
    let memory = sandbox.gcs.gcs.memory.clone();
    memory.lock().nodes.clear();
    eventually("the node registers again", || {
        memory.lock().registrations == 2
    })
    .await;
    eventually("the raylet knows its number", || {
        memory
            .lock()
            .nodes
            .values()
            .any(|node| node.generation == 2)
    })
    .await;
    let request = start_request(ActorId::random(), JobId::random(), "Counter", 1);
    let reply = raylet.start_actor(request).await.unwrap().into_inner();
    assert_eq!(
        reply.outcome,
        Some(start_actor_reply::Outcome::NoRoom(true))
    );
    node.shutdown().await;
}

#[tokio::test]
async fn full_node_has_no_room_for_an_actor_after_a_while() {
    let sandbox = Sandbox::new().await;
    let mut config = sandbox.config(1, 0);
    config.actor_patience = std::time::Duration::from_millis(100);
    let node = Raylet::start(config).await.unwrap();
    let mut driver = driver(&node).await;
    let held = driver.lease(&[(CPU, 1.0)]).await;
    let request = start_request(ActorId::random(), driver.job, "Counter", 1);
    let reply = client(&node)
        .start_actor(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        reply.outcome,
        Some(start_actor_reply::Outcome::NoRoom(true))
    );
    match driver
        .event(|kind| matches!(kind, Kind::LeaseReclaim(_)))
        .await
    {
        Kind::LeaseReclaim(reclaim) => assert_eq!(reclaim.lease_id, held.lease_id),
        other => panic!("{other:?}"),
    }
    node.shutdown().await;
}

async fn next_state(driver: &mut Process) -> ActorState {
    match driver
        .event(|kind| matches!(kind, Kind::ActorUpdate(_)))
        .await
    {
        Kind::ActorUpdate(update) => update.state(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn watcher_gets_the_current_state_and_every_later_one() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let actor_id = ActorId::random().to_wire();
    let update = |state: ActorState| {
        let mut update = ActorUpdate {
            actor_id: actor_id.clone(),
            ..ActorUpdate::default()
        };
        update.set_state(state);
        update
    };
    let gcs = &sandbox.gcs.gcs;
    gcs.memory
        .lock()
        .actors
        .insert(actor_id.clone(), update(ActorState::Pending));
    driver
        .ask(Kind::WatchActor(WatchActor {
            actor_id: actor_id.clone(),
        }))
        .await;
    assert_eq!(next_state(&mut driver).await, ActorState::Pending);
    gcs.publish(publication::Kind::Actor(update(ActorState::Alive)));
    assert_eq!(next_state(&mut driver).await, ActorState::Alive);
    gcs.publish(publication::Kind::Actor(update(ActorState::Dead)));
    assert_eq!(next_state(&mut driver).await, ActorState::Dead);
    node.shutdown().await;
}
