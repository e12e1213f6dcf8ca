//! Listens and serves.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;

use super::address::Address;
use super::auth::ServerAuth;
use super::door::Door;
use super::network::{Accepted, Carrier, Incoming};
use super::security::{Security, SecurityError};

/// A client that does not answer a ping for this long is gone.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent client is pinged.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// HTTP/2 windows: large, so that one stream fills a fast network.
const WINDOW_BYTES: u32 = 16 << 20;

/// A bound socket.
pub struct Listener {
    pub(super) socket: Socket,
    pub(super) address: Address,
}

pub(super) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
    /// No socket of the system.
    Carried(Incoming),
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A server that cannot listen or serve.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Protection is missing or unusable.
    #[error("{0}")]
    Security(SecurityError),
    /// Somebody else listens there.
    #[error("{address} is in use; stop what listens there, or choose another port")]
    InUse {
        /// Where.
        address: Address,
    },
    /// The system refuses.
    #[error("cannot listen on {address}: {cause}")]
    Refused {
        /// Where.
        address: Address,
        /// What the system said.
        cause: String,
    },
    /// Serving ended with an error.
    #[error("serving on {address} ended: {cause}")]
    Ended {
        /// Where.
        address: Address,
        /// What the transport said.
        cause: String,
    },
}

impl Listener {
    /// Binds `address`. A unix socket is made for this user only; a socket file that a killed process left is replaced.
    ///
    /// # Errors
    /// When the address is taken, not this machine's, or open to others without token and TLS (`NET-1`).
    pub async fn bind(address: &Address, security: &Security) -> Result<Self, ListenError> {
        security
            .check_listener(address)
            .map_err(ListenError::Security)?;
        let bound = match address {
            Address::Unix(path) => bind_unix(path)
                .await
                .map(|socket| (Socket::Unix(socket), address.clone())),
            Address::Tcp { host, port } => bind_tcp(host, *port).await,
        };
        let (socket, address) = bound.map_err(|error| not_bound(address, &error))?;
        Ok(Self { socket, address })
    }

    /// Listens where `carrier` takes connections, under the same rules.
    pub(super) fn carried(
        carrier: &dyn Carrier,
        address: &Address,
        security: &Security,
    ) -> Result<Self, ListenError> {
        security
            .check_listener(address)
            .map_err(ListenError::Security)?;
        let incoming = carrier
            .listen(address)
            .map_err(|error| not_bound(address, &error))?;
        Ok(Self {
            socket: Socket::Carried(incoming),
            address: address.clone(),
        })
    }

    /// Where it listens; a port of 0 has become the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

fn not_bound(address: &Address, error: &io::Error) -> ListenError {
    let address = address.clone();
    match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address },
        _ => ListenError::Refused {
            address,
            cause: error.to_string(),
        },
    }
}

async fn bind_tcp(host: &str, port: u16) -> io::Result<(Socket, Address)> {
    let socket = TcpListener::bind((host, port)).await?;
    let port = socket.local_addr()?.port();
    Ok((
        Socket::Tcp(socket),
        Address::Tcp {
            host: host.to_owned(),
            port,
        },
    ))
}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

/// Serves `routes` until `shutdown`, then lets running calls end. Checks every call (`NET-2`).
///
/// # Errors
/// When the TLS files are unusable or the transport fails.
pub async fn serve(
    listener: Listener,
    security: &Security,
    routes: Routes,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ListenError> {
    let Listener { socket, address } = listener;
    let ended = |error: tonic::transport::Error| ListenError::Ended {
        address: address.clone(),
        cause: format!(
            "{error}: {}",
            std::error::Error::source(&error).map_or(String::new(), ToString::to_string)
        ),
    };
    let mut server = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    if !matches!(socket, Socket::Unix(_)) {
        server = server
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT));
        if let Some(tls) = &security.tls {
            let config = tls.server().map_err(ListenError::Security)?;
            server = server.tls_config(config).map_err(ended)?;
        }
    }
    let router = server
        .layer(InterceptorLayer::new(ServerAuth::new(security)))
        .add_routes(routes);
    let result = match socket {
        Socket::Unix(socket) => {
            router
                .serve_with_incoming_shutdown(UnixListenerStream::new(socket), shutdown)
                .await
        }
        Socket::Tcp(socket) => {
            router
                .serve_with_incoming_shutdown(Door::new().incoming(socket), shutdown)
                .await
        }
        Socket::Carried(incoming) => {
            let accepted = incoming.map(|connection| connection.map(Accepted));
            router
                .serve_with_incoming_shutdown(accepted, shutdown)
                .await
        }
    };
    result.map_err(ended)
}
