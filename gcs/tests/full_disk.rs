//! A head whose tables lie on a disk that is full for a while. The disk is a small one in memory, so these tests need root.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, JobId};
use aktis_gcs::StorageKind;
use aktis_proto::convert::failure;
use aktis_proto::v1::{
    ActorOptions, Empty, GetActorRequest, KillActorRequest, KvGetRequest, KvPutRequest,
};
use support::{FakeRaylet, Head, creation};

/// A disk of a few MB.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// None without root.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = ["-t", "tmpfs", "-o", "size=6m", "none"];
        let mounted = Command::new("mount")
            .args(options)
            .arg(folder.path())
            .output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no right to mount a small disk");
            return None;
        }
        Some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        for chunk in [64 << 10, 1 << 10, 1] {
            while std::io::Write::write_all(&mut file, &vec![1; chunk]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

fn put(key: &'static str) -> KvPutRequest {
    KvPutRequest {
        key: key.into(),
        // More than the file has free pages for.
        value: vec![7; 2 << 20].into(),
        ..KvPutRequest::default()
    }
}

#[tokio::test]
async fn full_disk_fails_promises_with_a_clear_error_and_nothing_else() {
    let Some(disk) = SmallDisk::new() else { return };
    let sockets = tempfile::tempdir().unwrap();
    let storage = StorageKind::File(disk.path().join("gcs.redb"));
    let head = Head::start_at(sockets.path(), storage.clone()).await;
    let raylet = FakeRaylet::join(&head, 4).await;
    let mut gcs = head.client();
    let kept = ActorId::random();
    let named = ActorOptions {
        name: "kept".to_owned(),
        ..ActorOptions::default()
    };
    gcs.create_actor(creation(kept, JobId::random(), named, 1))
        .await
        .unwrap();
    head.until_alive(kept, 0).await;
    disk.fill();

    let status = gcs.kv_put(put("k")).await.unwrap_err();
    assert_eq!(
        failure(&status).error_code(),
        ErrorCode::OutOfDisk,
        "{status:?}"
    );
    assert!(
        status.message().contains("gcs.redb"),
        "{}",
        status.message()
    );
    let get = |key: &'static str| KvGetRequest { key: key.into() };
    let found = gcs.kv_get(get("k")).await.unwrap().into_inner();
    assert_eq!(found.value, None, "GCS-1: it was not kept");
    let mut large = creation(
        ActorId::random(),
        JobId::random(),
        ActorOptions::default(),
        1,
    );
    large.args_payload = vec![7; 2 << 20].into();
    let lost = ActorId::from_bytes(&large.spec.as_ref().unwrap().actor_id).unwrap();
    assert!(gcs.create_actor(large).await.is_err());
    let request = GetActorRequest {
        actor_id: lost.to_wire(),
        ..GetActorRequest::default()
    };
    assert!(
        gcs.get_actor(request).await.is_err(),
        "GCS-1: it was not made"
    );

    // The rest goes on: reads, new nodes, deaths.
    assert_eq!(
        gcs.list_nodes(Empty {})
            .await
            .unwrap()
            .into_inner()
            .nodes
            .len(),
        1
    );
    let _other = FakeRaylet::join(&head, 4).await;
    assert!(!raylet.report(&head).await);
    let kill = KillActorRequest {
        actor_id: kept.to_wire(),
        no_restart: true,
        ..KillActorRequest::default()
    };
    gcs.kill_actor(kill).await.unwrap();
    assert_eq!(
        raylet.started(),
        [kept],
        "GCS-1: what was undone has no consequences"
    );

    disk.make_room();
    gcs.kv_put(put("l")).await.unwrap();
    head.stop().await;
    let head = Head::start_at(sockets.path(), storage).await;
    let mut gcs = head.client();
    assert!(
        gcs.kv_get(get("l"))
            .await
            .unwrap()
            .into_inner()
            .value
            .is_some()
    );
    assert_eq!(gcs.kv_get(get("k")).await.unwrap().into_inner().value, None);
    let status = gcs.cluster_status(Empty {}).await.unwrap().into_inner();
    assert_eq!(
        status.nodes.len(),
        2,
        "GCS-3: what happened meanwhile was kept afterwards"
    );
    assert_eq!(status.actors.len(), 1);
    assert_eq!(
        status.actors[0].state(),
        aktis_proto::v1::ActorState::Dead,
        "GCS-3"
    );
    head.stop().await;
}
