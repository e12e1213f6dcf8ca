use std::time::Duration;

use aktis_common::resources::CPU;
use aktis_proto::transport::Address as Place;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::*;
use aktis_raylet::{Raylet, StartError};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::process::DEADLINE;
use crate::sandbox::{Sandbox, client, driver, eventually, is_running};

fn kill(pid: u32) {
    kill_process(
        Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
}

#[tokio::test]
async fn killed_worker_releases_its_lease_and_its_cause_is_told() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let first = driver.lease(&[(CPU, 1.0)]).await;
    let waiting = driver.request_lease(&[(CPU, 1.0)]).await;
    kill(first.pid);
    let second = driver.grant(waiting).await;
    assert_ne!(first.pid, second.pid);
    match driver
        .event(|kind| matches!(kind, Kind::WorkerDied(_)))
        .await
    {
        Kind::WorkerDied(died) => {
            assert_eq!(died.worker, first.worker);
            assert_eq!(died.cause, "killed by signal 9");
        }
        other => panic!("{other:?}"),
    }
    let memory = sandbox.gcs.gcs.memory.clone();
    eventually("the gcs hears of the death", || {
        !memory.lock().deaths.is_empty()
    })
    .await;
    assert_eq!(
        memory.lock().deaths[0].death.as_ref().unwrap().cause,
        "killed by signal 9"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn end_of_an_owner_kills_the_workers_it_leased() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(2).await;
    let mut owner = driver(&node).await;
    let job = owner.job.to_wire();
    let leased = owner.lease(&[(CPU, 2.0)]).await;
    let mut other = driver(&node).await;
    let waiting = other.request_lease(&[(CPU, 2.0)]).await;
    drop(owner);
    eventually("the leased worker ends", || !is_running(leased.pid)).await;
    other.grant(waiting).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    let has_died = || {
        memory
            .lock()
            .deaths
            .iter()
            .any(|report| report.job_id == job)
    };
    eventually("the gcs hears of the driver's death", has_died).await;
    assert!(memory.lock().finished_jobs.is_empty());
    node.shutdown().await;
}

#[tokio::test]
async fn driver_that_says_goodbye_finishes_its_job() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    eventually("its job began", || memory.lock().jobs.len() == 1).await;
    assert_eq!(memory.lock().jobs[0].job_id, driver.job.to_wire());
    driver.ask(Kind::Goodbye(Goodbye::default())).await;
    drop(driver);
    eventually("its job is over", || memory.lock().finished_jobs.len() == 1).await;
    assert_eq!(memory.lock().finished_jobs[0].cause, "finished");
    node.shutdown().await;
}

#[tokio::test]
async fn shutdown_leaves_no_process_and_no_folder() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(2).await;
    let mut driver = driver(&node).await;
    let leased = driver.lease(&[(CPU, 1.0)]).await;
    let folder = node.node_socket().parent().unwrap().to_owned();
    assert!(folder.exists());
    let id = node.node_id();
    node.shutdown().await;
    assert!(!folder.exists());
    eventually("the worker ends", || !is_running(leased.pid)).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    eventually("the gcs hears of the end", || {
        memory.lock().unregistered == [id.to_wire()]
    })
    .await;
}

#[tokio::test]
async fn node_ends_when_it_is_asked_over_the_network() {
    let sandbox = Sandbox::new().await;
    let mut node = sandbox.node(1).await;
    client(&node).shutdown(RayletEmpty {}).await.unwrap();
    tokio::time::timeout(DEADLINE, node.ended()).await.unwrap();
    assert!(!node.node_socket().exists());
}

#[tokio::test]
async fn dead_zygote_is_replaced() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let leased = driver.lease(&[(CPU, 1.0)]).await;
    driver.return_lease(&leased).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", leased.pid)).unwrap();
    let parent = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .unwrap();
    let zygote: u32 = parent.trim().parse().unwrap();
    kill(zygote);
    kill(leased.pid);
    let is_worker =
        |kind: &Kind| matches!(kind, Kind::WorkerDied(died) if died.worker == leased.worker);
    driver.event(is_worker).await;
    let next = driver.lease(&[(CPU, 1.0)]).await;
    assert!(next.pid != leased.pid && is_running(next.pid));
    node.shutdown().await;
}

#[tokio::test]
async fn restarted_gcs_is_registered_with_and_work_goes_on_meanwhile() {
    let mut sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    sandbox.gcs = sandbox.gcs.restart().await;
    driver.lease(&[(CPU, 1.0)]).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    eventually("the node registers with the new gcs", || {
        memory.lock().registrations == 1
    })
    .await;
    let reply: KvGetReply = driver
        .call_gcs("KvGet", &KvGetRequest::default())
        .await
        .unwrap();
    assert_eq!(reply.value, None);
    node.shutdown().await;
}

#[tokio::test]
async fn without_a_gcs_the_start_fails_and_leaves_nothing() {
    let sandbox = Sandbox::new().await;
    let mut config = sandbox.config(1, 0);
    let nowhere = sandbox.folder.path().join("nobody.sock");
    config.gcs_address = Place::Unix(nowhere.clone());
    config.register_timeout = Duration::from_millis(300);
    let folder = config.node_dir();
    let error = Raylet::start(config).await.unwrap_err();
    assert!(matches!(error, StartError::NoGcs { .. }));
    let text = error.to_string();
    assert!(
        text.contains("nobody.sock") && text.contains("aktis start --head"),
        "{text}"
    );
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hello_is_answered_however_soon_it_comes() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    for _ in 0..300 {
        let connected = tokio::time::timeout(DEADLINE, driver(&node)).await;
        drop(connected.expect("the hello is answered"));
    }
    node.shutdown().await;
}

#[tokio::test]
async fn process_that_speaks_nonsense_is_cut_off_and_others_are_not() {
    use tokio::io::AsyncWriteExt;
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut good = driver(&node).await;
    for nonsense in [&[0xff; 64][..], b"\x08\0\0\0\x04\0\0\0\xff\xff\xff\xff"] {
        let mut bad = UnixStream::connect(node.node_socket()).await.unwrap();
        bad.write_all(nonsense).await.unwrap();
        let mut rest = Vec::new();
        bad.read_to_end(&mut rest).await.unwrap_or_default();
    }
    good.lease(&[(CPU, 1.0)]).await;
    node.shutdown().await;
}

#[tokio::test]
async fn output_of_a_worker_reaches_the_driver_of_its_job() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let spec = TaskSpec {
        actor_id: aktis_common::ids::ActorId::random().to_wire(),
        job_id: driver.job.to_wire(),
        ..TaskSpec::default()
    };
    let options = ActorOptions {
        class_name: "Talker".to_owned(),
        ..ActorOptions::default()
    };
    let start = StartActor {
        spec: Some(spec),
        options: Some(options),
        ..StartActor::default()
    };
    let request = StartActorRequest {
        start: Some(start),
        generation: 1,
        ..Default::default()
    };
    let reply = client(&node)
        .start_actor(request)
        .await
        .unwrap()
        .into_inner();
    match driver.event(|kind| matches!(kind, Kind::LogLines(_))).await {
        Kind::LogLines(log) => {
            assert_eq!(log.lines, ["constructing Talker"]);
            assert_eq!(
                (log.pid, log.source.as_str(), log.is_stderr),
                (reply.pid, "Talker", false)
            );
        }
        other => panic!("{other:?}"),
    }
    node.shutdown().await;
}
