//! A head that ends while its disk is full: what it could not keep, the nodes know (`GCS-3`).

use aktis_common::resources::ResourceSet;
use aktis_proto::v1::ActorState;

use crate::sandbox::cluster::HEAD;
use crate::sandbox::{ActorPlan, Cluster, Driver, Host, pass, run};

fn restartable() -> ActorPlan {
    ActorPlan {
        name: "kept",
        is_detached: true,
        max_restarts: 2,
        ..ActorPlan::default()
    }
}

async fn until_begun(cluster: &Cluster, id: &[u8], times: usize) {
    cluster
        .until("it runs", 30, async |cluster| {
            cluster.world.begun(id) == times && cluster.world.hosts_of(id).len() == 1
        })
        .await;
    // Its constructor ends, and the head hears of it.
    pass(1).await;
}

/// The head is killed with all that it owes, and the next one has room.
async fn next_head(cluster: &mut Cluster) {
    cluster.crash_head();
    cluster.disk.set_full(false);
    pass(1).await;
    cluster.start_head().await;
    pass(30).await;
}

async fn state(driver: &Driver, actor: aktis_common::ids::ActorId) -> (ActorState, u32) {
    let update = driver.actor(actor).await.unwrap();
    (update.state(), update.restarts)
}

/// A death, and the restart that followed on another node.
#[test]
fn restart_that_was_not_kept_stays_and_costs_one() {
    run(async |cluster| {
        cluster.with_nodes(&[1, 1, 1]).await;
        let driver = cluster.driver(Host(1)).await;
        let actor = driver.create(&restartable()).await.unwrap();
        let id = actor.to_wire();
        until_begun(cluster, &id, 1).await;
        cluster.disk.set_full(true);
        cluster.world.kill(cluster.world.hosts_of(&id)[0].pid);
        until_begun(cluster, &id, 2).await;
        let before = cluster.world.hosts_of(&id);
        next_head(cluster).await;
        assert_eq!(cluster.world.hosts_of(&id), before, "the same process");
        assert_eq!(cluster.world.begun(&id), 2);
        assert_eq!(state(&driver, actor).await, (ActorState::Alive, 1));
        cluster.check().await;
    });
}

/// An actor that was promised before, and found its place only then.
#[test]
fn place_that_was_not_kept_is_found_again() {
    run(async |cluster| {
        cluster.with_nodes(&[1]).await;
        let driver = cluster.driver(Host(1)).await;
        let grant = driver.lease(&[("CPU", 1.0)]).await;
        let actor = driver.create(&restartable()).await.unwrap();
        let id = actor.to_wire();
        pass(2).await;
        cluster.disk.set_full(true);
        driver.return_lease(&grant).await;
        until_begun(cluster, &id, 1).await;
        let before = cluster.world.hosts_of(&id);
        next_head(cluster).await;
        assert_eq!(cluster.world.hosts_of(&id), before, "the same process");
        assert_eq!(cluster.world.begun(&id), 1);
        assert_eq!(state(&driver, actor).await, (ActorState::Alive, 0));
        cluster.check().await;
    });
}

/// The next head has never heard of the node, but for what it tells of its actor.
#[test]
fn actor_on_a_node_that_joined_meanwhile_goes_on() {
    run(async |cluster| {
        cluster.with_nodes(&[1]).await;
        let driver = cluster.driver(Host(1)).await;
        let plan = ActorPlan {
            resources: vec![("CPU", 2.0)],
            ..restartable()
        };
        let actor = driver.create(&plan).await.unwrap();
        let id = actor.to_wire();
        pass(1).await;
        cluster.disk.set_full(true);
        cluster.start_node(Host(2), ResourceSet::of_cpus(2)).await;
        until_begun(cluster, &id, 1).await;
        let before = cluster.world.hosts_of(&id);
        next_head(cluster).await;
        assert_eq!(cluster.world.hosts_of(&id), before, "the same process");
        assert_eq!(cluster.world.begun(&id), 1);
        assert_eq!(state(&driver, actor).await, (ActorState::Alive, 0));
        cluster.check().await;
    });
}

/// The node of a watcher is the first that the next head hears, and the only one that asks it.
#[test]
fn restarts_that_the_next_head_does_not_know_of_yet_stay_told() {
    run(async |cluster| {
        cluster.with_nodes(&[1, 2, 1]).await;
        let driver = cluster.driver(Host(1)).await;
        let plan = ActorPlan {
            resources: vec![("CPU", 2.0)],
            ..restartable()
        };
        let actor = driver.create(&plan).await.unwrap();
        let id = actor.to_wire();
        until_begun(cluster, &id, 1).await;
        cluster.disk.set_full(true);
        cluster.world.kill(cluster.world.hosts_of(&id)[0].pid);
        until_begun(cluster, &id, 2).await;
        cluster.crash_head();
        cluster.disk.set_full(false);
        cluster.net.cut(HEAD, Host(2));
        cluster.start_head().await;
        pass(5).await;
        cluster.net.heal(HEAD, Host(2));
        pass(30).await;
        driver.check_news_of(actor);
        assert_eq!(cluster.world.begun(&id), 2);
        assert_eq!(state(&driver, actor).await, (ActorState::Alive, 1));
        cluster.check().await;
    });
}

/// What a user asked for is kept, or the call says that it is not; and it does not come back.
#[test]
fn killed_actor_stays_dead_and_its_kill_says_that_it_is_owed() {
    run(async |cluster| {
        cluster.with_nodes(&[1]).await;
        let driver = cluster.driver(Host(1)).await;
        let actor = driver.create(&restartable()).await.unwrap();
        let id = actor.to_wire();
        until_begun(cluster, &id, 1).await;
        cluster.disk.set_full(true);
        let failure = driver.kill_actor(actor).await.unwrap_err();
        assert!(failure.message.contains("it was done"), "{failure:?}");
        pass(5).await;
        assert_eq!(state(&driver, actor).await.0, ActorState::Dead);
        next_head(cluster).await;
        assert_eq!(state(&driver, actor).await.0, ActorState::Dead);
        assert_eq!(cluster.world.begun(&id), 1);
        cluster.check().await;
    });
}

/// The end of a job.
#[test]
fn job_that_ended_meanwhile_is_over_with_its_actors() {
    run(async |cluster| {
        cluster.with_nodes(&[1, 1]).await;
        let (driver, other) = (cluster.driver(Host(1)).await, cluster.driver(Host(2)).await);
        let plan = ActorPlan {
            max_restarts: -1,
            ..ActorPlan::default()
        };
        let actor = driver.create(&plan).await.unwrap();
        let id = actor.to_wire();
        until_begun(cluster, &id, 1).await;
        cluster.disk.set_full(true);
        driver.crash();
        pass(5).await;
        next_head(cluster).await;
        assert_eq!(state(&other, actor).await.0, ActorState::Dead);
        assert_eq!(cluster.world.hosts_of(&id), []);
        cluster.check().await;
    });
}
