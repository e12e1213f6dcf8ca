//! The head is away, restarts, or has given the node up: nothing that it must hear is lost, and nothing stays that nobody wants.

use aktis_common::error::ErrorCode;
use aktis_common::ids::ActorId;
use aktis_common::resources::CPU;
use aktis_proto::convert::status;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::*;
use prost::Message;
use tonic::Status;

use crate::sandbox::{Sandbox, driver, eventually, is_running};
use crate::two_nodes::{node_of, pair};

/// How calls end that were under way when the head went down, as the transport happens to see it; and what a head says that goes
/// down in good order.
fn broken() -> Vec<Status> {
    vec![
        Status::unknown("transport error"),
        Status::cancelled("operation was canceled"),
        Status::internal("h2 protocol error: error reading a body from connection"),
        Status::unavailable("tcp connect error"),
        status(ErrorCode::NotConnected, "the gcs is going down"),
    ]
}

#[tokio::test]
async fn death_is_told_until_the_head_has_heard_it() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    memory.lock().failures = broken();
    let grant = driver.lease(&[(CPU, 1.0)]).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(grant.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("the head hears of the death", || {
        !memory.lock().deaths.is_empty()
    })
    .await;
    assert!(memory.lock().failures.is_empty());
    node.shutdown().await;
}

#[tokio::test]
async fn refused_report_does_not_hold_up_the_next_one() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    memory.lock().failures = vec![status(ErrorCode::InvalidArgument, "nonsense")];
    drop(driver(&node).await);
    drop(driver(&node).await);
    eventually("the head hears of the second driver", || {
        !memory.lock().deaths.is_empty()
    })
    .await;
    node.shutdown().await;
}

#[tokio::test]
async fn calls_under_way_when_the_head_goes_down_are_sent_again() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    memory.lock().failures = broken();
    let put = KvPutRequest {
        key: "k".into(),
        value: "v".into(),
        overwrite: true,
        ..KvPutRequest::default()
    };
    let call = GcsCall {
        method: "KvPut".to_owned(),
        body: put.encode_to_vec().into(),
    };
    match driver.ask(Kind::GcsCall(call)).await {
        Kind::GcsReply(reply) => assert!(KvPutReply::decode(reply.body).unwrap().is_added),
        other => panic!("{other:?}"),
    }
    node.shutdown().await;
}

#[tokio::test]
async fn actor_is_not_taken_for_dead_while_the_head_is_away() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    let actor_id = ActorId::random().to_wire();
    let mut pending = ActorUpdate {
        actor_id: actor_id.clone(),
        ..ActorUpdate::default()
    };
    pending.set_state(ActorState::Pending);
    memory.lock().actors.insert(actor_id.clone(), pending);
    memory.lock().failures = broken();
    driver.ask(Kind::WatchActor(WatchActor { actor_id })).await;
    match driver
        .event(|kind| matches!(kind, Kind::ActorUpdate(_)))
        .await
    {
        Kind::ActorUpdate(update) => assert_eq!(update.state(), ActorState::Pending),
        other => panic!("{other:?}"),
    }
    node.shutdown().await;
}

#[tokio::test]
async fn node_that_was_cut_off_frees_what_its_owners_gave_up() {
    let sandbox = Sandbox::new().await;
    let (near, far, mut driver) = pair(&sandbox, 1).await;
    let grants = [
        driver.lease(&[(CPU, 1.0)]).await,
        driver.lease(&[(CPU, 1.0)]).await,
    ];
    let at = |node| grants.iter().find(|grant| node_of(grant) == node).unwrap();
    let (here, there) = (at(near.node_id()), at(far.node_id()));
    let memory = sandbox.gcs.gcs.memory.clone();
    let id = far.node_id().to_wire();
    let generation = memory.lock().nodes[&id].generation;
    memory.lock().given_up.insert(id.clone(), generation);
    memory.lock().nodes.remove(&id);
    eventually("the worker of the cut-off node ends", || {
        !is_running(there.pid)
    })
    .await;
    assert!(is_running(here.pid));
    far.shutdown().await;
    near.shutdown().await;
}
