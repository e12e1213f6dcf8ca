//! Nodes that are cut off or gone for a while.

use std::time::Duration;

use aktis_common::resources::{Quantity, ResourceSet};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{ActorState, LeaseReply, lease_reply::Outcome};
use tokio::sync::oneshot;

use crate::sandbox::{ActorPlan, Cluster, Driver, Host, pass, run};

/// The head and a driver's node; what only it has is `a`.
const NEAR: Host = Host(1);
/// The other node; what only it has is `b`.
const FAR: Host = Host(2);
const HEAD: Host = Host(0);

fn with(name: &str, count: i64) -> ResourceSet {
    ResourceSet::of_cpus(2).with(name, Quantity::from_whole(count))
}

async fn two_nodes(cluster: &mut Cluster) -> Driver {
    cluster.start_head().await;
    cluster.start_node(NEAR, with("a", 2)).await;
    cluster.start_node(FAR, with("b", 2)).await;
    let driver = cluster.driver(NEAR).await;
    pass(2).await;
    driver
}

fn only_far(max_restarts: i32) -> ActorPlan {
    ActorPlan {
        resources: vec![("b", 1.0)],
        max_restarts,
        ..ActorPlan::default()
    }
}

/// Nobody reaches the far node for so long.
async fn cut_far(cluster: &Cluster, during: Duration) {
    cluster.net.cut(HEAD, FAR);
    cluster.net.cut(NEAR, FAR);
    tokio::time::sleep(during).await;
    cluster.net.heal(HEAD, FAR);
    cluster.net.heal(NEAR, FAR);
}

/// Fault 6: the machine of a driver is cut off from the head for longer than a node may be silent.
#[test]
fn driver_cut_off_from_the_head_takes_its_job_up_again() {
    run(async |cluster| {
        let driver = two_nodes(cluster).await;
        let near = ActorPlan {
            resources: vec![("a", 1.0)],
            max_restarts: 1,
            ..ActorPlan::default()
        };
        let mine = driver.create(&near).await.unwrap();
        let far = driver.create(&only_far(1)).await.unwrap();
        for actor in [mine, far] {
            let id = actor.to_wire();
            cluster
                .until("it runs", 10, async |cluster| {
                    cluster.world.hosts_of(&id).len() == 1
                })
                .await;
        }
        cluster.net.cut(HEAD, NEAR);
        tokio::time::sleep(Duration::from_secs(15)).await;
        // Its own node serves it meanwhile.
        let grant = driver.lease(&[("CPU", 1.0)]).await;
        driver.return_lease(&grant).await;
        cluster.net.heal(HEAD, NEAR);
        pass(30).await;
        for actor in [mine, far] {
            let update = driver.actor(actor).await.unwrap();
            assert_eq!(update.state(), ActorState::Alive, "{:?}", update.failure);
        }
        let new = driver.create(&near).await.expect("its job goes on");
        let id = new.to_wire();
        cluster
            .until("the new one runs", 30, async |cluster| {
                cluster.world.hosts_of(&id).len() == 1
            })
            .await;
        cluster.check().await;
    });
}

/// Fault 6: all machines sleep for a while.
#[test]
fn cluster_that_was_stopped_for_a_while_goes_on() {
    run(async |cluster| {
        let driver = two_nodes(cluster).await;
        let actor = driver.create(&only_far(0)).await.unwrap();
        let id = actor.to_wire();
        cluster
            .until("it runs", 10, async |cluster| {
                cluster.world.hosts_of(&id).len() == 1
            })
            .await;
        cluster.log.note("all machines sleep for an hour");
        crate::sandbox::clock::leap(Duration::from_secs(3600));
        pass(30).await;
        assert_eq!(
            driver.actor(actor).await.unwrap().state(),
            ActorState::Alive
        );
        cluster.check().await;
    });
}

/// Whatever answers a request for a lease, without waiting for it.
fn answer(waiting: &mut oneshot::Receiver<Kind>) -> Option<Outcome> {
    match waiting.try_recv() {
        Ok(Kind::LeaseReply(LeaseReply { outcome })) => outcome,
        Ok(other) => panic!("{other:?}"),
        Err(oneshot::error::TryRecvError::Empty) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Fault 7: what a node that was here lately could serve waits for it.
#[test]
fn request_that_only_a_lost_node_could_serve_waits_for_it() {
    run(async |cluster| {
        let driver = two_nodes(cluster).await;
        let far = cluster.node(FAR).id;
        cluster.crash_node(FAR);
        cluster
            .until("its death is known", 30, async |cluster| {
                !cluster.is_alive(far).await
            })
            .await;
        pass(1).await;
        let mut waiting = driver.request_lease(&[("b", 1.0)]);
        pass(20).await;
        assert_eq!(answer(&mut waiting), None, "it waits");
        cluster.start_node(FAR, with("b", 2)).await;
        pass(20).await;
        let outcome = answer(&mut waiting);
        assert!(matches!(outcome, Some(Outcome::Grant(_))), "{outcome:?}");
    });
}

/// Fault 7: the node is cut off and comes back as it was.
#[test]
fn request_that_only_a_cut_node_could_serve_waits_for_it() {
    run(async |cluster| {
        let driver = two_nodes(cluster).await;
        let far = cluster.node(FAR).id;
        cluster.net.cut(HEAD, FAR);
        cluster.net.cut(NEAR, FAR);
        cluster
            .until("its death is known", 30, async |cluster| {
                !cluster.is_alive(far).await
            })
            .await;
        pass(1).await;
        let mut waiting = driver.request_lease(&[("b", 1.0)]);
        pass(45).await;
        assert_eq!(answer(&mut waiting), None, "it waits");
        cluster.net.heal(HEAD, FAR);
        cluster.net.heal(NEAR, FAR);
        pass(30).await;
        let outcome = answer(&mut waiting);
        assert!(matches!(outcome, Some(Outcome::Grant(_))), "{outcome:?}");
    });
}

/// Fault 7, the other side: what no node has ever had is told within a second.
#[test]
fn request_that_no_node_could_ever_serve_is_refused_at_once() {
    run(async |cluster| {
        let driver = two_nodes(cluster).await;
        let mut waiting = driver.request_lease(&[("c", 1.0)]);
        pass(1).await;
        let outcome = answer(&mut waiting);
        let Some(Outcome::Infeasible(infeasible)) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(infeasible.message.contains('c'), "{}", infeasible.message);
    });
}

/// Fault 8: one cut costs one restart, however often the link breaks in it.
#[test]
fn cut_costs_an_actor_one_restart() {
    run(async |cluster| {
        let driver = two_nodes(cluster).await;
        let actor = driver.create(&only_far(1)).await.unwrap();
        let id = actor.to_wire();
        cluster
            .until("it runs", 10, async |cluster| {
                cluster.world.hosts_of(&id).len() == 1
            })
            .await;
        cut_far(cluster, Duration::from_secs(15)).await;
        pass(60).await;
        let update = driver.actor(actor).await.unwrap();
        assert_eq!(
            (update.state(), update.restarts),
            (ActorState::Alive, 1),
            "{:?}",
            update.failure
        );
        assert_eq!(cluster.world.hosts_of(&id).len(), 1);
        driver.check_news_of(actor);
        cluster.check().await;
    });
}

/// Fault 8: the same when the node's processes take long to die.
#[test]
fn cut_costs_one_restart_when_the_old_process_dies_slowly() {
    run(async |cluster| {
        let driver = two_nodes(cluster).await;
        let actor = driver.create(&only_far(1)).await.unwrap();
        let id = actor.to_wire();
        cluster
            .until("it runs", 10, async |cluster| {
                cluster.world.hosts_of(&id).len() == 1
            })
            .await;
        cluster.world.set_dying(Duration::from_secs(1));
        cut_far(cluster, Duration::from_secs(15)).await;
        pass(60).await;
        let update = driver.actor(actor).await.unwrap();
        assert_eq!(
            (update.state(), update.restarts),
            (ActorState::Alive, 1),
            "{:?}",
            update.failure
        );
        cluster.check().await;
    });
}

/// Fault 9: what owners elsewhere gave up is freed when the node is back.
#[test]
fn healed_node_frees_leases_of_owners_that_gave_it_up() {
    run(async |cluster| {
        let driver = two_nodes(cluster).await;
        for _ in 0..2 {
            driver.lease(&[("b", 1.0)]).await;
        }
        assert_eq!(cluster.free_of(FAR, "b").await, (0.0, 2.0));
        // The owner is told that the node is dead, and forgets what it had there.
        cut_far(cluster, Duration::from_secs(15)).await;
        pass(30).await;
        assert_eq!(cluster.free_of(FAR, "b").await, (2.0, 2.0));
        cluster.check().await;
    });
}

/// Fault 9: and objects.
#[test]
fn healed_node_frees_objects_of_owners_that_gave_it_up() {
    run(async |cluster| {
        let driver = two_nodes(cluster).await;
        let elsewhere = cluster.driver(FAR).await;
        elsewhere.put_for(&driver, 1 << 20).await;
        pass(2).await;
        assert!(cluster.status(FAR).await.store_used_bytes >= 1 << 20);
        cut_far(cluster, Duration::from_secs(15)).await;
        pass(30).await;
        assert_eq!(
            cluster.status(FAR).await.store_used_bytes,
            0,
            "nobody frees them any more"
        );
    });
}

/// A cut that is shorter than a node may be silent costs nothing.
#[test]
fn short_cut_costs_nothing() {
    run(async |cluster| {
        let driver = two_nodes(cluster).await;
        let actor = driver.create(&only_far(0)).await.unwrap();
        let id = actor.to_wire();
        cluster
            .until("it runs", 10, async |cluster| {
                cluster.world.hosts_of(&id).len() == 1
            })
            .await;
        let before = cluster.world.hosts_of(&id);
        cut_far(cluster, Duration::from_secs(5)).await;
        pass(60).await;
        assert_eq!(cluster.world.hosts_of(&id), before);
        assert_eq!(
            driver.actor(actor).await.unwrap().state(),
            ActorState::Alive
        );
        cluster.check().await;
    });
}
