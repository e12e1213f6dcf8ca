//! Finds the raylet through which a driver on this machine joins a cluster.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use aktis_common::config::Settings;
use aktis_common::machine;
use aktis_common::standard_streams::hold_standard_streams;
use aktis_proto::transport::{
    Address, AddressError, ConnectError, Security, SecurityError, connect, gcs_client,
};
use aktis_proto::v1::{Empty, NodeInfo};

use crate::session::{Owner, Role, base_dir, known_daemons, owners, read_token};

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
    /// Nothing was named to look at, and nothing is here.
    #[error(
        "no Aktis cluster runs on this machine, and no script of yours with a session of its own; start a cluster with \
         `aktis start --head`, or give an address"
    )]
    NothingToLookAt,
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
    /// Nothing secret may be said there.
    #[error("{0}")]
    Unsafe(ConnectError),
    /// The connection stands but calls fail.
    #[error(
        "the head at {address} breaks the connection off ({cause}); are AKTIS_TOKEN and the AKTIS_TLS_ settings those of the \
         cluster, and is the certificate of AKTIS_TLS_CERT not expired and signed by the cluster's authority?"
    )]
    BrokenOff {
        /// Where.
        address: Address,
        /// What the transport said.
        cause: String,
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
    /// The cluster has one here, which is gone.
    #[error(
        "the node of the cluster at {address} on this machine does not answer: it has ended, and the head will notice; \
         try again, or run `aktis start --address {address}` here"
    )]
    SilentNode {
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
    let newest =
        daemons(settings).max_by_key(|(path, owner)| (owner.role == Role::Head, path.clone()));
    let (_, owner) = newest.ok_or(JoinError::NoLocalCluster)?;
    owner.gcs_address.parse().map_err(JoinError::Address)
}

/// The address of what is to be looked at: as [`resolve_address`]; where no cluster runs, the newest session that a driver hosts
/// itself. None may join such a session, so drivers do not look for it.
///
/// # Errors
/// When it is no address, or none was given and nothing of this user runs here.
pub(crate) fn resolve_to_look(
    given: Option<&str>,
    settings: &Settings,
) -> Result<Address, JoinError> {
    match resolve_address(given, settings) {
        Err(JoinError::NoLocalCluster) => {
            let newest = sessions(settings).pop();
            let (_, owner) = newest.ok_or(JoinError::NothingToLookAt)?;
            owner.gcs_address.parse().map_err(JoinError::Address)
        }
        resolved => resolved,
    }
}

/// Sessions of this user that run here and have a gcs, oldest first: those of heads and those of drivers.
pub(crate) fn sessions(settings: &Settings) -> Vec<(PathBuf, Owner)> {
    let mut found = owners(settings);
    found.retain(|(_, owner)| matches!(owner.role, Role::Head | Role::Laptop));
    found
}

/// What the settings say of token and TLS; the token, if they name none, is that of this user's daemon on this machine that
/// belongs to the cluster at `address`. Whether the token may go there is the transport's to decide (`NET-3`).
///
/// # Errors
/// When only some of the TLS files are named.
pub fn security_for(address: &Address, settings: &Settings) -> Result<Security, JoinError> {
    let mut security = Security::from_settings(settings).map_err(JoinError::Security)?;
    if security.token.is_none() {
        let same = known_daemons(settings)
            .into_iter()
            .filter_map(|(path, owner)| Some((path, owner.gcs_address.parse::<Address>().ok()?)))
            .filter(|(_, other)| is_same(address, other));
        // `localhost` means the one that is called so before the one that is only there.
        let nearest = same.max_by_key(|(path, other)| (other == address, path.clone()));
        security.token = nearest.and_then(|(path, _)| read_token(&path));
    }
    Ok(security)
}

fn daemons(settings: &Settings) -> impl Iterator<Item = (PathBuf, Owner)> {
    owners(settings)
        .into_iter()
        .filter(|(_, owner)| owner.role.is_daemon())
}

/// Whether both mean one head: this machine has several names for itself.
pub(crate) fn is_same(left: &Address, right: &Address) -> bool {
    match (left, right) {
        (Address::Tcp { port, .. }, Address::Tcp { port: other, .. }) => {
            left == right || (port == other && left.is_local() && right.is_local())
        }
        _ => left == right,
    }
}

/// Asks the cluster for its node on this machine. Blocks the calling thread.
///
/// # Errors
/// When the head cannot be reached, refuses, or has no node here.
pub fn find_raylet(address: Option<&str>, settings: &Settings) -> Result<JoinInfo, JoinError> {
    hold_standard_streams();
    let gcs_address = resolve_address(address, settings)?;
    let security = security_for(&gcs_address, settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| JoinError::Runtime {
            cause: error.to_string(),
        })?;
    let nodes = runtime.block_on(list_nodes(&gcs_address, &security))?;
    let here = machine::machine_id();
    let mut nodes: Vec<NodeInfo> = nodes
        .into_iter()
        .filter(|node| node.is_alive && node.machine_id == here)
        .collect();
    let own = base_dir(settings);
    nodes.sort_by_key(|node| distance(node, &own));
    let address = || gcs_address.clone();
    if nodes.is_empty() {
        return Err(JoinError::NoNodeHere { address: address() });
    }
    // The head may not know yet that one is gone.
    let answering = nodes
        .into_iter()
        .find(|node| answers(Path::new(&node.node_socket)));
    let node = answering.ok_or_else(|| JoinError::SilentNode { address: address() })?;
    Ok(JoinInfo {
        raylet_socket: node.node_socket.into(),
        session_dir: node.session_dir.into(),
        gcs_address,
    })
}

/// How far a node of this machine is from a driver whose sessions lie in `own`: the node that was started beside the driver, in one
/// temporary folder, is its own; of several such the head's is taken, which is the last one to be replaced.
fn distance(node: &NodeInfo, own: &Path) -> (bool, bool) {
    let is_own = Path::new(&node.session_dir).starts_with(own);
    (!is_own, !node.is_head)
}

/// Whether a process of this user serves the socket.
fn answers(socket: &Path) -> bool {
    let Ok(stream) = UnixStream::connect(socket) else {
        return false;
    };
    let peer = rustix::net::sockopt::socket_peercred(&stream);
    peer.is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

async fn list_nodes(address: &Address, security: &Security) -> Result<Vec<NodeInfo>, JoinError> {
    let channel = connect(address, security).await.map_err(not_connected)?;
    let reply = gcs_client(channel).list_nodes(Empty {}).await;
    let reply = reply.map_err(|status| refusal(address, &status))?;
    Ok(reply.into_inner().nodes)
}

/// What a connection that does not come about means.
pub(crate) fn not_connected(error: ConnectError) -> JoinError {
    match error {
        ConnectError::Foreign(_) | ConnectError::Security(_) => JoinError::Unsafe(error),
        other => JoinError::Unreachable(other),
    }
}

/// What a failed call to the head means.
pub(crate) fn refusal(address: &Address, status: &tonic::Status) -> JoinError {
    let address = address.clone();
    match status.code() {
        // What a server with TLS does to a client without, and the other way round.
        tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled => {
            JoinError::BrokenOff {
                address,
                cause: innermost(status),
            }
        }
        _ => JoinError::Refused {
            address,
            message: status.message().to_owned(),
        },
    }
}

/// The cause that says something: transport errors wrap it several times.
fn innermost(status: &tonic::Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aktis_proto::v1::NodeInfo;

    fn node(session_dir: &str, is_head: bool) -> NodeInfo {
        NodeInfo {
            session_dir: session_dir.to_owned(),
            is_head,
            ..NodeInfo::default()
        }
    }

    #[test]
    fn node_beside_the_driver_is_nearer_than_the_head_elsewhere() {
        let nearest = |own: &str| {
            let mut nodes = [
                node("/b/aktis-0/2", false),
                node("/a/aktis-0/1", true),
                node("/a/aktis-0/3", false),
            ];
            nodes.sort_by_key(|node| super::distance(node, Path::new(own)));
            nodes[0].session_dir.clone()
        };
        assert_eq!(nearest("/b/aktis-0"), "/b/aktis-0/2");
        assert_eq!(nearest("/a/aktis-0"), "/a/aktis-0/1", "the head's of two");
        assert_eq!(nearest("/c/aktis-0"), "/a/aktis-0/1", "none is its own");
        assert_eq!(
            nearest("/a/aktis-00"),
            "/a/aktis-0/1",
            "a name that begins so"
        );
    }

    #[test]
    fn names_of_this_machine_mean_one_head_and_others_do_not() {
        let is_same = |left: &str, right: &str| {
            super::is_same(&left.parse().unwrap(), &right.parse().unwrap())
        };
        assert!(is_same("127.0.0.1:1", "localhost:1") && is_same("10.0.0.1:1", "10.0.0.1:1"));
        assert!(!is_same("127.0.0.1:1", "localhost:2"));
        assert!(!is_same("127.0.0.1:1", "10.0.0.1:1") && !is_same("10.0.0.2:1", "10.0.0.1:1"));
    }
}
