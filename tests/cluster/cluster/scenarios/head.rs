//! The head ends and comes back, or its disk does not do its work.

use std::time::Duration;

use aktis_common::resources::ResourceSet;
use aktis_gcs::io::storage::FileStorage;
use aktis_proto::v1::ActorState;

use crate::sandbox::cluster::HEAD;
use crate::sandbox::disk::InFile;
use crate::sandbox::{ActorPlan, Cluster, Host, pass, run};

fn detached(name: &'static str) -> ActorPlan {
    ActorPlan {
        name,
        is_detached: true,
        max_restarts: 1,
        ..ActorPlan::default()
    }
}

/// D2, fault 10: a head that was asked to end.
#[test]
fn tables_survive_a_head_that_is_asked_to_end() {
    run(async |cluster| {
        cluster.with_nodes(&[2]).await;
        survive_restart(cluster, async |cluster| cluster.stop_head().await).await;
    });
}

/// D2: and one that was killed.
#[test]
fn tables_survive_a_head_that_is_killed() {
    run(async |cluster| {
        cluster.with_nodes(&[2]).await;
        survive_restart(cluster, async |cluster| cluster.crash_head()).await;
    });
}

async fn survive_restart(cluster: &mut Cluster, end: impl AsyncFnOnce(&mut Cluster)) {
    let driver = cluster.driver(Host(1)).await;
    let actor = driver.create(&detached("kept")).await.unwrap();
    let id = actor.to_wire();
    driver.keep("key", "value").await.unwrap();
    cluster
        .until("it runs", 10, async |cluster| {
            cluster.world.hosts_of(&id).len() == 1
        })
        .await;
    let before = cluster.world.hosts_of(&id);
    pass(1).await;
    end(cluster).await;
    pass(3).await;
    cluster.start_head().await;
    assert_eq!(driver.kept("key").await.unwrap().as_deref(), Some("value"));
    assert_eq!(
        driver.actor(actor).await.unwrap().state(),
        ActorState::Alive
    );
    pass(30).await;
    assert_eq!(
        cluster.world.hosts_of(&id),
        before,
        "the same process, its state kept"
    );
    cluster.check().await;
}

/// D2 with the real file: what was answered is there after the next start.
#[test]
fn tables_in_a_file_survive_a_head_that_is_killed() {
    run(async |cluster| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tables.redb");
        cluster
            .start_head_on(Box::new(InFile(FileStorage::open(&path).unwrap())))
            .await;
        cluster.start_node(Host(1), ResourceSet::of_cpus(2)).await;
        let driver = cluster.driver(Host(1)).await;
        let actor = driver.create(&detached("kept")).await.unwrap();
        driver.keep("key", "value").await.unwrap();
        cluster.crash_head();
        // The lock on the file goes with the process, whose threads are of this one here: who waits for it must not hold them up.
        pass(1).await;
        let storage = FileStorage::open(&path).unwrap();
        cluster.start_head_on(Box::new(InFile(storage))).await;
        assert_eq!(driver.kept("key").await.unwrap().as_deref(), Some("value"));
        cluster
            .until("its actor runs", 30, async |_| {
                driver
                    .actor(actor)
                    .await
                    .is_ok_and(|actor| actor.state() == ActorState::Alive)
            })
            .await;
        pass(30).await;
        cluster.check().await;
    });
}

/// Fault 17, D2: nothing but the calls fails.
#[test]
fn full_disk_fails_calls_and_nothing_else() {
    run(async |cluster| {
        cluster.with_nodes(&[2, 2]).await;
        let driver = cluster.driver(Host(1)).await;
        let actor = driver.create(&detached("kept")).await.unwrap();
        let id = actor.to_wire();
        cluster
            .until("it runs", 10, async |cluster| {
                cluster.world.hosts_of(&id).len() == 1
            })
            .await;
        let before = cluster.world.hosts_of(&id);
        driver.keep("before", "kept").await.unwrap();
        cluster.log.note("the disk is full");
        cluster.disk.set_full(true);
        let failure = driver.keep("during", "lost").await.unwrap_err();
        assert!(
            failure.message.contains("No space left"),
            "it says why: {}",
            failure.message
        );
        assert_eq!(
            driver.kept("before").await.unwrap().as_deref(),
            Some("kept")
        );
        assert_eq!(
            driver.kept("during").await.unwrap(),
            None,
            "nobody hears of what is not kept"
        );
        // Leases need no head.
        let grant = driver.lease(&[("CPU", 1.0)]).await;
        driver.return_lease(&grant).await;
        pass(60).await;
        cluster.log.note("the disk has room");
        cluster.disk.set_full(false);
        driver.keep("after", "kept").await.unwrap();
        pass(30).await;
        assert_eq!(cluster.world.hosts_of(&id), before, "work went on");
        cluster.crash_head();
        cluster.start_head().await;
        assert_eq!(
            driver.kept("before").await.unwrap().as_deref(),
            Some("kept")
        );
        assert_eq!(driver.kept("after").await.unwrap().as_deref(), Some("kept"));
        pass(30).await;
        cluster.check().await;
    });
}

/// A slow disk delays answers, and nothing else.
#[test]
fn slow_disk_kills_no_node() {
    run(async |cluster| {
        cluster.with_nodes(&[2, 2]).await;
        let driver = cluster.driver(Host(1)).await;
        cluster.disk.set_delay(Duration::from_secs(2));
        let actor = driver.create(&detached("slow")).await.unwrap();
        driver.keep("key", "value").await.unwrap();
        pass(60).await;
        assert_eq!(
            driver.actor(actor).await.unwrap().state(),
            ActorState::Alive
        );
        cluster.disk.set_delay(Duration::ZERO);
        pass(10).await;
        cluster.check().await;
    });
}

/// Fault 10: a new head on the port that knows nothing of what runs.
#[test]
fn nothing_runs_on_that_a_new_session_does_not_know() {
    run(async |cluster| {
        cluster.with_nodes(&[2]).await;
        let driver = cluster.driver(Host(1)).await;
        let actor = driver.create(&detached("orphan")).await.unwrap();
        let id = actor.to_wire();
        cluster
            .until("it runs", 10, async |cluster| {
                cluster.world.hosts_of(&id).len() == 1
            })
            .await;
        let node = cluster.node(Host(1)).id;
        cluster.stop_head().await;
        cluster.disk = Default::default();
        cluster.start_head().await;
        pass(60).await;
        assert!(
            !cluster.is_alive(node).await,
            "what its drivers ask for, their jobs and functions, only the last session knows"
        );
        let living = cluster.world.hosts_of(&id);
        assert!(
            living.is_empty(),
            "an actor that no session knows holds its CPU: {living:?}"
        );
    });
}

/// Fault 11: head and its node are killed together and start again on the tables.
#[test]
fn new_drivers_join_a_head_that_was_killed_with_its_node() {
    run(async |cluster| {
        cluster.start_head().await;
        cluster
            .start_node_as(HEAD, ResourceSet::of_cpus(1), true)
            .await;
        cluster.start_node(Host(1), ResourceSet::of_cpus(1)).await;
        pass(5).await;
        for _ in 0..2 {
            cluster.crash_node(HEAD);
            cluster.crash_head();
            pass(1).await;
            cluster.start_head().await;
            cluster
                .start_node_as(HEAD, ResourceSet::of_cpus(1), true)
                .await;
            // A driver joins the head's node where there is one, and takes it from this list.
            let new = cluster.node(HEAD).id;
            let listed = cluster.listed().await;
            let of_head = listed.iter().filter(|node| node.is_alive && node.is_head);
            let ids: Vec<_> = of_head.map(|node| node.node_id.clone()).collect();
            assert_eq!(
                ids,
                [new.to_wire()],
                "the head's own node of an earlier life is gone"
            );
            cluster.driver(HEAD).await;
        }
        pass(30).await;
        cluster.check().await;
    });
}
