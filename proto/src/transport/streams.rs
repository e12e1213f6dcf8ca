//! Streams of bytes beside gRPC, for what is too much for messages.
//!
//! Addresses, certificates, users, versions, tokens and strangers are looked at as those of calls are (`NET-1` to `NET-5`). What
//! differs: a stream is checked once, when it opens.
//!
//! ```text
//!  opener ── magic | u16 n | version | u16 n | token ──► acceptor
//!  opener ◄── u8 0: welcome      u8 1 | u16 n | why not ── acceptor
//! ```

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::Connected;

use super::address::Address;
use super::auth::is_equal;
use super::client::{CONNECT_TIMEOUT, ConnectError, foreign};
use super::door::{Door, Visitor};
use super::network::{BoxedDuplex, Network};
use super::peer::dial;
use super::security::{Security, TLS_NAME, TlsPaths};
use super::server::{ListenError, Listener, Socket};
use crate::{VERSION, refusal_of_version};

const MAGIC: [u8; 8] = *b"aktis-s1";
/// Time to the end of the hello, TLS included.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What is read of a socket at once.
const READ_BYTES: usize = 128 << 10;
const WELCOME: u8 = 0;
const REFUSED: u8 = 1;

impl Network {
    /// Opens a stream to whoever serves them at `address`.
    ///
    /// # Errors
    /// When nobody answers within the connect time-out, or does not take this process for one of its cluster.
    pub async fn open_stream(
        &self,
        address: &Address,
        security: &Security,
    ) -> Result<BoxedDuplex, ConnectError> {
        security
            .check_client(address)
            .map_err(ConnectError::Security)?;
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, self.open(address, security));
        opened.await.unwrap_or_else(|_| {
            let waited = CONNECT_TIMEOUT.as_secs();
            Err(unreachable(address, format!("no stream after {waited} s")))
        })
    }

    async fn open(
        &self,
        address: &Address,
        security: &Security,
    ) -> Result<BoxedDuplex, ConnectError> {
        let failed = |error: io::Error| match foreign(&error) {
            Some(peer) => ConnectError::Foreign(peer),
            None => unreachable(address, error),
        };
        let tls = match (address, &security.tls) {
            (Address::Tcp { .. }, Some(tls)) => Some(tls),
            _ => None,
        };
        let mut stream = match (&self.carrier, address) {
            (Some(carrier), _) => carrier.dial(address).await.map_err(failed)?,
            (None, Address::Tcp { host, port }) if tls.is_some() => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                let stream = stream.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                Box::new(stream)
            }
            // NET-3
            (None, _) => dial(address).await.map_err(failed)?,
        };
        if let Some(tls) = tls {
            let connector = tls.stream_client().map_err(ConnectError::Security)?;
            let name = ServerName::try_from(TLS_NAME).expect("a name");
            let secured = connector.connect(name, read_ahead(stream)).await;
            stream = Box::new(secured.map_err(failed)?);
        }
        let refusal = greet(&mut stream, security).await.map_err(failed)?;
        match refusal {
            None => Ok(stream),
            Some(cause) => Err(ConnectError::Refused {
                address: address.clone(),
                cause,
            }),
        }
    }
}

/// TLS asks for 4 KiB at a time, each of which would be a call of the system.
fn read_ahead(stream: BoxedDuplex) -> BufReader<BoxedDuplex> {
    BufReader::with_capacity(READ_BYTES, stream)
}

fn unreachable(address: &Address, cause: impl Display) -> ConnectError {
    ConnectError::Unreachable {
        address: address.clone(),
        cause: cause.to_string(),
    }
}

/// Says who this is; gives why the other side does not want it.
async fn greet(stream: &mut BoxedDuplex, security: &Security) -> io::Result<Option<String>> {
    let mut hello = MAGIC.to_vec();
    let token = security.token.as_ref().map_or("", |token| token.expose());
    for text in [VERSION, token] {
        put_text(&mut hello, text)?;
    }
    stream.write_all(&hello).await?;
    stream.flush().await?;
    match stream.read_u8().await? {
        WELCOME => Ok(None),
        _ => take_text(stream).await.map(Some),
    }
}

/// Gives streams that others open to `serve`, each in a task of its own that ends with this.
///
/// # Errors
/// When the TLS files are unusable.
pub async fn serve_streams<F>(
    listener: Listener,
    security: &Security,
    serve: impl Fn(BoxedDuplex) -> F + Clone + Send + 'static,
) -> Result<(), ListenError>
where
    F: Future<Output = ()> + Send,
{
    let Listener { socket, address } = listener;
    let is_tcp = matches!(address, Address::Tcp { .. });
    let tls = security.tls.as_ref().filter(|_| is_tcp);
    let tls = tls.map(TlsPaths::stream_server).transpose();
    let tls = tls.map_err(ListenError::Security)?;
    let mut arrivals = arrivals(socket);
    let mut served = JoinSet::new();
    loop {
        tokio::select! {
            arrival = arrivals.next() => {
                let Some(arrival) = arrival else { return Ok(()) };
                let (tls, security, serve) = (tls.clone(), security.clone(), serve.clone());
                served.spawn(async move {
                    match tokio::time::timeout(HELLO_PATIENCE, let_in(arrival, tls, &security)).await {
                        Ok(Ok(stream)) => serve(stream).await,
                        Ok(Err(error)) => tracing::debug!(%error, "a stream is not let in"),
                        Err(_) => tracing::debug!("a stream that said nothing is left"),
                    }
                });
            }
            _ = served.join_next(), if !served.is_empty() => {}
        }
    }
}

/// Somebody who has proved nothing yet.
struct Arrival {
    stream: BoxedDuplex,
    /// Over TCP (`NET-5`).
    visitor: Option<Visitor>,
    /// Whether the kernel says that it is of another user (`NET-2`).
    is_foreign: bool,
}

fn arrivals(socket: Socket) -> Pin<Box<dyn Stream<Item = Arrival> + Send>> {
    match socket {
        Socket::Tcp(socket) => {
            let incoming = Door::new().incoming(socket);
            Box::pin(incoming.filter_map(|guarded| async {
                let guarded = guarded.ok()?;
                Some(Arrival {
                    visitor: Some(guarded.connect_info()),
                    stream: Box::new(guarded),
                    is_foreign: false,
                })
            }))
        }
        Socket::Unix(socket) => {
            Box::pin(UnixListenerStream::new(socket).filter_map(|stream| async {
                let stream = match stream {
                    Ok(stream) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "a stream cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        return None;
                    }
                };
                let own = rustix::process::geteuid().as_raw();
                let peer = stream.peer_cred();
                Some(Arrival {
                    is_foreign: !peer.is_ok_and(|peer| [own, 0].contains(&peer.uid())),
                    stream: Box::new(stream),
                    visitor: None,
                })
            }))
        }
        Socket::Carried(incoming) => Box::pin(incoming.filter_map(|stream| async {
            Some(Arrival {
                stream: stream.ok()?,
                visitor: None,
                is_foreign: false,
            })
        })),
    }
}

/// Looks at who it is.
async fn let_in(
    arrival: Arrival,
    tls: Option<TlsAcceptor>,
    security: &Security,
) -> io::Result<BoxedDuplex> {
    let Arrival {
        mut stream,
        visitor,
        is_foreign,
    } = arrival;
    if let Some(tls) = tls {
        stream = Box::new(tls.accept(read_ahead(stream)).await?);
    }
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).await?;
    if magic != MAGIC {
        return Err(io::Error::other("it does not speak like a node"));
    }
    let (version, token) = (take_text(&mut stream).await?, take_text(&mut stream).await?);
    let is_right = security
        .token
        .as_ref()
        .is_none_or(|expected| is_equal(token.as_bytes(), expected.expose().as_bytes()));
    let refusal = if is_foreign {
        Some("this socket belongs to another user".to_owned())
    } else if !is_right {
        Some("the token is missing or wrong".to_owned())
    } else if version != VERSION {
        Some(refusal_of_version("node", &version))
    } else {
        None
    };
    let mut answer = vec![WELCOME];
    if let Some(cause) = &refusal {
        answer = vec![REFUSED];
        put_text(&mut answer, cause)?;
    }
    stream.write_all(&answer).await?;
    stream.flush().await?;
    if let Some(cause) = refusal {
        return Err(io::Error::other(cause));
    }
    if let Some(visitor) = visitor {
        visitor.is_known_now();
    }
    Ok(stream)
}

fn put_text(buffer: &mut Vec<u8>, text: &str) -> io::Result<()> {
    let length = u16::try_from(text.len()).map_err(io::Error::other)?;
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(text.as_bytes());
    Ok(())
}

async fn take_text(stream: &mut BoxedDuplex) -> io::Result<String> {
    let length = stream.read_u16_le().await?;
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
