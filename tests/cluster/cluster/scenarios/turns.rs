//! Who waits has a turn, however busily others use a node (ADR 093).

use std::time::Duration;

use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{ActorState, LeaseReply, lease_reply};
use tokio::task::JoinHandle;

use crate::sandbox::{ActorPlan, Cluster, Host, run};

/// Two drivers of the node take turns in using so many of its CPUs: one of them waits at any time.
async fn keep_busy(cluster: &Cluster, host: Host, cpus: f64) -> Vec<JoinHandle<()>> {
    let mut loops = Vec::new();
    for _ in 0..2 {
        let driver = cluster.driver(host).await;
        loops.push(tokio::spawn(async move {
            loop {
                let grant = driver.lease(&[("CPU", cpus)]).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                driver.return_lease(&grant).await;
            }
        }));
    }
    loops
}

#[test]
fn actor_begins_on_a_node_that_tasks_keep_full() {
    run(async |cluster| {
        cluster.with_nodes(&[1]).await;
        let loops = keep_busy(cluster, Host(1), 1.0).await;
        let driver = cluster.driver(Host(1)).await;
        let actor = driver.create(&ActorPlan::default()).await.unwrap();
        cluster
            .until("it has its turn", 60, async |_| {
                driver.actor(actor).await.unwrap().state() == ActorState::Alive
            })
            .await;
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
        let Ok(Ok(Kind::LeaseReply(LeaseReply {
            outcome: Some(lease_reply::Outcome::Grant(grant)),
        }))) = answer
        else {
            panic!("it has its turn: {answer:?}");
        };
        driver.return_lease(&grant).await;
        loops.iter().for_each(JoinHandle::abort);
        cluster.check().await;
    });
}
