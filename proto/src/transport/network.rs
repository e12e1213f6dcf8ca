//! What carries connections: the sockets of the system, or what a test puts in their place.
//!
//! Addresses, tokens, TLS, HTTP/2, time limits and pings are the same over both, so that a cluster whose links are in a
//! test's hands runs what a daemon runs.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::codegen::http::Uri;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::Connected;
use tower::Service;

use super::address::Address;
use super::auth::ClientAuth;
use super::client::{Channel, ConnectError, connect_lazy, endpoint};
use super::security::Security;
use super::server::{ListenError, Listener};

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection that a [`Carrier`] made.
pub type BoxedDuplex = Box<dyn Duplex>;
/// A connection that is being made.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<BoxedDuplex>> + Send>>;
/// Connections that others made to an address.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<BoxedDuplex>> + Send>>;

/// Makes connections in place of the system's sockets.
pub trait Carrier: fmt::Debug + Send + Sync + 'static {
    /// Connects to whoever listens at `address`.
    fn dial(&self, address: &Address) -> Dialling;

    /// Listens at `address`.
    ///
    /// # Errors
    /// As binding a socket.
    fn listen(&self, address: &Address) -> io::Result<Incoming>;
}

/// Where the connections of a process come from and go to. Cheap to clone; by default the system's sockets.
#[derive(Debug, Clone, Default)]
pub struct Network {
    pub(super) carrier: Option<Arc<dyn Carrier>>,
}

impl Network {
    /// The system's sockets.
    pub fn system() -> Self {
        Self::default()
    }

    /// Connections that `carrier` makes.
    pub fn carried_by(carrier: Arc<dyn Carrier>) -> Self {
        Self {
            carrier: Some(carrier),
        }
    }

    /// A connection that opens with its first call.
    ///
    /// # Errors
    /// When the TLS settings are not usable.
    pub fn connect_lazy(
        &self,
        address: &Address,
        security: &Security,
    ) -> Result<Channel, ConnectError> {
        let Some(carrier) = &self.carrier else {
            return connect_lazy(address, security);
        };
        let dialler = Dialler {
            carrier: Arc::clone(carrier),
            address: address.clone(),
        };
        let channel = endpoint(address, security)?.connect_with_connector_lazy(dialler);
        Ok(InterceptedService::new(channel, ClientAuth::new(security)))
    }

    /// Listens at `address`, see [`Listener::bind`].
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub async fn bind(
        &self,
        address: &Address,
        security: &Security,
    ) -> Result<Listener, ListenError> {
        match &self.carrier {
            None => Listener::bind(address, security).await,
            Some(carrier) => Listener::carried(carrier.as_ref(), address, security),
        }
    }
}

/// Opens a channel's connections through a carrier.
#[derive(Debug, Clone)]
struct Dialler {
    carrier: Arc<dyn Carrier>,
    address: Address,
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<BoxedDuplex>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialling = self.carrier.dial(&self.address);
        Box::pin(async move { dialling.await.map(TokioIo::new) })
    }
}

/// A connection as a server takes it.
pub(super) struct Accepted(pub(super) BoxedDuplex);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
