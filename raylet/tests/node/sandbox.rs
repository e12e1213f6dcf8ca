//! A session folder with a fake gcs and any number of raylets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aktis_common::resources::{GPU, NodeResources, Quantity, ResourceSet};
use aktis_object_store::StoreConfig;
use aktis_proto::transport::{Channel, Security, connect_lazy, raylet_client};
use aktis_proto::v1::raylet_client::RayletClient;
use aktis_raylet::{Raylet, RayletConfig, RayletHandle};

use crate::fake_gcs::GcsServerTask;
use crate::process::{DEADLINE, Process};

/// A session.
pub struct Sandbox {
    pub gcs: GcsServerTask,
    // Last: it is removed when everything else has ended.
    pub folder: tempfile::TempDir,
}

impl Sandbox {
    pub async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ak").tempdir().unwrap();
        let gcs = GcsServerTask::start(folder.path()).await;
        Self { gcs, folder }
    }

    /// Settings of a node with so many CPUs and logical GPUs.
    pub fn config(&self, cpus: i64, gpus: i64) -> RayletConfig {
        let total = ResourceSet::of_cpus(cpus).with(GPU, Quantity::from_whole(gpus));
        let resources = NodeResources::new(total, Vec::new(), BTreeMap::new());
        let zygote = fake_zygote().display().to_string();
        let mut config = RayletConfig::new(
            self.folder.path(),
            self.gcs.address.clone(),
            resources,
            vec![zygote],
        );
        config.store = StoreConfig::new(16 << 20);
        config.worker_start_timeout = Duration::from_secs(10);
        config.report_period = Duration::from_millis(50);
        config
    }

    pub async fn node(&self, cpus: i64) -> RayletHandle {
        Raylet::start(self.config(cpus, 0)).await.unwrap()
    }
}

/// Connects a driver to a node.
pub async fn driver(node: &RayletHandle) -> Process {
    Process::driver(node.node_socket()).await
}

/// What the gcs calls a node with.
pub fn client(node: &RayletHandle) -> RayletClient<Channel> {
    raylet_client(connect_lazy(node.grpc_address(), &Security::default()).unwrap())
}

/// Built by `cargo test` as an example of this crate.
fn fake_zygote() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(Path::parent).unwrap();
    let path = folder.join("examples").join("fake_zygote");
    assert!(
        path.exists(),
        "{} is not built: cargo build --release --examples",
        path.display()
    );
    path
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process runs. One that has ended but was not waited for does not.
pub fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
