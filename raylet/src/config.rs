//! What a raylet is started with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aktis_common::checks::Rhythm;
use aktis_common::config::Settings;
use aktis_common::ids::NodeId;
use aktis_common::machine;
use aktis_common::resources::NodeResources;
use aktis_object_store::StoreConfig;
use aktis_proto::transport::{Address, Network, Security};
use tokio::runtime::Handle;

pub use crate::io::logs::LogLimits;
use crate::processes::{Processes, SystemProcesses};

/// Everything a raylet needs to know.
#[derive(Debug, Clone)]
pub struct RayletConfig {
    /// The node's id; a fresh one for every start.
    pub node_id: NodeId,
    /// Folder of the session; made with mode 0700 if it is not there. Keep it short: the paths of unix sockets below it
    /// have at most 107 bytes.
    pub session_dir: PathBuf,
    /// Where the gcs listens.
    pub gcs_address: Address,
    /// Where this raylet listens for other nodes and the gcs.
    pub listen: Address,
    /// Host by which other nodes reach `listen`, if it listens on all interfaces.
    pub advertised_host: Option<String>,
    /// Token and TLS of the cluster.
    pub security: Security,
    /// What carries connections between nodes.
    pub network: Network,
    /// The runtime for what may take its time, beside the loop's: connections with others, copies, lanes to other nodes,
    /// output. `None`: the loop's own.
    pub beside: Option<Handle>,
    /// What starts and ends processes.
    pub processes: Arc<dyn Processes>,
    /// What the node has, all free.
    pub resources: NodeResources,
    /// How CUDA names the GPUs of `resources`, by their ids; logical GPUs have no names.
    pub gpu_names: Vec<String>,
    /// Whether the gcs runs on this node.
    pub is_head: bool,
    /// The object store. Without a spill folder it spills into the node's folder.
    pub store: StoreConfig,
    /// Values up to this size stay with their owner; told to every process.
    pub max_inline_bytes: u64,
    /// Program and arguments of the zygote; `--cleanup-dir <dir>` is added for each of `cleanup_dirs`.
    pub zygote_command: Vec<String>,
    /// Environment variables of the zygote in addition to this process's.
    pub zygote_env: BTreeMap<String, String>,
    /// Folders that the zygote removes when this process is gone, in this order; by default the node's folder. One that
    /// names others, for those who sweep, comes after them.
    pub cleanup_dirs: Vec<PathBuf>,
    /// Environment variables of every worker.
    pub worker_env: BTreeMap<String, String>,
    /// How long a worker may take from its start to its hello.
    pub worker_start_timeout: Duration,
    /// How long idle workers beyond the warm ones are kept.
    pub worker_idle: Duration,
    /// How long a worker that was asked to end may take.
    pub worker_exit_grace: Duration,
    /// How often the node's state is reported although nothing changed.
    pub report_period: Duration,
    /// How long [`Raylet::start`](crate::Raylet::start) looks for the gcs.
    pub register_timeout: Duration,
    /// Folder below which the output of workers lies, in a folder of this node, and outlives it. Without one it lies in the
    /// node's folder and goes with it.
    pub log_root: Option<PathBuf>,
    /// How much of it, and for how long.
    pub log_limits: LogLimits,
    /// How long the start of an actor waits here for resources before the gcs is to place it anew.
    pub actor_patience: Duration,
    /// How long a running node looks for a gcs that went away before it ends, and calls of its processes wait.
    pub head_patience: Duration,
    /// How long a node that is gone counts as one that may come back.
    pub lost_node_memory: Duration,
    /// How often this raylet checks its own state.
    pub checks: Rhythm,
}

impl RayletConfig {
    /// A node of the session in `session_dir` that listens on unix sockets only.
    pub fn new(
        session_dir: impl Into<PathBuf>,
        gcs_address: Address,
        resources: NodeResources,
        zygote_command: Vec<String>,
    ) -> Self {
        let session_dir = session_dir.into();
        let node_id = NodeId::random();
        let node_dir = node_dir(&session_dir, node_id);
        let settings = Settings::default();
        Self {
            node_id,
            gcs_address,
            listen: Address::Unix(node_dir.join("raylet-grpc.sock")),
            advertised_host: None,
            security: Security::default(),
            network: Network::system(),
            beside: None,
            processes: Arc::new(SystemProcesses::default()),
            resources,
            gpu_names: Vec::new(),
            is_head: false,
            store: StoreConfig::new(aktis_object_store::default_capacity_bytes()),
            max_inline_bytes: settings.max_inline_bytes.0,
            zygote_command,
            zygote_env: BTreeMap::new(),
            cleanup_dirs: vec![node_dir],
            worker_env: BTreeMap::new(),
            worker_start_timeout: settings.worker_start_timeout,
            worker_idle: settings.worker_idle,
            // What user code may take for its clean-up (`_process/end.py`), and some more.
            worker_exit_grace: Duration::from_secs(35),
            report_period: settings.node_report_period,
            register_timeout: settings.connect_timeout,
            actor_patience: Duration::from_secs(1),
            head_patience: settings.head_reconnect_timeout,
            lost_node_memory: settings.lost_node_memory,
            checks: Rhythm::default(),
            log_root: None,
            log_limits: log_limits(&settings),
            session_dir,
        }
    }

    /// The same with what the settings say about nodes.
    #[must_use]
    pub fn with_settings(mut self, settings: &Settings) -> Self {
        self.max_inline_bytes = settings.max_inline_bytes.0;
        self.worker_start_timeout = settings.worker_start_timeout;
        self.worker_idle = settings.worker_idle;
        self.report_period = settings.node_report_period;
        self.register_timeout = settings.connect_timeout;
        self.head_patience = settings.head_reconnect_timeout;
        self.lost_node_memory = settings.lost_node_memory;
        self.worker_env.extend(settings.to_worker_environment());
        self.log_root = settings.log_dir.clone().or_else(|| {
            let state = machine::state_dir()?;
            Some(state.join("aktis").join("logs"))
        });
        self.log_limits = log_limits(settings);
        if let Some(bytes) = settings.object_store_bytes {
            self.store.capacity_bytes = bytes.0;
        }
        if settings.spill_dir.is_some() {
            self.store.spill_dir.clone_from(&settings.spill_dir);
        }
        self.store.spill_limit_bytes = settings.spill_limit_bytes.map(|bytes| bytes.0);
        if settings.object_store_backend == "named" {
            self.store.backend = aktis_object_store::ArenaBackend::Named;
        }
        self
    }

    /// The node's folder.
    pub fn node_dir(&self) -> PathBuf {
        node_dir(&self.session_dir, self.node_id)
    }

    /// Where the node spills to.
    pub fn spill_dir(&self) -> PathBuf {
        let named = self.store.spill_dir.clone();
        named.unwrap_or_else(|| self.node_dir().join("spill"))
    }

    /// The socket for processes of this node.
    pub fn node_socket(&self) -> PathBuf {
        self.node_dir().join("raylet.sock")
    }

    /// Where it takes streams for copies: beside `listen`.
    pub(crate) fn transfer_listen(&self) -> Address {
        match &self.listen {
            Address::Tcp { host, .. } => Address::Tcp {
                host: host.clone(),
                port: 0,
            },
            Address::Unix(_) => Address::Unix(self.node_dir().join("transfer.sock")),
        }
    }

    /// The socket that forwards lanes to other nodes.
    pub fn proxy_socket(&self) -> PathBuf {
        self.node_dir().join("proxy.sock")
    }

    /// The folder of the workers' lane sockets.
    pub fn lane_dir(&self) -> PathBuf {
        self.node_dir().join("l")
    }

    /// The folder of the workers' output.
    pub fn log_dir(&self) -> PathBuf {
        let session = self.session_dir.file_name().unwrap_or_default();
        match &self.log_root {
            Some(root) => node_dir(&root.join(session), self.node_id),
            None => self.node_dir().join("logs"),
        }
    }
}

fn log_limits(settings: &Settings) -> LogLimits {
    LogLimits {
        file_bytes: settings.log_file_bytes.0,
        total_bytes: settings.log_total_bytes.0,
        age: settings.log_age,
    }
}

fn node_dir(session_dir: &Path, node_id: NodeId) -> PathBuf {
    let hex = node_id.to_string();
    session_dir.join(format!("n{}", &hex[..8]))
}
