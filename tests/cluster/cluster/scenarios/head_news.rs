//! Calls and news that are under way when the head goes away.

use std::time::Duration;

use aktis_proto::v1::{ActorState, KvPutReply, KvPutRequest};

use crate::sandbox::{ActorPlan, Cluster, Host, pass, run};

/// D4: the head is killed while it is told of a death.
#[test]
fn death_that_a_killed_head_was_told_of_is_heard_by_the_next_one() {
    run(async |cluster| {
        cluster.with_nodes(&[2]).await;
        // Bytes are under way for long enough to be cut off in the middle of the call.
        cluster.net.slow_down(
            Host(0),
            Host(1),
            Duration::from_millis(300),
            Duration::from_millis(50),
        );
        death_is_heard(cluster, async |cluster| {
            // The cause of the death is waited for first, then the report goes out.
            tokio::time::sleep(Duration::from_millis(250)).await;
            cluster.crash_head();
        })
        .await;
    });
}

/// D4: the head goes down in good order meanwhile.
#[test]
fn death_that_an_ending_head_refused_is_heard_by_the_next_one() {
    run(async |cluster| {
        cluster.with_nodes(&[2]).await;
        cluster.disk.set_delay(Duration::from_millis(400));
        death_is_heard(cluster, async |cluster| {
            tokio::time::sleep(Duration::from_millis(200)).await;
            cluster.stop_head().await;
        })
        .await;
    });
}

/// D4: the answer is lost, so that it is told twice: that the process is lost.
#[test]
fn death_that_is_told_twice_costs_one_restart() {
    run(async |cluster| told_twice(cluster, Duration::ZERO).await);
}

/// The same of the news that follows: that the process has ended, and the actor may begin anew.
#[test]
fn end_of_a_process_that_is_told_twice_costs_one_restart() {
    run(async |cluster| {
        cluster.world.set_dying(Duration::from_secs(1));
        told_twice(cluster, Duration::from_millis(500)).await;
    });
}

/// Answers are lost from so long after the kill on.
async fn told_twice(cluster: &mut Cluster, after: Duration) {
    cluster.with_nodes(&[2]).await;
    let driver = cluster.driver(Host(1)).await;
    let actor = driver.create(&restartable(3)).await.unwrap();
    let id = actor.to_wire();
    cluster
        .until("it runs", 10, async |cluster| {
            cluster.world.hosts_of(&id).len() == 1
        })
        .await;
    pass(1).await;
    let net = cluster.net.clone();
    let lost = tokio::spawn(async move {
        tokio::time::sleep(after).await;
        net.lose_answers(Host(1), Host(0), Duration::from_secs(2))
            .await
    });
    cluster.world.kill(cluster.world.hosts_of(&id)[0].pid);
    lost.await.unwrap();
    pass(60).await;
    let update = driver.actor(actor).await.unwrap();
    assert_eq!((update.state(), update.restarts), (ActorState::Alive, 1));
    assert_eq!(cluster.world.begun(&id), 2);
    cluster.check().await;
}

fn restartable(max_restarts: i32) -> ActorPlan {
    ActorPlan {
        max_restarts,
        ..ActorPlan::default()
    }
}

async fn death_is_heard(cluster: &mut Cluster, end: impl AsyncFnOnce(&mut Cluster)) {
    let driver = cluster.driver(Host(1)).await;
    let actor = driver.create(&restartable(1)).await.unwrap();
    let id = actor.to_wire();
    cluster
        .until("it runs", 20, async |cluster| {
            cluster.world.hosts_of(&id).len() == 1
        })
        .await;
    pass(5).await;
    cluster.world.kill(cluster.world.hosts_of(&id)[0].pid);
    end(cluster).await;
    cluster.disk.set_delay(Duration::ZERO);
    pass(3).await;
    cluster.net.heal_all();
    cluster.start_head().await;
    cluster
        .until("it begins anew", 60, async |cluster| {
            cluster.world.begun(&id) == 2 && cluster.world.hosts_of(&id).len() == 1
        })
        .await;
    pass(30).await;
    let update = driver.actor(actor).await.unwrap();
    assert_eq!((update.state(), update.restarts), (ActorState::Alive, 1));
    cluster.check().await;
}

/// Fault 12: a call waits for the head instead of failing.
#[test]
fn call_in_flight_waits_for_the_next_head() {
    run(async |cluster| {
        cluster.with_nodes(&[1]).await;
        let driver = cluster.driver(Host(1)).await;
        for (key, under_way) in [("early", 100), ("there", 400), ("answered", 700)] {
            cluster
                .net
                .slow_down(Host(0), Host(1), Duration::from_millis(300), Duration::ZERO);
            pass(1).await;
            let link = driver.link.clone();
            let request = KvPutRequest {
                key: key.into(),
                value: "value".into(),
                overwrite: true,
                ..KvPutRequest::default()
            };
            let call = tokio::spawn(async move {
                let reply: Result<KvPutReply, _> = link.call_gcs("KvPut", &request).await;
                reply
            });
            tokio::time::sleep(Duration::from_millis(under_way)).await;
            cluster.crash_head();
            pass(2).await;
            cluster.net.heal_all();
            cluster.start_head().await;
            let reply = call.await.unwrap();
            assert!(
                reply.is_ok(),
                "after {under_way} ms: {:?}",
                reply.unwrap_err().message
            );
            assert_eq!(driver.kept(key).await.unwrap().as_deref(), Some("value"));
        }
    });
}

/// Fault 12: the same for a head that is asked to end.
#[test]
fn call_in_flight_waits_for_the_head_that_follows_one_in_good_order() {
    run(async |cluster| {
        cluster.with_nodes(&[1]).await;
        let driver = cluster.driver(Host(1)).await;
        pass(1).await;
        let mut calls = Vec::new();
        cluster.disk.set_delay(Duration::from_millis(100));
        for number in 0..20u64 {
            let link = driver.link.clone();
            let request = KvPutRequest {
                key: format!("key {number}").into(),
                value: "value".into(),
                overwrite: true,
                ..KvPutRequest::default()
            };
            calls.push(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(40 * number)).await;
                let reply: Result<KvPutReply, _> = link.call_gcs("KvPut", &request).await;
                reply
            }));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.stop_head().await;
        pass(2).await;
        cluster.start_head().await;
        for (number, call) in calls.into_iter().enumerate() {
            let reply = call.await.unwrap();
            assert!(
                reply.is_ok(),
                "call {number}: {:?}",
                reply.unwrap_err().message
            );
            let value = driver.kept(&format!("key {number}")).await.unwrap();
            assert_eq!(value.as_deref(), Some("value"));
        }
    });
}
