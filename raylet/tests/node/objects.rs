use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::ObjectId;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::*;
use bytes::Bytes;

use crate::process::DEADLINE;
use crate::sandbox::{Sandbox, client, driver, eventually};

#[tokio::test]
async fn object_of_one_process_is_read_by_another() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let (mut writer, mut reader) = (driver(&node).await, driver(&node).await);
    let object = writer.put(b"some bytes").await;
    let request = reader.request_object(object, &[node.node_id()]).await;
    assert_eq!(reader.object(request).await.unwrap(), b"some bytes");
    node.shutdown().await;
}

#[tokio::test]
async fn empty_object_is_an_object() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let object = driver.put(b"").await;
    let request = driver.request_object(object, &[node.node_id()]).await;
    assert_eq!(driver.object(request).await.unwrap(), b"");
    node.shutdown().await;
}

#[tokio::test]
async fn reader_waits_for_an_object_that_is_being_made() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let (mut writer, mut reader) = (driver(&node).await, driver(&node).await);
    let object = ObjectId::for_put();
    let create = StoreCreate {
        object_id: object.to_wire(),
        size_bytes: 3,
        owner: Some(writer.address()),
    };
    let Kind::StoreCreateReply(created) = writer.ask(Kind::StoreCreate(create.clone())).await
    else {
        panic!("there is room");
    };
    let request = reader.request_object(object, &[node.node_id()]).await;
    writer.write(&created, b"abc");
    writer
        .ask(Kind::StoreSeal(StoreSeal {
            object_id: object.to_wire(),
        }))
        .await;
    assert_eq!(reader.object(request).await.unwrap(), b"abc");
    let Kind::StoreCreateReply(again) = writer.ask(Kind::StoreCreate(create)).await else {
        panic!("a second create is answered");
    };
    assert!(again.already_exists);
    node.shutdown().await;
}

#[tokio::test]
async fn reader_of_an_object_whose_writer_dies_learns_that_it_is_lost() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let (mut writer, mut reader) = (driver(&node).await, driver(&node).await);
    let object = ObjectId::for_put();
    let owner = Some(reader.address());
    let create = StoreCreate {
        object_id: object.to_wire(),
        size_bytes: 3,
        owner,
    };
    writer.ask(Kind::StoreCreate(create)).await;
    let request = reader.request_object(object, &[node.node_id()]).await;
    drop(writer);
    let outcome = reader.object(request).await.unwrap_err();
    assert!(
        matches!(outcome, store_get_reply::Outcome::Lost(_)),
        "{outcome:?}"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn get_that_is_given_up_is_answered_once_and_the_object_is_not_held() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let (mut writer, mut reader) = (driver(&node).await, driver(&node).await);
    let object = ObjectId::for_put();
    writer.create(object, 3).await;
    let request_id = reader.request_object(object, &[node.node_id()]).await;
    reader
        .send(Kind::StoreGetCancel(StoreGetCancel { request_id }))
        .await;
    match reader.object(request_id).await {
        Err(store_get_reply::Outcome::Failure(failure)) => {
            assert_eq!(failure.error_code(), ErrorCode::Cancelled);
        }
        other => panic!("{other:?}"),
    }
    // What is answered and then cancelled has no second answer.
    let object = writer.put(b"abc").await;
    let read = reader.request_object(object, &[node.node_id()]).await;
    assert_eq!(reader.object(read).await.unwrap(), b"abc");
    let cancel = StoreGetCancel { request_id: read };
    reader.ask(Kind::StoreGetCancel(cancel)).await;
    let again = reader.request_object(object, &[node.node_id()]).await;
    assert_eq!(reader.object(again).await.unwrap(), b"abc");
    assert!(!reader.has_answer_to(read));
    node.shutdown().await;
}

#[tokio::test]
async fn object_that_nobody_has_is_lost_at_once() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let request = driver
        .request_object(ObjectId::for_put(), &[node.node_id()])
        .await;
    let outcome = driver.object(request).await.unwrap_err();
    assert!(
        matches!(outcome, store_get_reply::Outcome::Lost(_)),
        "{outcome:?}"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn object_larger_than_the_store_fails_with_the_sizes() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let create = StoreCreate {
        object_id: ObjectId::for_put().to_wire(),
        size_bytes: 1 << 40,
        owner: Some(driver.address()),
    };
    match driver.ask(Kind::StoreCreate(create)).await {
        Kind::Failure(failure) => {
            assert_eq!(failure.error_code(), ErrorCode::ObjectStoreFull);
            assert!(
                failure.message.contains("1099511627776 bytes"),
                "{}",
                failure.message
            );
        }
        other => panic!("{other:?}"),
    }
    node.shutdown().await;
}

#[tokio::test]
async fn objects_of_a_dead_owner_are_freed() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut owner = driver(&node).await;
    owner.put(&vec![7; 1 << 20]).await;
    let used = async || {
        let status = client(&node).node_status(RayletEmpty {}).await;
        status.unwrap().into_inner().store_used_bytes
    };
    assert!(used().await >= 1 << 20);
    drop(owner);
    let memory = sandbox.gcs.gcs.memory.clone();
    eventually("the driver's end is noticed", || {
        memory.lock().deaths.len() == 1
    })
    .await;
    // The store hears of it at the same time, and has a thread of its own.
    let deadline = Instant::now() + DEADLINE;
    while used().await > 0 {
        assert!(Instant::now() < deadline, "the objects are freed in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.shutdown().await;
}

#[tokio::test]
async fn what_the_store_holds_is_reported_when_nothing_else_happens() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut owner = driver(&node).await;
    let memory = sandbox.gcs.gcs.memory.clone();
    let reported = || {
        memory
            .lock()
            .nodes
            .values()
            .map(|node| node.store_used_bytes)
            .sum::<u64>()
    };
    assert_eq!(reported(), 0);
    owner.put(&vec![7; 1 << 20]).await;
    eventually("the gcs knows of the object", || reported() >= 1 << 20).await;
    drop(owner);
    eventually("the gcs knows that it is gone", || reported() == 0).await;
    node.shutdown().await;
}

#[tokio::test]
async fn freed_object_is_gone() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let object = driver.put(b"bytes").await;
    let free = StoreFree {
        object_ids: vec![object.to_wire()],
        node_ids: Vec::new(),
    };
    driver.ask(Kind::StoreFree(free)).await;
    let request = driver.request_object(object, &[node.node_id()]).await;
    assert!(driver.object(request).await.is_err());
    node.shutdown().await;
}

#[tokio::test]
async fn calls_to_the_gcs_are_forwarded_with_their_failures() {
    let sandbox = Sandbox::new().await;
    let node = sandbox.node(1).await;
    let mut driver = driver(&node).await;
    let key = Bytes::from_static(b"key");
    let put = KvPutRequest {
        key: key.clone(),
        value: Bytes::from_static(b"value"),
        overwrite: true,
        ..Default::default()
    };
    let reply: KvPutReply = driver.call_gcs("KvPut", &put).await.unwrap();
    assert!(reply.is_added);
    let reply: KvGetReply = driver
        .call_gcs("KvGet", &KvGetRequest { key })
        .await
        .unwrap();
    assert_eq!(reply.value.as_deref(), Some(&b"value"[..]));
    let failure = driver
        .call_gcs::<Empty>("KvKeys", &KvKeysRequest::default())
        .await
        .unwrap_err();
    assert_eq!(failure.error_code(), ErrorCode::PendingCallsLimit);
    let failure = driver
        .call_gcs::<Empty>("RegisterNode", &Empty {})
        .await
        .unwrap_err();
    assert_eq!(failure.error_code(), ErrorCode::InvalidArgument);
    node.shutdown().await;
}
