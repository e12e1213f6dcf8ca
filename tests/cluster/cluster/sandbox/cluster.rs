//! A head and nodes, as the command line composes them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aktis_common::checks::Rhythm;
use aktis_common::config::Secret;
use aktis_common::ids::NodeId;
use aktis_common::resources::{NodeResources, ResourceSet};
use aktis_gcs::io::storage::Storage;
use aktis_gcs::{Gcs, GcsConfig, GcsHandle};
use aktis_object_store::StoreConfig;
use aktis_proto::transport::{Channel, Network, Security, gcs_client, raylet_client};
use aktis_proto::v1::gcs_client::GcsClient;
use aktis_proto::v1::{ActorUpdate, Empty, NodeInfo, RayletEmpty};
use aktis_raylet::{Raylet, RayletConfig, RayletHandle};

use super::chance::Chance;
use super::disk::Disk;
use super::driver::Driver;
use super::log::Log;
use super::network::{Host, Net};
use super::processes::{Handle, HostProcesses, World, short};

/// Where the head listens.
const HEAD_PORT: u16 = 6379;
const NODE_PORT: u16 = 7000;
/// The machine of whoever looks at the cluster from outside.
const OPERATOR: Host = Host(200);
/// The machine of the head; nodes have the others.
pub const HEAD: Host = Host(0);

/// A cluster in the test's hands.
pub struct Cluster {
    pub log: Log,
    pub net: Net,
    pub world: World,
    pub disk: Disk,
    pub chance: Chance,
    folder: tempfile::TempDir,
    head: Option<Head>,
    nodes: BTreeMap<Host, Node>,
    operator: Network,
    sessions: u32,
}

struct Head {
    handle: GcsHandle,
    process: u64,
}

/// A node that runs.
pub struct Node {
    pub id: NodeId,
    pub socket: PathBuf,
    handle: RayletHandle,
    process: u64,
    processes: Arc<HostProcesses>,
}

/// The token and nothing else: all addresses are loopback ones.
fn security() -> Security {
    Security {
        token: Some(Secret::new("the token of a cluster in one process")),
        ..Security::default()
    }
}

impl Cluster {
    /// Nothing runs yet.
    pub async fn start(seed: u64, log: Log) -> Self {
        let chance = Chance::new(seed);
        let net = Net::new(chance.word(), log.clone());
        let (_, operator) = net.process(OPERATOR);
        Self {
            world: World::new(chance.word(), log.clone()),
            disk: Disk::default(),
            folder: tempfile::Builder::new().prefix("ak").tempdir().unwrap(),
            head: None,
            nodes: BTreeMap::new(),
            sessions: 0,
            operator,
            chance,
            net,
            log,
        }
    }

    /// A head, and nodes 1 to n with so many CPUs each.
    pub async fn with_nodes(&mut self, cpus: &[i64]) {
        self.start_head().await;
        for (index, cpus) in cpus.iter().enumerate() {
            let host = Host(1 + u8::try_from(index).unwrap());
            self.start_node(host, ResourceSet::of_cpus(*cpus)).await;
        }
    }

    /// Starts a head on the disk.
    pub async fn start_head(&mut self) {
        let storage = self.disk.open();
        self.start_head_on(storage).await;
    }

    /// Starts a head on another storage.
    pub async fn start_head_on(&mut self, storage: Box<dyn Storage>) {
        assert!(self.head.is_none(), "one head at a time");
        self.sessions += 1;
        let (process, network) = self.net.process(HEAD);
        let mut config = GcsConfig::new(
            format!("session-{}", self.sessions),
            vec![HEAD.address(HEAD_PORT)],
        );
        config.security = security();
        config.network = network;
        config.checks = Rhythm::EveryEvent;
        self.log.note("the head starts");
        let handle = Gcs::start_on(config, storage).await.unwrap();
        self.head = Some(Head { handle, process });
    }

    /// The head is killed: what it did not write is lost, its connections break.
    pub fn crash_head(&mut self) {
        let Some(Head { handle, process }) = self.head.take() else {
            return;
        };
        self.log.note("the head is killed");
        self.disk.cut_off();
        self.net.end_process(process);
        drop(handle);
    }

    /// The head is asked to end.
    pub async fn stop_head(&mut self) {
        let Some(Head { handle, process }) = self.head.take() else {
            return;
        };
        self.log.note("the head is asked to end");
        handle.shutdown().await;
        self.net.end_process(process);
    }

    /// Whether there is a head.
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Starts a node; its id is a fresh one.
    pub async fn start_node(&mut self, host: Host, total: ResourceSet) {
        self.start_node_as(host, total, false).await;
    }

    /// Starts a node that says of itself that it is the head's own, or not.
    pub async fn start_node_as(&mut self, host: Host, total: ResourceSet, is_head: bool) {
        assert!(!self.nodes.contains_key(&host), "one node per host");
        let (process, network) = self.net.process(host);
        let processes = self.world.of_host(host);
        let resources = NodeResources::new(total, Vec::new(), BTreeMap::new());
        let command = vec!["pretended".to_owned()];
        let mut config = RayletConfig::new(
            self.folder.path(),
            HEAD.address(HEAD_PORT),
            resources,
            command,
        );
        config.node_id = NodeId::new(self.chance.id());
        config.cleanup_dirs = vec![config.node_dir()];
        config.listen = host.address(NODE_PORT);
        config.security = security();
        config.network = network;
        config.is_head = is_head;
        // How long a node waits for a head is the command line's to test (`cli/tests`); here it is as long as the fault.
        config.head_patience = Duration::from_secs(24 * 3600);
        config.processes = Arc::new(Handle(Arc::clone(&processes)));
        config.checks = Rhythm::EveryEvent;
        config.store = StoreConfig::new(16 << 20);
        config.store.checks = Rhythm::EveryEvent;
        // Threads of the store would work in real time.
        config.store.max_prefault_bytes = 0;
        config.store.idle_discard_after = Duration::MAX;
        let (id, socket) = (config.node_id, config.node_socket());
        self.log
            .note(format!("{host}: node {} starts", short(id.as_bytes())));
        let handle = Raylet::start(config).await.unwrap();
        let node = Node {
            id,
            socket,
            handle,
            process,
            processes,
        };
        self.nodes.insert(host, node);
    }

    /// A node and all its processes are killed.
    pub fn crash_node(&mut self, host: Host) {
        let Some(node) = self.nodes.remove(&host) else {
            return;
        };
        self.log.note(format!(
            "{host}: node {} is killed",
            short(node.id.as_bytes())
        ));
        self.net.end_process(node.process);
        node.processes.kill_all();
        // It reaches nobody any more: this only gives its memory and files back.
        tokio::spawn(node.handle.shutdown());
    }

    /// The nodes that run.
    pub fn hosts(&self) -> Vec<Host> {
        self.nodes.keys().copied().collect()
    }

    pub fn node(&self, host: Host) -> &Node {
        &self.nodes[&host]
    }

    /// Connects a driver to a node.
    pub async fn driver(&self, host: Host) -> Driver {
        self.try_driver(host).await.unwrap()
    }

    /// # Errors
    /// When the node or the head refuses.
    pub async fn try_driver(&self, host: Host) -> Result<Driver, String> {
        Driver::join(&self.node(host).socket, &self.chance, &self.log).await
    }

    /// The gcs, called from outside of the cluster.
    pub fn gcs(&self) -> GcsClient<Channel> {
        let channel = self
            .operator
            .connect_lazy(&HEAD.address(HEAD_PORT), &security());
        gcs_client(channel.unwrap())
    }

    /// All nodes that the gcs lists.
    pub async fn listed(&self) -> Vec<NodeInfo> {
        self.gcs()
            .list_nodes(Empty {})
            .await
            .unwrap()
            .into_inner()
            .nodes
    }

    /// All actors that the gcs knows.
    pub async fn actors(&self) -> Vec<ActorUpdate> {
        self.gcs()
            .list_actors(Empty {})
            .await
            .unwrap()
            .into_inner()
            .actors
    }

    /// Whether the gcs counts a node among the living.
    pub async fn is_alive(&self, node: NodeId) -> bool {
        let listed = self.listed().await;
        listed
            .iter()
            .any(|info| info.node_id == node.to_wire() && info.is_alive)
    }

    /// What a node says of itself.
    pub async fn status(&self, host: Host) -> NodeInfo {
        let channel = self
            .operator
            .connect_lazy(&host.address(NODE_PORT), &security());
        let mut raylet = raylet_client(channel.unwrap());
        raylet
            .node_status(RayletEmpty {})
            .await
            .unwrap()
            .into_inner()
    }

    /// Free and total amount of a resource on a node.
    pub async fn free_of(&self, host: Host, resource: &str) -> (f64, f64) {
        let status = self.status(host).await;
        let amount = |set: &Option<aktis_proto::v1::ResourceSet>| {
            let set = set.as_ref().map(ResourceSet::from).unwrap_or_default();
            set.get(resource).units() as f64 / 10_000.0
        };
        (amount(&status.available), amount(&status.total))
    }

    /// Waits until something holds.
    pub async fn until(
        &self,
        what: &str,
        within_secs: u64,
        mut holds: impl AsyncFnMut(&Self) -> bool,
    ) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(within_secs);
        while !holds(self).await {
            let is_late = tokio::time::Instant::now() >= deadline;
            assert!(!is_late, "within {within_secs} s of the run's time: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
