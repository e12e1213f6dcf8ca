//! The gcs over real sockets, with raylets that only pretend.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, JobId, NodeId, WorkerId};
use aktis_gcs::{Gcs, GcsConfig, StorageKind};
use aktis_proto::convert::failure;
use aktis_proto::transport::{Address, Security};
use aktis_proto::v1::{
    ActorOptions, ActorState, AddJobRequest, Empty, FinishJobRequest, GetActorRequest,
    KillActorRequest, KvGetRequest, KvKeysRequest, KvPutRequest, ReportWorkerDeathRequest,
    SubscribeRequest, WorkerDied, publication::Kind,
};
use support::{FakeRaylet, Head, creation, eventually};

#[tokio::test]
async fn actor_is_started_on_a_raylet_and_everybody_hears_of_it() {
    let head = Head::start().await;
    let raylet = FakeRaylet::join(&head, 4).await;
    let mut gcs = head.client();
    let mut news = gcs
        .subscribe(SubscribeRequest::default())
        .await
        .unwrap()
        .into_inner();

    let actor = ActorId::random();
    let request = creation(actor, JobId::random(), ActorOptions::default(), 1);
    gcs.create_actor(request).await.unwrap();
    let alive = loop {
        let message = news
            .message()
            .await
            .unwrap()
            .expect("the subscription goes on");
        if let Some(Kind::Actor(update)) = message.kind
            && update.state() == ActorState::Alive
        {
            break update;
        }
    };
    assert_eq!(alive.actor_id, actor.to_wire());
    assert_eq!(alive.address.unwrap().node_id, raylet.node().to_wire());
    assert_eq!(raylet.started(), [actor]);
    head.stop().await;
}

#[tokio::test]
async fn subscription_begins_with_the_nodes() {
    let head = Head::start().await;
    let raylet = FakeRaylet::join(&head, 4).await;
    let request = SubscribeRequest::default();
    let mut news = head.client().subscribe(request).await.unwrap().into_inner();
    let Some(Kind::Node(node)) = news.message().await.unwrap().unwrap().kind else {
        panic!("the snapshot comes first")
    };
    assert_eq!(node.node_id, raylet.node().to_wire());
    head.stop().await;
}

#[tokio::test]
async fn infeasible_actor_is_reported_within_a_second() {
    let head = Head::start().await;
    let _raylet = FakeRaylet::join(&head, 2).await;
    let mut gcs = head.client();
    let actor = ActorId::random();
    let request = creation(actor, JobId::random(), ActorOptions::default(), 64);
    gcs.create_actor(request).await.unwrap();
    let request = GetActorRequest {
        actor_id: actor.to_wire(),
        ..Default::default()
    };
    let update = gcs.get_actor(request).await.unwrap().into_inner();
    let failure = update.failure.expect("it says why");
    assert_eq!(failure.error_code(), ErrorCode::Unschedulable);
    assert_eq!(
        failure.message,
        r#"infeasible: needs {"CPU": 64}, but the largest node has {"CPU": 2}"#
    );
    head.stop().await;
}

#[tokio::test]
async fn dead_worker_leads_to_a_restart_and_a_kill_reaches_the_raylet() {
    let head = Head::start().await;
    let raylet = FakeRaylet::join(&head, 4).await;
    let mut gcs = head.client();
    let actor = ActorId::random();
    let options = ActorOptions {
        max_restarts: -1,
        ..Default::default()
    };
    gcs.create_actor(creation(actor, JobId::random(), options, 1))
        .await
        .unwrap();
    let first = head.until_alive(actor, 0).await;
    let death = WorkerDied {
        worker: first.address,
        cause: "died".to_owned(),
        ..WorkerDied::default()
    };
    let report = ReportWorkerDeathRequest {
        death: Some(death),
        actor_id: actor.to_wire(),
        ..Default::default()
    };
    gcs.report_worker_death(report).await.unwrap();
    let second = head.until_alive(actor, 1).await;
    let request = KillActorRequest {
        actor_id: actor.to_wire(),
        no_restart: true,
        ..Default::default()
    };
    gcs.kill_actor(request).await.unwrap();
    let worker = WorkerId::from_bytes(&second.address.unwrap().worker_id).unwrap();
    eventually("the raylet is asked to kill", || {
        raylet.killed() == [worker]
    })
    .await;
    head.stop().await;
}

#[tokio::test]
async fn refusals_carry_their_error_code() {
    let head = Head::start().await;
    let mut gcs = head.client();
    let request = GetActorRequest {
        name: "nobody".to_owned(),
        ..Default::default()
    };
    let status = gcs.get_actor(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert_eq!(failure(&status).error_code(), ErrorCode::NotFound);
    head.stop().await;
}

#[tokio::test]
async fn keys_and_values_are_shared() {
    let head = Head::start().await;
    let mut gcs = head.client();
    let put = |key: &'static str, value: &'static str, overwrite: bool| KvPutRequest {
        key: key.into(),
        value: value.into(),
        overwrite,
        ..Default::default()
    };
    assert!(
        gcs.kv_put(put("f:1", "a", false))
            .await
            .unwrap()
            .into_inner()
            .is_added
    );
    assert!(
        !gcs.kv_put(put("f:1", "b", false))
            .await
            .unwrap()
            .into_inner()
            .is_added
    );
    gcs.kv_put(put("f:2", "c", true)).await.unwrap();
    gcs.kv_put(put("g", "d", true)).await.unwrap();
    let key = KvGetRequest { key: "f:1".into() };
    let value = gcs.kv_get(key.clone()).await.unwrap().into_inner().value;
    assert_eq!(value, Some("a".into()));
    let keys = gcs
        .kv_keys(KvKeysRequest {
            prefix: "f:".into(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(keys.keys, ["f:1", "f:2"]);
    gcs.kv_delete(key.clone()).await.unwrap();
    assert_eq!(gcs.kv_get(key).await.unwrap().into_inner().value, None);
    head.stop().await;
}

#[tokio::test]
async fn node_whose_connection_closes_is_declared_dead() {
    let head = Head::start().await;
    let raylet = FakeRaylet::join(&head, 4).await;
    let node = raylet.node();
    let request = SubscribeRequest {
        node_id: node.to_wire(),
    };
    let subscription = head.client().subscribe(request).await.unwrap();
    drop(subscription);
    let is_dead = async || {
        let nodes = head
            .client()
            .list_nodes(Empty {})
            .await
            .unwrap()
            .into_inner()
            .nodes;
        nodes.iter().all(|info| !info.is_alive)
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !is_dead().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "it should be declared dead"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    head.stop().await;
}

#[tokio::test]
async fn restarted_head_takes_up_its_file_and_its_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let storage = StorageKind::File(folder.path().join("gcs.redb"));
    let head = Head::start_at(folder.path(), storage.clone()).await;
    let raylet = FakeRaylet::join(&head, 4).await;
    let job = JobId::random();
    let request = AddJobRequest {
        job_id: job.to_wire(),
        ..Default::default()
    };
    head.client().add_job(request).await.unwrap();
    let actor = ActorId::random();
    let options = ActorOptions {
        name: "keeper".to_owned(),
        ..Default::default()
    };
    head.client()
        .create_actor(creation(actor, job, options, 1))
        .await
        .unwrap();
    let before = head.until_alive(actor, 0).await;
    head.stop().await;

    let head = Head::start_at(folder.path(), storage).await;
    assert_eq!(head.until_alive(actor, 0).await.address, before.address);
    assert!(
        raylet.report(&head).await,
        "the node is to register: before that it says what the last head may have owed"
    );
    let jobs = head
        .client()
        .list_jobs(Empty {})
        .await
        .unwrap()
        .into_inner()
        .jobs;
    assert!(jobs[0].is_running);
    let request = FinishJobRequest {
        job_id: job.to_wire(),
        cause: String::new(),
    };
    head.client().finish_job(request).await.unwrap();
    let status = head
        .client()
        .cluster_status(Empty {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        status.actors[0].state(),
        ActorState::Dead,
        "it belonged to the job"
    );
    assert!(status.storage.starts_with("file "));
    head.stop().await;
}

/// Every pod of a cluster asks for it every few seconds.
#[tokio::test]
async fn answer_of_health_does_not_grow_with_what_the_cluster_holds() {
    let head = Head::start().await;
    let health = async || {
        let reply = head.client().health(Empty {}).await.unwrap();
        reply.into_inner()
    };
    let before = health().await;
    assert!(!before.session_id.is_empty());
    let _raylets = [
        FakeRaylet::join(&head, 4).await,
        FakeRaylet::join(&head, 4).await,
    ];
    for number in 0..20u8 {
        let job = JobId::random();
        let request = AddJobRequest {
            job_id: job.to_wire(),
            ..Default::default()
        };
        head.client().add_job(request).await.unwrap();
        let actor = creation(ActorId::random(), job, ActorOptions::default(), 1);
        head.client().create_actor(actor).await.unwrap();
        let put = KvPutRequest {
            key: vec![number].into(),
            value: vec![0; 1000].into(),
            ..Default::default()
        };
        head.client().kv_put(put).await.unwrap();
    }
    assert_eq!(health().await, before);
    head.stop().await;
}

#[tokio::test]
async fn call_without_the_token_is_refused() {
    let security = Security {
        token: Some(aktis_common::config::Secret::new("right")),
        tls: None,
    };
    let address: Address = "127.0.0.1:0".parse().unwrap();
    let mut config = GcsConfig::new("s", vec![address]);
    config.security = security.clone();
    let gcs = Gcs::start(config).await.unwrap();
    let ask = async |security: Security| {
        let channel = aktis_proto::transport::connect(gcs.address(), &security)
            .await
            .unwrap();
        aktis_proto::transport::gcs_client(channel)
            .list_nodes(Empty {})
            .await
    };
    assert!(ask(security).await.is_ok());
    let status = ask(Security::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "NET-2");
    assert!(
        status.message().contains("AKTIS_TOKEN"),
        "{}",
        status.message()
    );
    gcs.shutdown().await;
}

#[tokio::test]
async fn taken_port_and_open_address_are_refused_with_a_way_out() {
    let first = Gcs::start(GcsConfig::new("a", vec!["127.0.0.1:0".parse().unwrap()]))
        .await
        .unwrap();
    let taken = GcsConfig::new("b", vec![first.address().clone()]);
    let error = Gcs::start(taken).await.unwrap_err().to_string();
    assert!(
        error.contains("is in use; stop what listens there"),
        "{error}"
    );
    let open = GcsConfig::new("c", vec!["0.0.0.0:0".parse().unwrap()]);
    let error = Gcs::start(open).await.unwrap_err().to_string();
    assert!(error.contains("needs a token and TLS"), "NET-1: {error}");
    first.shutdown().await;
}

#[tokio::test]
async fn unknown_node_must_register() {
    let head = Head::start().await;
    let raylet = FakeRaylet::join(&head, 1).await;
    let other = raylet.pretending_to_be(NodeId::random());
    assert!(other.report(&head).await);
    head.stop().await;
}
