//! Opens connections.

use std::time::Duration;

use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;

use super::MAX_MESSAGE_BYTES;
use super::address::Address;
use super::auth::ClientAuth;
use super::peer::{ForeignPeer, OwnPeers};
use super::security::{Security, SecurityError};
use crate::v1::gcs_client::GcsClient;
use crate::v1::raylet_client::RayletClient;

/// How long a connection may take to open.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that does not answer a ping for this long is gone.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent peer is pinged.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// HTTP/2 windows: large, so that one stream fills a fast network.
const WINDOW_BYTES: u32 = 16 << 20;

/// A connection that adds the cluster's token to every call. Cheap to clone; opens itself again after a failure.
pub type Channel = InterceptedService<tonic::transport::Channel, ClientAuth>;

/// A connection that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers.
    #[error("{address} does not answer ({cause})")]
    Unreachable {
        /// Where.
        address: Address,
        /// What the system said.
        cause: String,
    },
    /// Whoever answers does not take the stream.
    #[error("{address} refuses: {cause}")]
    Refused {
        /// Where.
        address: Address,
        /// What it said.
        cause: String,
    },
    /// Somebody else's process answers.
    #[error("{0}")]
    Foreign(ForeignPeer),
    /// The TLS files are not usable, or missing.
    #[error("{0}")]
    Security(SecurityError),
    /// The TLS files are not certificates, or the address is no URI.
    #[error("{address} cannot be used with these settings: {cause}")]
    Unusable {
        /// Where.
        address: Address,
        /// What the transport said.
        cause: String,
    },
}

/// Opens a connection and waits until it stands.
///
/// # Errors
/// When nobody answers within the connect time-out, or the TLS settings are not usable.
pub async fn connect(address: &Address, security: &Security) -> Result<Channel, ConnectError> {
    let endpoint = endpoint(address, security)?;
    let connecting = async {
        match own_peers(address, security) {
            Some(peers) => endpoint.connect_with_connector(peers).await,
            None => endpoint.connect().await,
        }
    };
    let unreachable = |cause: String| ConnectError::Unreachable {
        address: address.clone(),
        cause,
    };
    let channel = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| {
            unreachable(format!(
                "no connection after {} s",
                CONNECT_TIMEOUT.as_secs()
            ))
        })?
        .map_err(|error| match foreign(&error) {
            Some(peer) => ConnectError::Foreign(peer),
            None => unreachable(innermost(&error)),
        })?;
    Ok(InterceptedService::new(channel, ClientAuth::new(security)))
}

/// A connection that opens with its first call.
///
/// # Errors
/// When the TLS settings are not usable.
pub fn connect_lazy(address: &Address, security: &Security) -> Result<Channel, ConnectError> {
    let endpoint = endpoint(address, security)?;
    let channel = match own_peers(address, security) {
        Some(peers) => endpoint.connect_with_connector_lazy(peers),
        None => endpoint.connect_lazy(),
    };
    Ok(InterceptedService::new(channel, ClientAuth::new(security)))
}

/// A client of the gcs that takes messages of any size Aktis sends.
pub fn gcs_client(channel: Channel) -> GcsClient<Channel> {
    GcsClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of a raylet that takes messages of any size Aktis sends.
pub fn raylet_client(channel: Channel) -> RayletClient<Channel> {
    RayletClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

pub(super) fn endpoint(address: &Address, security: &Security) -> Result<Endpoint, ConnectError> {
    let unusable = |error: tonic::transport::Error| ConnectError::Unusable {
        address: address.clone(),
        cause: innermost(&error),
    };
    let Address::Tcp { .. } = address else {
        return Endpoint::from_shared(address.to_string()).map_err(unusable);
    };
    security
        .check_client(address)
        .map_err(ConnectError::Security)?;
    let scheme = if security.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", address.authority()))
        .map_err(unusable)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    if let Some(tls) = &security.tls {
        let config = tls.client().map_err(ConnectError::Security)?;
        endpoint = endpoint.tls_config(config).map_err(unusable)?;
    }
    Ok(endpoint)
}

/// `NET-3`, where no certificate says who the other end is.
fn own_peers(address: &Address, security: &Security) -> Option<OwnPeers> {
    let is_certified = security.tls.is_some() && matches!(address, Address::Tcp { .. });
    (!is_certified).then(|| OwnPeers {
        address: address.clone(),
    })
}

pub(super) fn foreign(error: &(dyn std::error::Error + 'static)) -> Option<ForeignPeer> {
    let mut current = Some(error);
    while let Some(error) = current {
        // An io::Error shows what it wraps only when asked.
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref());
        if let Some(peer) = wrapped.or_else(|| error.downcast_ref()) {
            return Some(ForeignPeer::clone(peer));
        }
        current = error.source();
    }
    None
}

/// The cause that says something: transport errors wrap it several times.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}
