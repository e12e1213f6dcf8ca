//! Asks the gcs, from a thread without a runtime.

use aktis_common::config::Settings;
use aktis_proto::transport::{Address, Channel, Security, connect, gcs_client};
use aktis_proto::v1::gcs_client::GcsClient;
use aktis_proto::v1::{ClusterStatusReply, Empty, HealthReply, KvGetRequest, KvKeysRequest};
use bytes::Bytes;
use tokio::runtime::Runtime;

use super::running::{self, OfNode};
use crate::join::{not_connected, refusal, resolve_address, resolve_to_look, security_for};

/// A connection to the gcs of a cluster.
pub(super) struct Cluster {
    address: Address,
    security: Security,
    runtime: Runtime,
    client: GcsClient<Channel>,
}

impl Cluster {
    /// Connects to the cluster or session that is to be looked at (see [`resolve_to_look`]).
    pub(super) fn to_look_at(given: Option<&str>, settings: &Settings) -> Result<Self, String> {
        let address = resolve_to_look(given, settings).map_err(|error| error.to_string())?;
        Self::connect(address, settings)
    }

    /// Connects to the cluster that nodes and drivers join: no session that a driver hosts itself.
    pub(super) fn to_join(given: Option<&str>, settings: &Settings) -> Result<Self, String> {
        let address = resolve_address(given, settings).map_err(|error| error.to_string())?;
        Self::connect(address, settings)
    }

    fn connect(address: Address, settings: &Settings) -> Result<Self, String> {
        let security = security_for(&address, settings).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start a runtime: {error}"))?;
        let channel = runtime
            .block_on(connect(&address, &security))
            .map_err(|error| not_connected(error).to_string())?;
        Ok(Self {
            address,
            security,
            runtime,
            client: gcs_client(channel),
        })
    }

    /// Where the gcs is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// What its members need.
    pub(super) fn security(&self) -> &Security {
        &self.security
    }

    /// What runs on the nodes that are alive, which the gcs does not know.
    pub(super) fn running(&self, status: &ClusterStatusReply) -> Vec<OfNode> {
        let alive = status.nodes.iter().filter(|node| node.is_alive).cloned();
        self.runtime
            .block_on(running::ask(alive.collect(), &self.security))
    }

    /// Everything it knows.
    pub(super) fn status(&self) -> Result<ClusterStatusReply, String> {
        let mut client = self.client.clone();
        let reply = self.runtime.block_on(client.cluster_status(Empty {}));
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| refusal(&self.address, &status).to_string())
    }

    /// The values of all keys that begin so, by key.
    pub(super) fn values(&self, prefix: &str) -> Result<Vec<(Bytes, Bytes)>, String> {
        let refused = |status: &tonic::Status| refusal(&self.address, status).to_string();
        let prefix = Bytes::copy_from_slice(prefix.as_bytes());
        self.runtime.block_on(async {
            let mut client = self.client.clone();
            let keys = client.kv_keys(KvKeysRequest { prefix }).await;
            let keys = keys.map_err(|status| refused(&status))?.into_inner().keys;
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                let request = KvGetRequest { key: key.clone() };
                let reply = client.kv_get(request).await;
                let value = reply.map_err(|status| refused(&status))?.into_inner().value;
                // It may be gone by now.
                values.extend(value.map(|value| (key, value)));
            }
            Ok(values)
        })
    }

    /// Whether it answers. What the cluster holds makes no difference to what this costs.
    pub(super) fn health(&self) -> Result<HealthReply, String> {
        let mut client = self.client.clone();
        let reply = self.runtime.block_on(client.health(Empty {}));
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| refusal(&self.address, &status).to_string())
    }
}
