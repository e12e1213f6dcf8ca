//! What a gcs is started with.

use std::path::PathBuf;
use std::time::Duration;

use aktis_common::checks::Rhythm;
use aktis_common::config::Settings;
use aktis_proto::transport::{Address, Network, Security};
use tokio::runtime::Handle;

/// Everything a gcs needs to know.
#[derive(Debug, Clone)]
pub struct GcsConfig {
    /// The session; a storage that has one already keeps its own.
    pub session_id: String,
    /// Where it listens: one address or several.
    pub listen: Vec<Address>,
    /// Token and TLS of the cluster.
    pub security: Security,
    /// What carries its connections.
    pub network: Network,
    /// The runtime for its connections, beside the loop's. `None`: the loop's own.
    pub beside: Option<Handle>,
    /// Whether it makes a token when `security` has none. It is kept with the tables, as nodes go on using it (`GCS-4`).
    pub makes_token: bool,
    /// Where the tables are kept.
    pub storage: StorageKind,
    /// A node that was not heard of for this long is dead.
    pub node_timeout: Duration,
    /// The same, once its connection is closed.
    pub node_disconnect_grace: Duration,
    /// How long the job of a driver goes on whose node is dead.
    pub driver_grace: Duration,
    /// How long a node that is gone counts as one that may come back.
    pub lost_node_memory: Duration,
    /// Publications kept for a slow subscriber.
    pub publication_capacity: usize,
    /// How often it checks its own state.
    pub checks: Rhythm,
}

/// Where the tables are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageKind {
    /// Nowhere: they end with the process.
    Memory,
    /// In a redb file, which a restarted head takes up.
    File(PathBuf),
}

impl GcsConfig {
    /// A gcs that keeps its tables in memory and listens at `listen`.
    pub fn new(session_id: impl Into<String>, listen: Vec<Address>) -> Self {
        let config = Self {
            session_id: session_id.into(),
            listen,
            security: Security::default(),
            network: Network::system(),
            beside: None,
            makes_token: false,
            storage: StorageKind::Memory,
            node_timeout: Duration::ZERO,
            node_disconnect_grace: Duration::ZERO,
            driver_grace: Duration::ZERO,
            lost_node_memory: Duration::ZERO,
            publication_capacity: 0,
            checks: Rhythm::default(),
        };
        config.with_settings(&Settings::default())
    }

    /// The same with what the settings say about the head.
    #[must_use]
    pub fn with_settings(mut self, settings: &Settings) -> Self {
        self.node_timeout = settings.node_timeout;
        self.node_disconnect_grace = settings.node_disconnect_grace;
        self.driver_grace = settings.driver_grace;
        self.lost_node_memory = settings.lost_node_memory;
        let capacity = usize::try_from(settings.publication_capacity).unwrap_or(usize::MAX);
        self.publication_capacity = capacity.clamp(1, 1 << 24);
        self
    }
}
