//! The sandbox does what the scenarios take for granted.

use std::time::Duration;

use aktis_proto::v1::ActorState;

use crate::sandbox::run::log_of;
use crate::sandbox::{ActorPlan, Host, pass, run};

#[test]
fn actor_lives_on_a_node_and_a_killed_one_begins_anew() {
    run(async |cluster| {
        cluster.with_nodes(&[2, 2]).await;
        let driver = cluster.driver(Host(1)).await;
        let plan = ActorPlan {
            max_restarts: 2,
            ..ActorPlan::default()
        };
        let actor = driver.create(&plan).await.unwrap();
        let id = actor.to_wire();
        cluster
            .until("it runs", 10, async |cluster| {
                cluster.world.hosts_of(&id).len() == 1
            })
            .await;
        cluster.world.kill(cluster.world.hosts_of(&id)[0].pid);
        cluster
            .until("it runs again", 30, async |_| {
                driver.heard_of(actor).contains(&(ActorState::Alive, 1))
            })
            .await;
        assert_eq!(cluster.world.begun(&id), 2);
        driver.check_news_of(actor);
        cluster.check().await;
    });
}

#[test]
fn same_seed_does_the_same() {
    let test = "random_faults::cluster_finds_its_way_after_any_faults";
    let first = log_of(test, 7);
    assert!(first.len() > 10, "{first:?}");
    assert_eq!(first, log_of(test, 7));
    assert_ne!(first, log_of(test, 8), "the seed decides");
}

#[test]
fn time_passes_without_waiting_for_it() {
    run(async |cluster| {
        cluster.with_nodes(&[1]).await;
        let began = std::time::Instant::now();
        pass(600).await;
        assert!(
            began.elapsed() >= Duration::from_secs(600),
            "the daemons' clock is the run's"
        );
        cluster.check().await;
    });
}

#[test]
fn cut_node_is_declared_dead_and_counts_again_when_it_is_back() {
    run(async |cluster| {
        cluster.with_nodes(&[1, 1]).await;
        let node = cluster.node(Host(2)).id;
        cluster.net.cut(Host(0), Host(2));
        cluster
            .until("the head gives it up", 30, async |cluster| {
                !cluster.is_alive(node).await
            })
            .await;
        cluster.net.heal(Host(0), Host(2));
        cluster
            .until("it is back", 60, async |cluster| {
                cluster.is_alive(node).await
            })
            .await;
        cluster.check().await;
    });
}

#[test]
fn lease_of_another_node_comes_and_goes_back() {
    run(async |cluster| {
        cluster.with_nodes(&[1, 3]).await;
        let driver = cluster.driver(Host(1)).await;
        pass(2).await;
        let grant = driver.lease(&[("CPU", 3.0)]).await;
        assert_eq!(
            grant.worker.as_ref().unwrap().node().unwrap(),
            cluster.node(Host(2)).id
        );
        assert_eq!(cluster.free_of(Host(2), "CPU").await, (0.0, 3.0));
        driver.return_lease(&grant).await;
        pass(2).await;
        cluster.check().await;
    });
}

#[test]
fn call_whose_answer_is_lost_arrives_all_the_same() {
    run(async |cluster| {
        cluster.with_nodes(&[1]).await;
        let driver = cluster.driver(Host(1)).await;
        let net = cluster.net.clone();
        let lost = tokio::spawn(async move {
            net.lose_answers(Host(1), Host(0), Duration::from_secs(1))
                .await
        });
        let keep = driver.link.clone();
        let request = aktis_proto::v1::KvPutRequest {
            key: "k".into(),
            value: "v".into(),
            overwrite: true,
            ..Default::default()
        };
        let call = tokio::spawn(async move {
            let _: Result<aktis_proto::v1::KvPutReply, _> = keep.call_gcs("KvPut", &request).await;
        });
        lost.await.unwrap();
        call.await.unwrap();
        assert_eq!(driver.kept("k").await.unwrap().as_deref(), Some("v"));
    });
}
