//! Objects that are made, read and sent while readers hold all of a node's store.

use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::ObjectId;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::*;
use aktis_raylet::RayletHandle;

use crate::process::{DEADLINE, Process};
use crate::sandbox::{Sandbox, client, driver, eventually};
use crate::two_nodes::pair;

/// A store of the sandbox has 16.
const MIB: usize = 1 << 20;

fn bytes_of(first: u8, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 1000) as u8 ^ first).collect()
}

/// Puts an object that fills most of the store, and reads it without end.
async fn hold_store(process: &mut Process) -> ObjectId {
    let held = process.put(&bytes_of(1, 12 * MIB)).await;
    let request = process.request_object(held, &[]).await;
    process.object(request).await.unwrap();
    held
}

async fn figures(node: &RayletHandle) -> (u64, u64) {
    let status = client(node).node_status(RayletEmpty {}).await;
    let info = status.unwrap().into_inner();
    (info.store_used_bytes, info.store_disk_bytes)
}

#[tokio::test]
async fn object_is_made_in_a_file_which_goes_with_the_processes_that_hold_it() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let (mut holder, mut other) = (driver(&node).await, driver(&node).await);
    hold_store(&mut holder).await;
    let bytes = bytes_of(2, 8 * MIB);
    let object = other.put(&bytes).await;
    let request = other.request_object(object, &[]).await;
    let (path, read) = other.object_in_file(request).await;
    assert!(read == bytes);
    assert_eq!(figures(&node).await.1, 8 * MIB as u64);
    // It is not finished, and never will be.
    let unfinished = other.create(ObjectId::for_put(), 9 * MIB as u64).await;
    assert!(!unfinished.file.is_empty());
    drop((holder, other));
    eventually("the files are gone", || {
        !path.exists() && !std::path::Path::new(&unfinished.file).exists()
    })
    .await;
    // The store hears of the two ends one after the other, in whichever order.
    let deadline = Instant::now() + DEADLINE;
    while figures(&node).await != (0, 0) {
        assert!(Instant::now() < deadline, "the store is empty in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.shutdown().await;
}

#[tokio::test]
async fn object_in_a_file_is_sent_into_a_file_of_another_node() {
    let sandbox = Sandbox::new().await;
    let (near, far, mut reader) = pair(&sandbox, 1).await;
    let mut writer = driver(&far).await;
    hold_store(&mut writer).await;
    let bytes = bytes_of(3, 9 * MIB + 1);
    let object = writer.put(&bytes).await;
    let first = reader.request_object(object, &[far.node_id()]).await;
    assert!(reader.object(first).await.unwrap() == bytes, "into memory");
    let second = writer.put(&bytes_of(4, 9 * MIB)).await;
    let request = reader.request_object(second, &[far.node_id()]).await;
    let (path, read) = reader.object_in_file(request).await;
    assert!(read == bytes_of(4, 9 * MIB), "where the first one is held");
    assert!(path.starts_with(sandbox.folder.path()));
    assert_eq!(figures(&near).await.1, 9 * MIB as u64);
    drop((reader, writer));
    far.shutdown().await;
    near.shutdown().await;
}

/// Its file is away for a while, as where a node has too many open.
#[tokio::test]
async fn object_that_its_node_cannot_read_now_is_asked_for_again_and_is_not_lost() {
    let sandbox = Sandbox::new().await;
    let (near, far, mut reader) = pair(&sandbox, 1).await;
    let mut writer = driver(&far).await;
    hold_store(&mut writer).await;
    let bytes = bytes_of(3, 9 * MIB);
    let object = writer.put(&bytes).await;
    let request = writer.request_object(object, &[]).await;
    let (path, _) = writer.object_in_file(request).await;
    let release = StoreRelease {
        object_id: object.to_wire(),
    };
    writer.ask(Kind::StoreRelease(release)).await;
    let away = path.with_extension("away");
    std::fs::rename(&path, &away).unwrap();
    let first = reader.request_object(object, &[far.node_id()]).await;
    match reader.object(first).await {
        Err(store_get_reply::Outcome::Failure(failure)) => {
            assert_eq!(failure.error_code(), ErrorCode::ObjectUnreadable);
            let name = path.file_name().unwrap().to_str().unwrap();
            let far = far.node_id().to_string();
            let says = |what: &str| failure.message.contains(what);
            assert!(says(name) && says(&far), "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
    let second = reader.request_object(object, &[far.node_id()]).await;
    // It has been refused by now, or soon is.
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::rename(&away, &path).unwrap();
    assert!(reader.object(second).await.unwrap() == bytes);
    drop((reader, writer));
    far.shutdown().await;
    near.shutdown().await;
}
