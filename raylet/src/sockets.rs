//! Where a raylet listens, and what is served there.

use std::path::PathBuf;

use aktis_proto::transport::{Address, Listener, serve, serve_streams};
use aktis_proto::v1::raylet_server::RayletServer;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::config::RayletConfig;
use crate::error::StartError;
use crate::inbox::Mailbox;
use crate::io::process_socket::bind_private;
use crate::service::RayletService;
use crate::transfer;

/// What tonic takes from one peer.
const MAX_MESSAGE_BYTES: usize = aktis_proto::transport::MAX_MESSAGE_BYTES;

/// Everything that listens.
pub(crate) struct Sockets {
    pub(crate) node: UnixListener,
    pub(crate) proxy: UnixListener,
    pub(crate) grpc: Listener,
    pub(crate) transfers: Listener,
}

/// Binds all of them.
pub(crate) async fn bind(config: &RayletConfig) -> Result<Sockets, StartError> {
    let private =
        |path: PathBuf| bind_private(&path).map_err(|source| StartError::Socket { path, source });
    let node = private(config.node_socket())?;
    let proxy = private(config.proxy_socket())?;
    let grpc = config
        .network
        .bind(&config.listen, &config.security)
        .await
        .map_err(|cause| StartError::Listen { cause })?;
    let transfers = config
        .network
        .bind(&config.transfer_listen(), &config.security)
        .await
        .map_err(|cause| StartError::Listen { cause })?;
    Ok(Sockets {
        node,
        proxy,
        grpc,
        transfers,
    })
}

/// The address that other nodes are told.
pub(crate) fn advertised(config: &RayletConfig, bound: &Address) -> Address {
    match (bound, &config.advertised_host) {
        (Address::Tcp { port, .. }, Some(host)) => Address::Tcp {
            host: host.clone(),
            port: *port,
        },
        _ => bound.clone(),
    }
}

/// Serves calls of other nodes and of the gcs.
pub(crate) fn serve_calls(
    listener: Listener,
    config: &RayletConfig,
    service: RayletService,
    beside: &Handle,
) -> JoinHandle<()> {
    let server = RayletServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let routes = tonic::service::Routes::new(server);
    let security = config.security.clone();
    beside.spawn(async move {
        if let Err(error) = serve(listener, &security, routes, std::future::pending()).await {
            tracing::error!(%error, "calls of other nodes are no longer served");
        }
    })
}

/// Serves streams for copies.
pub(crate) fn serve_transfers(
    listener: Listener,
    config: &RayletConfig,
    mailbox: Mailbox,
    beside: &Handle,
) -> JoinHandle<()> {
    let security = config.security.clone();
    let serve = move |stream| transfer::serve(stream, mailbox.clone());
    beside.spawn(async move {
        if let Err(error) = serve_streams(listener, &security, serve).await {
            tracing::error!(%error, "objects are no longer sent to other nodes");
        }
    })
}
