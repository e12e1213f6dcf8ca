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
    ActorOptions, ActorState, Empty, GetActorRequest, KillActorRequest, KvGetRequest, KvPutRequest,
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

fn get(key: &'static str) -> KvGetRequest {
    KvGetRequest { key: key.into() }
}

/// What cannot be kept is refused, and not done.
async fn refuses_promises(head: &Head) {
    let mut gcs = head.client();
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
    let found = gcs.kv_get(get("k")).await.unwrap().into_inner();
    assert_eq!(found.value, None, "GCS-1: it was not kept");
    let lost = ActorId::random();
    let mut large = creation(lost, JobId::random(), ActorOptions::default(), 1);
    large.args_payload = vec![7; 2 << 20].into();
    assert!(gcs.create_actor(large).await.is_err());
    let request = GetActorRequest {
        actor_id: lost.to_wire(),
        ..GetActorRequest::default()
    };
    assert!(
        gcs.get_actor(request).await.is_err(),
        "GCS-1: it was not made"
    );
}

#[tokio::test]
async fn full_disk_fails_promises_with_a_clear_error_and_nothing_else() {
    let Some(disk) = SmallDisk::new() else { return };
    let sockets = tempfile::tempdir().unwrap();
    let storage = StorageKind::File(disk.path().join("gcs.redb"));
    let head = Head::start_at(sockets.path(), storage.clone()).await;
    let raylet = FakeRaylet::join(&head, 4).await;
    let kept = ActorId::random();
    let mut gcs = head.client();
    let creation = creation(kept, JobId::random(), ActorOptions::default(), 1);
    gcs.create_actor(creation).await.unwrap();
    head.until_alive(kept, 0).await;

    disk.fill();
    refuses_promises(&head).await;
    // The rest goes on: reads, new nodes, reports, ends.
    let nodes = gcs.list_nodes(Empty {}).await.unwrap().into_inner().nodes;
    assert_eq!(nodes.len(), 1);
    let _other = FakeRaylet::join(&head, 4).await;
    assert!(!raylet.report(&head).await);
    let kill = KillActorRequest {
        actor_id: kept.to_wire(),
        no_restart: true,
        ..KillActorRequest::default()
    };
    let status = gcs.kill_actor(kill).await.unwrap_err();
    assert!(status.message().contains("it was done"), "{status:?}");
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
    let states: Vec<ActorState> = status.actors.iter().map(|actor| actor.state()).collect();
    assert_eq!(states, [ActorState::Dead], "GCS-3");
    head.stop().await;
}
