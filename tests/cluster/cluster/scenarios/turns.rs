//! Who waits has a turn, however busily others use a node (ADR 093).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aktis_common::ids::ActorId;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{ActorState, LeaseGrant, LeaseReply, lease_reply};
use tokio::sync::oneshot::error::RecvError;
use tokio::task::JoinHandle;

use crate::sandbox::{ActorPlan, Cluster, Driver, Host, run};

/// Two drivers of the node take turns in using so many of its CPUs: one of them waits at any time.
async fn keep_busy(cluster: &Cluster, host: Host, cpus: f64) -> Vec<JoinHandle<()>> {
    let mut loops = Vec::new();
    for _ in 0..2 {
        let done = Arc::default();
        let length = Duration::from_millis(50);
        loops.push(use_one_after_the_other(cluster, host, cpus, length, done).await);
    }
    loops
}

/// More tasks of one CPU and of this length than the node has CPUs: what one gives back another one takes.
async fn flood(cluster: &Cluster, host: Host, cpus: u32, length: Duration) -> Vec<JoinHandle<()>> {
    counted_flood(cluster, host, cpus, length).await.0
}

/// The same, and how many have ended.
async fn counted_flood(
    cluster: &Cluster,
    host: Host,
    cpus: u32,
    length: Duration,
) -> (Vec<JoinHandle<()>>, Arc<AtomicU32>) {
    let mut loops = Vec::new();
    let done = Arc::new(AtomicU32::new(0));
    for number in 0..2 * cpus {
        // They do not end together.
        let length = length + length * number / (4 * cpus);
        let done = Arc::clone(&done);
        loops.push(use_one_after_the_other(cluster, host, 1.0, length, done).await);
    }
    (loops, done)
}

async fn use_one_after_the_other(
    cluster: &Cluster,
    host: Host,
    cpus: f64,
    length: Duration,
    done: Arc<AtomicU32>,
) -> JoinHandle<()> {
    let driver = cluster.driver(host).await;
    tokio::spawn(async move {
        loop {
            let grant = driver.lease(&[("CPU", cpus)]).await;
            tokio::time::sleep(length).await;
            driver.return_lease(&grant).await;
            done.fetch_add(1, Ordering::Relaxed);
        }
    })
}

fn granted(answer: Result<Kind, RecvError>) -> LeaseGrant {
    match answer {
        Ok(Kind::LeaseReply(LeaseReply {
            outcome: Some(lease_reply::Outcome::Grant(grant)),
        })) => grant,
        other => panic!("expected a grant, got {other:?}"),
    }
}

async fn begins(cluster: &Cluster, driver: &Driver, actor: ActorId) {
    cluster
        .until("it has its turn", 120, async |_| {
            driver.actor(actor).await.unwrap().state() == ActorState::Alive
        })
        .await;
}

fn wide() -> ActorPlan {
    ActorPlan {
        resources: vec![("CPU", 4.0)],
        ..ActorPlan::default()
    }
}

/// Tasks that give back a CPU now and then, and later than a raylet lets an actor wait that nothing is kept for.
#[test]
fn actor_that_wants_the_whole_node_begins_beside_a_flood_of_small_tasks() {
    run(async |cluster| {
        cluster.with_nodes(&[4]).await;
        let loops = flood(cluster, Host(1), 4, Duration::from_secs(3)).await;
        let driver = cluster.driver(Host(1)).await;
        let actor = driver.create(&wide()).await.unwrap();
        begins(cluster, &driver, actor).await;
        loops.iter().for_each(JoinHandle::abort);
        cluster.check().await;
    });
}

#[test]
fn two_wide_actors_on_two_flooded_nodes_do_not_wait_for_each_other() {
    run(async |cluster| {
        cluster.with_nodes(&[4, 4]).await;
        let mut loops = flood(cluster, Host(1), 4, Duration::from_secs(2)).await;
        loops.extend(flood(cluster, Host(2), 4, Duration::from_secs(2)).await);
        let driver = cluster.driver(Host(1)).await;
        let actors = [
            driver.create(&wide()).await.unwrap(),
            driver.create(&wide()).await.unwrap(),
        ];
        for actor in actors {
            begins(cluster, &driver, actor).await;
        }
        loops.iter().for_each(JoinHandle::abort);
        cluster.check().await;
    });
}

#[test]
fn nothing_is_kept_for_actors_and_tasks_that_other_actors_leave_no_room() {
    run(async |cluster| {
        cluster.with_nodes(&[4]).await;
        let driver = cluster.driver(Host(1)).await;
        let holder = driver.create(&ActorPlan::default()).await.unwrap();
        begins(cluster, &driver, holder).await;
        let (loops, done) = counted_flood(cluster, Host(1), 3, Duration::from_millis(500)).await;
        let half_a_minute = Duration::from_secs(30);
        tokio::time::sleep(half_a_minute).await;
        let before = done.swap(0, Ordering::Relaxed);
        let waits = driver.create(&wide()).await.unwrap();
        // A task that wants as much is passed by those that do not.
        let other = cluster.driver(Host(1)).await;
        let mut task = other.request_lease(&[("CPU", 4.0)]);
        tokio::time::sleep(half_a_minute).await;
        assert!(task.try_recv().is_err());
        let after = done.load(Ordering::Relaxed);
        assert!(
            after * 10 >= before * 9,
            "{before} tasks ended before it waited, and {after} while it did"
        );
        let state = driver.actor(waits).await.unwrap().state();
        assert_eq!(state, ActorState::Pending);
        let served = tokio::spawn(async move {
            let grant = granted(task.await);
            other.return_lease(&grant).await;
        });
        driver.kill_actor(holder).await.unwrap();
        begins(cluster, &driver, waits).await;
        driver.kill_actor(waits).await.unwrap();
        served.await.unwrap();
        loops.iter().for_each(JoinHandle::abort);
        cluster.check().await;
    });
}

#[test]
fn room_is_kept_for_no_actor_that_was_killed() {
    run(async |cluster| {
        cluster.with_nodes(&[4]).await;
        // One of them never ends: room is kept in vain.
        let first = cluster.driver(Host(1)).await;
        let forever = first.lease(&[("CPU", 1.0)]).await;
        let driver = cluster.driver(Host(1)).await;
        let actor = driver.create(&wide()).await.unwrap();
        let other = cluster.driver(Host(1)).await;
        let answer = loop {
            let mut asked = other.request_lease(&[("CPU", 1.0)]);
            let answer = tokio::time::timeout(Duration::from_secs(5), &mut asked).await;
            let Ok(answer) = answer else {
                // It was kept for shorter times before, and will be for a while.
                driver.kill_actor(actor).await.unwrap();
                break tokio::time::timeout(Duration::from_secs(1), asked).await;
            };
            other.return_lease(&granted(answer)).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let grant = granted(answer.expect("nobody waits any more"));
        other.return_lease(&grant).await;
        first.return_lease(&forever).await;
        cluster.check().await;
    });
}

#[test]
fn actor_begins_on_a_node_that_tasks_keep_full() {
    run(async |cluster| {
        cluster.with_nodes(&[1]).await;
        let loops = keep_busy(cluster, Host(1), 1.0).await;
        let driver = cluster.driver(Host(1)).await;
        let actor = driver.create(&ActorPlan::default()).await.unwrap();
        begins(cluster, &driver, actor).await;
        loops.iter().for_each(JoinHandle::abort);
        cluster.check().await;
    });
}

#[test]
fn claim_of_one_node_is_served_by_another_that_its_own_tasks_keep_full() {
    run(async |cluster| {
        cluster.with_nodes(&[1, 2]).await;
        let loops = keep_busy(cluster, Host(2), 2.0).await;
        let driver = cluster.driver(Host(1)).await;
        let asked = driver.request_lease(&[("CPU", 2.0)]);
        let answer = tokio::time::timeout(Duration::from_secs(60), asked).await;
        let grant = granted(answer.expect("it has its turn"));
        driver.return_lease(&grant).await;
        loops.iter().for_each(JoinHandle::abort);
        cluster.check().await;
    });
}
