use aktis_common::resources::CPU;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::*;
use aktis_raylet::RayletHandle;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::process::Process;
use crate::sandbox::{Sandbox, driver, eventually, is_running};

/// Two nodes that know each other, and a driver on the first.
pub async fn pair(sandbox: &Sandbox, cpus: i64) -> (RayletHandle, RayletHandle, Process) {
    let (near, far) = (sandbox.node(cpus).await, sandbox.node(cpus).await);
    let mut driver = driver(&near).await;
    loop {
        match driver.ask(Kind::ClusterQuery(ClusterQuery {})).await {
            Kind::ClusterReply(reply) if reply.nodes.len() == 2 => break,
            Kind::ClusterReply(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            other => panic!("{other:?}"),
        }
    }
    (near, far, driver)
}

/// Free CPUs of the cluster as a driver's raylet knows them, in units.
async fn sees_free_cpus(driver: &mut Process) -> i64 {
    match driver.ask(Kind::ClusterQuery(ClusterQuery {})).await {
        Kind::ClusterReply(reply) => {
            let free = |node: &NodeInfo| node.available.clone()?.quantities.get(CPU).copied();
            reply.nodes.iter().filter_map(free).sum()
        }
        other => panic!("{other:?}"),
    }
}

pub fn node_of(grant: &LeaseGrant) -> aktis_common::ids::NodeId {
    grant.worker.as_ref().unwrap().node().unwrap()
}

#[tokio::test]
async fn full_node_lends_workers_of_another_one() {
    let sandbox = Sandbox::new().await;
    let (near, far, mut driver) = pair(&sandbox, 1).await;
    let first = driver.lease(&[(CPU, 1.0)]).await;
    let second = driver.lease(&[(CPU, 1.0)]).await;
    let mut nodes = [node_of(&first), node_of(&second)];
    nodes.sort();
    let mut all = [near.node_id(), far.node_id()];
    all.sort();
    assert_eq!(nodes, all);
    let waiting = driver.request_lease(&[(CPU, 1.0)]).await;
    let remote = if node_of(&first) == far.node_id() {
        &first
    } else {
        &second
    };
    driver.return_lease(remote).await;
    assert_eq!(node_of(&driver.grant(waiting).await), far.node_id());
    far.shutdown().await;
    near.shutdown().await;
}

#[tokio::test]
async fn leases_elsewhere_end_with_their_owner() {
    let sandbox = Sandbox::new().await;
    let (near, far, mut driver) = pair(&sandbox, 1).await;
    let grants = [
        driver.lease(&[(CPU, 1.0)]).await,
        driver.lease(&[(CPU, 1.0)]).await,
    ];
    drop(driver);
    for grant in &grants {
        eventually("the leased worker ends", || !is_running(grant.pid)).await;
    }
    far.shutdown().await;
    near.shutdown().await;
}

#[tokio::test]
async fn lease_elsewhere_is_asked_back_when_others_wait_there() {
    let sandbox = Sandbox::new().await;
    let (near, far, mut holder) = pair(&sandbox, 1).await;
    let grants = [
        holder.lease(&[(CPU, 1.0)]).await,
        holder.lease(&[(CPU, 1.0)]).await,
    ];
    let remote = grants
        .iter()
        .find(|grant| node_of(grant) == far.node_id())
        .unwrap();
    let mut other = driver(&far).await;
    while sees_free_cpus(&mut other).await > 0 {}
    let waiting = other.request_lease(&[(CPU, 1.0)]).await;
    let far_id = far.node_id().to_wire();
    let is_for_remote =
        |kind: &Kind| matches!(kind, Kind::LeaseReclaim(reclaim) if reclaim.node_id == far_id);
    match holder.event(is_for_remote).await {
        Kind::LeaseReclaim(reclaim) => assert_eq!(reclaim.lease_id, remote.lease_id),
        other => panic!("{other:?}"),
    }
    holder.return_lease(remote).await;
    other.grant(waiting).await;
    far.shutdown().await;
    near.shutdown().await;
}

#[tokio::test]
async fn object_is_copied_from_another_node_once_for_all_readers() {
    let sandbox = Sandbox::new().await;
    let (near, far, mut reader) = pair(&sandbox, 1).await;
    let mut writer = driver(&far).await;
    let bytes: Vec<u8> = (0..5_000_000u32)
        .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
        .collect();
    let object = writer.put(&bytes).await;
    let first = reader.request_object(object, &[far.node_id()]).await;
    let second = reader.request_object(object, &[far.node_id()]).await;
    assert!(reader.object(first).await.unwrap() == bytes);
    assert!(reader.object(second).await.unwrap() == bytes);
    let empty = writer.put(b"").await;
    let request = reader.request_object(empty, &[far.node_id()]).await;
    assert_eq!(reader.object(request).await.unwrap(), b"");
    far.shutdown().await;
    near.shutdown().await;
}

#[tokio::test]
async fn object_that_no_source_has_is_lost_and_the_sources_are_named() {
    let sandbox = Sandbox::new().await;
    let (near, far, mut reader) = pair(&sandbox, 1).await;
    let object = aktis_common::ids::ObjectId::for_put();
    let nobody = aktis_common::ids::NodeId::random();
    let request = reader
        .request_object(object, &[nobody, far.node_id()])
        .await;
    match reader.object(request).await {
        Err(store_get_reply::Outcome::Lost(lost)) => {
            assert_eq!(
                lost.tried_nodes,
                [nobody.to_wire(), far.node_id().to_wire()]
            );
        }
        other => panic!("{other:?}"),
    }
    far.shutdown().await;
    near.shutdown().await;
}

#[tokio::test]
async fn freeing_reaches_the_nodes_that_hold_copies() {
    let sandbox = Sandbox::new().await;
    let (near, far, mut owner) = pair(&sandbox, 1).await;
    let mut writer = driver(&far).await;
    let object = writer.put(b"bytes").await;
    let node_ids = vec![far.node_id().to_wire()];
    let free = StoreFree {
        object_ids: vec![object.to_wire()],
        node_ids,
    };
    owner.ask(Kind::StoreFree(free)).await;
    loop {
        let request = writer.request_object(object, &[far.node_id()]).await;
        if writer.object(request).await.is_err() {
            break;
        }
        let release = StoreRelease {
            object_id: object.to_wire(),
        };
        writer.ask(Kind::StoreRelease(release)).await;
    }
    far.shutdown().await;
    near.shutdown().await;
}

/// Opens a lane to a worker through the proxy of the driver's node.
async fn open_lane(driver: &Process, callee: &Address) -> UnixStream {
    let mut lane = UnixStream::connect(&driver.hello.lane_proxy_path)
        .await
        .unwrap();
    let route = LaneRoute {
        callee: Some(callee.clone()),
    }
    .encode_to_vec();
    let length = u32::try_from(route.len()).unwrap();
    lane.write_all(&(length + 4).to_le_bytes()).await.unwrap();
    lane.write_all(&length.to_le_bytes()).await.unwrap();
    lane.write_all(&route).await.unwrap();
    lane
}

#[tokio::test]
async fn lane_carries_bytes_to_both_nodes_and_ends_with_the_worker() {
    let sandbox = Sandbox::new().await;
    let (near, far, mut driver) = pair(&sandbox, 1).await;
    let grants = [
        driver.lease(&[(CPU, 1.0)]).await,
        driver.lease(&[(CPU, 1.0)]).await,
    ];
    for grant in &grants {
        let mut lane = open_lane(&driver, grant.worker.as_ref().unwrap()).await;
        for message in [&b"hello"[..], &[9; 300_000]] {
            lane.write_all(message).await.unwrap();
            let mut echo = vec![0; message.len()];
            lane.read_exact(&mut echo).await.unwrap();
            assert!(echo == message);
        }
        lane.write_all(b"exit").await.unwrap();
        let mut rest = Vec::new();
        lane.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        eventually("the worker ends", || !is_running(grant.pid)).await;
    }
    far.shutdown().await;
    near.shutdown().await;
}

#[tokio::test]
async fn end_of_a_node_is_told_to_the_processes_of_others() {
    let sandbox = Sandbox::new().await;
    let (near, far, mut driver) = pair(&sandbox, 1).await;
    let id = far.node_id().to_wire();
    far.shutdown().await;
    match driver.event(|kind| matches!(kind, Kind::NodeDied(_))).await {
        Kind::NodeDied(died) => assert_eq!(died.node_id, id),
        other => panic!("{other:?}"),
    }
    near.shutdown().await;
}
