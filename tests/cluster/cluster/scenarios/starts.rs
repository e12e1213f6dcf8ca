//! Actors whose raylet is asked to start them, and does not answer.

use std::time::Duration;

use aktis_proto::v1::ActorState;

use crate::sandbox::cluster::HEAD;
use crate::sandbox::{ActorPlan, Host, pass, run};

/// The raylet has begun; the head does not hear it, and has another node with room.
#[test]
fn start_whose_answer_is_lost_is_not_begun_again() {
    run(async |cluster| {
        cluster.with_nodes(&[1, 1]).await;
        let (here, there) = (cluster.driver(Host(1)).await, cluster.driver(Host(2)).await);
        // Only the other node has room, until the start is under way.
        let grant = here.lease(&[("CPU", 1.0)]).await;
        pass(2).await;
        let net = cluster.net.clone();
        let lost = tokio::spawn(async move {
            net.lose_answers(HEAD, Host(2), Duration::from_secs(2))
                .await;
        });
        let actor = here.create(&ActorPlan::default()).await.unwrap();
        let id = actor.to_wire();
        cluster
            .until("it is begun", 10, async |cluster| {
                cluster.world.begun(&id) == 1
            })
            .await;
        here.return_lease(&grant).await;
        lost.await.unwrap();
        pass(60).await;
        let update = there.actor(actor).await.unwrap();
        assert_eq!((update.state(), update.restarts), (ActorState::Alive, 0));
        assert_eq!(cluster.world.begun(&id), 1, "its constructor ran once");
        cluster.check().await;
    });
}

/// The head reaches its node no more: the actor does not wait for ever, lives once, and that costs at most the one fault.
#[test]
fn node_that_hears_nothing_does_not_keep_an_actor_waiting() {
    run(async |cluster| {
        cluster.with_nodes(&[1, 1]).await;
        let driver = cluster.driver(Host(1)).await;
        let grant = driver.lease(&[("CPU", 1.0)]).await;
        pass(2).await;
        cluster.net.cut_towards(HEAD, Host(2));
        let plan = ActorPlan {
            max_restarts: 1,
            ..ActorPlan::default()
        };
        let actor = driver.create(&plan).await.unwrap();
        driver.return_lease(&grant).await;
        cluster
            .until("it lives", 300, async |_| {
                let update = driver.actor(actor).await.unwrap();
                update.state() == ActorState::Alive
            })
            .await;
        cluster.net.heal_all();
        pass(60).await;
        let update = driver.actor(actor).await.unwrap();
        assert_eq!(update.state(), ActorState::Alive);
        assert_eq!(cluster.world.hosts_of(&actor.to_wire()).len(), 1);
        cluster.check().await;
    });
}
