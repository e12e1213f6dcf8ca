use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::resources::CPU;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::*;
use aktis_raylet::Raylet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::sandbox::{Sandbox, driver, eventually, is_running};

/// Says something to a worker over its lane.
async fn tell_worker(lane_dir: &str, grant: &LeaseGrant, what: &str) {
    let worker = grant.worker.as_ref().unwrap().worker().unwrap();
    let mut lane = UnixStream::connect(format!("{lane_dir}/{worker}"))
        .await
        .unwrap();
    lane.write_all(what.as_bytes()).await.unwrap();
    let mut echo = vec![0; what.len()];
    lane.read_exact(&mut echo).await.unwrap();
}

#[tokio::test]
async fn lease_names_a_living_worker_and_comes_back_warm() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let first = driver.lease(&[(CPU, 1.0)]).await;
    assert!(is_running(first.pid));
    driver.return_lease(&first).await;
    let second = driver.lease(&[(CPU, 1.0)]).await;
    assert_eq!((first.pid, first.worker), (second.pid, second.worker));
    assert_ne!(first.lease_id, second.lease_id);
    node.shutdown().await;
}

#[tokio::test]
async fn waiting_request_is_granted_when_a_lease_returns() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let first = driver.lease(&[(CPU, 1.0)]).await;
    let waiting = driver.request_lease(&[(CPU, 1.0)]).await;
    driver.return_lease(&first).await;
    driver.grant(waiting).await;
    node.shutdown().await;
}

#[tokio::test]
async fn request_that_nothing_can_serve_says_what_is_missing() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let request = driver.request_lease(&[("tpu", 2.0)]).await;
    match driver.answer_to(request).await {
        Kind::LeaseReply(LeaseReply {
            outcome: Some(lease_reply::Outcome::Infeasible(told)),
        }) => {
            assert!(
                told.message
                    .contains(r#"needs {"tpu": 2}, but the largest node has {"tpu": 0}"#)
            );
        }
        other => panic!("{other:?}"),
    }
    node.shutdown().await;
}

#[tokio::test]
async fn gpus_are_assigned_by_id_and_shared_by_fraction() {
    let sandbox = Sandbox::new().await;
    let node = Raylet::start(sandbox.config(8, 2)).await.unwrap();
    let mut driver = driver(&node).await;
    let mut ids = Vec::new();
    for share in [0.5, 0.5, 1.0] {
        let grant = driver.lease(&[("GPU", share)]).await;
        ids.extend(grant.accelerators.unwrap().gpu_ids);
    }
    assert_eq!(ids, [0, 0, 1]);
    node.shutdown().await;
}

#[tokio::test]
async fn worker_that_saw_other_gpus_is_retired() {
    let sandbox = Sandbox::new().await;
    let node = Raylet::start(sandbox.config(8, 2)).await.unwrap();
    let mut driver = driver(&node).await;
    let both = driver.lease(&[("GPU", 2.0)]).await;
    driver.return_lease(&both).await;
    let one = driver.lease(&[("GPU", 1.0)]).await;
    assert_ne!(one.pid, both.pid);
    eventually("the worker with both GPUs ends", || !is_running(both.pid)).await;
    node.shutdown().await;
}

#[tokio::test]
async fn blocked_worker_lends_its_cpu_to_others() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let parent = driver.lease(&[(CPU, 1.0)]).await;
    let child = driver.request_lease(&[(CPU, 1.0)]).await;
    tell_worker(&driver.hello.lane_dir, &parent, "block").await;
    let child = driver.grant(child).await;
    tell_worker(&driver.hello.lane_dir, &parent, "unblock").await;
    driver.return_lease(&child).await;
    node.shutdown().await;
}

#[tokio::test]
async fn lease_of_another_class_is_asked_back_when_others_wait() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut holder = driver(&node).await;
    let mut other = driver(&node).await;
    let held = holder.lease(&[(CPU, 1.0)]).await;
    let waiting = other.request_lease(&[(CPU, 1.0)]).await;
    match holder
        .event(|kind| matches!(kind, Kind::LeaseReclaim(_)))
        .await
    {
        Kind::LeaseReclaim(reclaim) => assert_eq!(reclaim.lease_id, held.lease_id),
        other => panic!("{other:?}"),
    }
    holder.return_lease(&held).await;
    other.grant(waiting).await;
    node.shutdown().await;
}

#[tokio::test]
async fn cancelled_request_is_not_granted() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let held = driver.lease(&[(CPU, 1.0)]).await;
    let cancelled = driver.request_lease(&[(CPU, 1.0)]).await;
    driver
        .ask(Kind::LeaseCancel(LeaseCancel {
            request_id: cancelled,
        }))
        .await;
    let wanted = driver.request_lease(&[(CPU, 1.0)]).await;
    driver.return_lease(&held).await;
    driver.grant(wanted).await;
    node.shutdown().await;
}

#[tokio::test]
async fn worker_that_ends_at_once_fails_the_request_with_its_last_words() {
    let sandbox = Sandbox::new().await;
    let mut config = sandbox.config(1, 0);
    config
        .worker_env
        .insert("FAKE_WORKER".to_owned(), "crash".to_owned());
    let node = Raylet::start(config).await.unwrap();
    let mut driver = driver(&node).await;
    let request = driver.request_lease(&[(CPU, 1.0)]).await;
    match driver.answer_to(request).await {
        Kind::LeaseReply(LeaseReply {
            outcome: Some(lease_reply::Outcome::Failure(failure)),
        }) => {
            assert_eq!(failure.error_code(), ErrorCode::RuntimeEnv);
            for part in ["exited with code 1", "worker-", "no module named 'broken'"] {
                assert!(failure.message.contains(part), "{}", failure.message);
            }
        }
        other => panic!("{other:?}"),
    }
    node.shutdown().await;
}

#[tokio::test]
async fn worker_that_says_nothing_fails_the_request_in_time() {
    let sandbox = Sandbox::new().await;
    let mut config = sandbox.config(1, 0);
    config
        .worker_env
        .insert("FAKE_WORKER".to_owned(), "silent".to_owned());
    config.worker_start_timeout = Duration::from_millis(300);
    let node = Raylet::start(config).await.unwrap();
    let mut driver = driver(&node).await;
    let request = driver.request_lease(&[(CPU, 1.0)]).await;
    match driver.answer_to(request).await {
        Kind::LeaseReply(LeaseReply {
            outcome: Some(lease_reply::Outcome::Failure(failure)),
        }) => {
            assert!(
                failure.message.contains("did not report within 0.3 s"),
                "{}",
                failure.message
            );
        }
        other => panic!("{other:?}"),
    }
    node.shutdown().await;
}

#[tokio::test]
async fn zygote_that_cannot_run_fails_the_request_with_the_reason() {
    let sandbox = Sandbox::new().await;
    let mut config = sandbox.config(1, 0);
    config.zygote_command = vec!["/nonexistent/zygote".to_owned()];
    let node = Raylet::start(config).await.unwrap();
    let mut driver = driver(&node).await;
    let request = driver.request_lease(&[(CPU, 1.0)]).await;
    match driver.answer_to(request).await {
        Kind::LeaseReply(LeaseReply {
            outcome: Some(lease_reply::Outcome::Failure(failure)),
        }) => {
            assert!(
                failure.message.contains("/nonexistent/zygote"),
                "{}",
                failure.message
            );
        }
        other => panic!("{other:?}"),
    }
    node.shutdown().await;
}

#[tokio::test]
async fn waiting_reasons_are_reported_to_the_gcs() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    driver.lease(&[(CPU, 1.0)]).await;
    driver.request_lease(&[(CPU, 1.0)]).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    eventually("the gcs hears why a request waits", || {
        let memory = memory.lock();
        let reasons = memory.nodes.values().flat_map(|node| &node.waiting);
        reasons
            .into_iter()
            .any(|reason| reason.contains(r#"1 x needs {"CPU": 1}"#))
    })
    .await;
    node.shutdown().await;
}
