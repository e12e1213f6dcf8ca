//! Asks the gcs, from a thread without a runtime.

use aktis_common::config::Settings;
use aktis_proto::transport::{Address, Channel, Security, connect, gcs_client};
use aktis_proto::v1::gcs_client::GcsClient;
use aktis_proto::v1::{ClusterStatusReply, Empty};
use tokio::runtime::Runtime;

use crate::join::{JoinError, refusal, resolve_address};

/// A connection to the gcs of a cluster.
pub(super) struct Cluster {
    address: Address,
    runtime: Runtime,
    client: GcsClient<Channel>,
}

impl Cluster {
    /// Connects to the cluster that is meant (see [`resolve_address`]).
    pub(super) fn connect(given: Option<&str>, settings: &Settings) -> Result<Self, String> {
        let address = resolve_address(given, settings).map_err(|error| error.to_string())?;
        let security = Security::from_settings(settings).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start a runtime: {error}"))?;
        let channel = runtime
            .block_on(connect(&address, &security))
            .map_err(|error| JoinError::Unreachable(error).to_string())?;
        Ok(Self {
            address,
            runtime,
            client: gcs_client(channel),
        })
    }

    /// Where the gcs is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Everything it knows.
    pub(super) fn status(&self) -> Result<ClusterStatusReply, String> {
        let mut client = self.client.clone();
        let reply = self.runtime.block_on(client.cluster_status(Empty {}));
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| refusal(&self.address, &status).to_string())
    }
}
