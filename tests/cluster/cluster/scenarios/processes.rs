//! D5: the end of a connection is not the end of its process.

use std::time::Duration;

use aktis_proto::v1::ActorState;

use crate::sandbox::{ActorPlan, Cluster, Host, pass, run};

/// Memory, CPUs and GPUs of a worker are used until its process is gone.
#[test]
fn resources_of_a_worker_are_free_when_its_process_is_gone() {
    run(async |cluster| {
        cluster.with_nodes(&[2]).await;
        let driver = cluster.driver(Host(1)).await;
        let actor = driver.create(&ActorPlan::default()).await.unwrap();
        let id = actor.to_wire();
        cluster
            .until("it runs", 10, async |cluster| {
                cluster.world.hosts_of(&id).len() == 1
            })
            .await;
        pass(2).await;
        assert_eq!(cluster.free_of(Host(1), "CPU").await, (1.0, 2.0));
        cluster.world.set_dying(Duration::from_secs(3));
        cluster.world.hang_up(cluster.world.hosts_of(&id)[0].pid);
        // Whenever its process lives, its CPU is held.
        let mut has_waited = false;
        while !cluster.world.hosts_of(&id).is_empty() {
            let (free, _) = cluster.free_of(Host(1), "CPU").await;
            if !cluster.world.hosts_of(&id).is_empty() {
                assert!(free <= 1.0, "its process lives, and its CPU is free");
                has_waited = true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(has_waited);
        cluster
            .until("its CPU is free", 10, async |cluster| {
                cluster.free_of(Host(1), "CPU").await == (2.0, 2.0)
            })
            .await;
        assert_eq!(driver.actor(actor).await.unwrap().state(), ActorState::Dead);
        cluster.check().await;
    });
}

/// How a process is lost that takes its time to end.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// It is stuck, and its connection has ended.
    HangUp,
    /// The system ends it.
    Kill,
}

/// The next incarnation begins when the last one is gone (`ACT-3`), on the same node and on another.
async fn begins_anew_when_the_old_process_is_gone(cluster: &mut Cluster, cpus: &[i64], loss: Loss) {
    cluster.with_nodes(cpus).await;
    let driver = cluster.driver(Host(1)).await;
    let plan = ActorPlan {
        max_restarts: 1,
        ..ActorPlan::default()
    };
    let actor = driver.create(&plan).await.unwrap();
    let id = actor.to_wire();
    cluster
        .until("it runs", 10, async |cluster| {
            cluster.world.hosts_of(&id).len() == 1
        })
        .await;
    pass(2).await;
    cluster.world.set_dying(Duration::from_secs(5));
    let old = cluster.world.hosts_of(&id)[0].pid;
    match loss {
        Loss::HangUp => cluster.world.hang_up(old),
        Loss::Kill => cluster.world.kill(old),
    }
    let mut is_told = false;
    while cluster.world.begun(&id) < 2 {
        assert!(cluster.world.hosts_of(&id).len() <= 1);
        let state = driver.actor(actor).await.unwrap().state();
        is_told |= state == ActorState::Restarting && !cluster.world.hosts_of(&id).is_empty();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        is_told,
        "callers are told that it is lost, and do not wait for that"
    );
    let hosts = cluster.world.hosts_of(&id);
    assert!(
        hosts.len() == 1 && hosts[0].pid != old,
        "the old process is gone when the new one begins"
    );
    pass(30).await;
    assert_eq!(
        driver.actor(actor).await.unwrap().restarts,
        1,
        "ACT-4: one loss"
    );
    cluster.check().await;
}

#[test]
fn actor_begins_anew_when_its_old_process_is_gone() {
    run(async |cluster| {
        begins_anew_when_the_old_process_is_gone(cluster, &[2], Loss::HangUp).await
    });
}

#[test]
fn actor_begins_anew_elsewhere_when_its_old_process_is_gone() {
    run(async |cluster| {
        begins_anew_when_the_old_process_is_gone(cluster, &[1, 1], Loss::HangUp).await
    });
}

#[test]
fn killed_actor_begins_anew_when_its_old_process_is_gone() {
    run(async |cluster| {
        begins_anew_when_the_old_process_is_gone(cluster, &[1, 1], Loss::Kill).await
    });
}

/// `NODE-1`: whatever it had, on whichever node.
#[test]
fn killed_driver_leaves_nothing_behind() {
    run(async |cluster| {
        cluster.with_nodes(&[2, 2]).await;
        let driver = cluster.driver(Host(1)).await;
        let elsewhere = cluster.driver(Host(2)).await;
        let actor = driver.create(&ActorPlan::default()).await.unwrap();
        let id = actor.to_wire();
        cluster
            .until("it runs", 10, async |cluster| {
                cluster.world.hosts_of(&id).len() == 1
            })
            .await;
        driver.lease(&[("CPU", 2.0)]).await;
        elsewhere.put_for(&driver, 1 << 20).await;
        driver.put_for(&driver, 1 << 20).await;
        pass(2).await;
        driver.crash();
        pass(30).await;
        assert!(cluster.world.hosts_of(&id).is_empty());
        cluster.check_stores_empty().await;
        cluster.check().await;
    });
}

/// A killed worker is gone, and the next one has its place.
#[test]
fn place_of_a_killed_worker_is_leased_again() {
    run(async |cluster| {
        cluster.with_nodes(&[1]).await;
        let driver = cluster.driver(Host(1)).await;
        for _ in 0..5 {
            let grant = driver.lease(&[("CPU", 1.0)]).await;
            cluster.world.kill(grant.pid);
            let worker = grant.worker.unwrap().worker().unwrap();
            cluster
                .until("its owner is told", 30, async |_| {
                    driver.heard_of_death(&worker)
                })
                .await;
        }
        pass(5).await;
        cluster.check().await;
    });
}
