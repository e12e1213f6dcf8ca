//! Finds the raylet through which a driver on this machine joins a cluster.

use std::path::PathBuf;

use aktis_common::config::Settings;
use aktis_common::machine;
use aktis_proto::transport::{
    Address, AddressError, ConnectError, Security, SecurityError, connect, gcs_client,
};
use aktis_proto::v1::{Empty, NodeInfo};

use crate::session::{Role, owners};

/// What a driver needs to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinInfo {
    /// Socket of the raylet on this machine.
    pub raylet_socket: PathBuf,
    /// Folder of the raylet's session.
    pub session_dir: PathBuf,
    /// Where the gcs is reached.
    pub gcs_address: Address,
}

/// A cluster that cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No cluster was named, and none runs here.
    #[error(
        "no Aktis cluster runs on this machine; start one with `aktis start --head`, or give an address"
    )]
    NoLocalCluster,
    /// The address is none.
    #[error("{0}")]
    Address(AddressError),
    /// Token and TLS do not fit together.
    #[error("{0}")]
    Security(SecurityError),
    /// The head does not answer.
    #[error("no head: {0}; check the address and that `aktis start --head` runs there")]
    Unreachable(ConnectError),
    /// The head refuses.
    #[error("the head at {address} refuses: {message}")]
    Refused {
        /// Where.
        address: Address,
        /// What it said.
        message: String,
    },
    /// The connection stands but calls fail.
    #[error(
        "the head at {address} breaks the connection off; \
         are AKTIS_TOKEN and the AKTIS_TLS_ settings those of the cluster?"
    )]
    BrokenOff {
        /// Where.
        address: Address,
    },
    /// The cluster has no node here.
    #[error(
        "the cluster at {address} has no node on this machine; \
         run `aktis start --address {address}` here first"
    )]
    NoNodeHere {
        /// The cluster.
        address: Address,
    },
    /// The system gives no runtime.
    #[error("cannot connect: {cause}")]
    Runtime {
        /// What the system said.
        cause: String,
    },
}

/// The address of the cluster that is meant: the given one, else that of the settings, else (`auto`, or nothing) the
/// newest one that was started on this machine.
///
/// # Errors
/// When it is no address, or none was given and no cluster runs here.
pub fn resolve_address(given: Option<&str>, settings: &Settings) -> Result<Address, JoinError> {
    let named = given
        .or(settings.address.as_deref())
        .filter(|text| *text != "auto");
    if let Some(text) = named {
        return text.parse().map_err(JoinError::Address);
    }
    let daemons = owners(settings)
        .into_iter()
        .filter(|(_, owner)| owner.role != Role::Laptop);
    let newest = daemons.max_by_key(|(path, owner)| (owner.role == Role::Head, path.clone()));
    let (_, owner) = newest.ok_or(JoinError::NoLocalCluster)?;
    owner.gcs_address.parse().map_err(JoinError::Address)
}

/// Asks the cluster for its node on this machine. Blocks the calling thread.
///
/// # Errors
/// When the head cannot be reached, refuses, or has no node here.
pub fn find_raylet(address: Option<&str>, settings: &Settings) -> Result<JoinInfo, JoinError> {
    let gcs_address = resolve_address(address, settings)?;
    let security = Security::from_settings(settings).map_err(JoinError::Security)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| JoinError::Runtime {
            cause: error.to_string(),
        })?;
    let nodes = runtime.block_on(list_nodes(&gcs_address, &security))?;
    let here = machine::machine_id();
    let node = nodes
        .into_iter()
        .filter(|node| node.is_alive && node.machine_id == here)
        .min_by_key(|node| !node.is_head)
        .ok_or_else(|| JoinError::NoNodeHere {
            address: gcs_address.clone(),
        })?;
    Ok(JoinInfo {
        raylet_socket: node.node_socket.into(),
        session_dir: node.session_dir.into(),
        gcs_address,
    })
}

async fn list_nodes(address: &Address, security: &Security) -> Result<Vec<NodeInfo>, JoinError> {
    let channel = connect(address, security)
        .await
        .map_err(JoinError::Unreachable)?;
    let reply = gcs_client(channel).list_nodes(Empty {}).await;
    let reply = reply.map_err(|status| refusal(address, &status))?;
    Ok(reply.into_inner().nodes)
}

/// What a failed call to the head means.
pub(crate) fn refusal(address: &Address, status: &tonic::Status) -> JoinError {
    let address = address.clone();
    match status.code() {
        // What a server with TLS does to a client without, and the other way round.
        tonic::Code::Unavailable | tonic::Code::Unknown => JoinError::BrokenOff { address },
        _ => JoinError::Refused {
            address,
            message: status.message().to_owned(),
        },
    }
}
