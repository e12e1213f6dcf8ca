//! Connections that have proved nothing yet (`NET-5 (strangers-are-few)`).
//!
//! Anybody who reaches a port can open connections and say nothing, and each costs a descriptor. So a connection has a few
//! seconds to its first call with the right token, TLS included, and those that have not made one yet are limited: a new one
//! takes the place of the oldest. Whoever belongs to the cluster calls at once and is a stranger for milliseconds.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::task::AtomicWaker;
use rustix::process::Resource;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// Time to the first call.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most strangers, and the share of the process's descriptors that they may take.
const MOST_STRANGERS: u64 = 256;
const DESCRIPTOR_SHARE: u64 = 4;
/// Pause after an accept that failed, for example because no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come in.
#[derive(Debug)]
pub(super) struct Door {
    limit: usize,
    patience: Duration,
    strangers: Mutex<Strangers>,
}

#[derive(Debug, Default)]
struct Strangers {
    next: u64,
    waiting: BTreeMap<u64, Arc<Standing>>,
}

/// What is known of a connection.
#[derive(Debug, Default)]
struct Standing {
    is_known: AtomicBool,
    is_turned_away: AtomicBool,
    waker: AtomicWaker,
}

/// A connection, for whoever checks its calls.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    number: u64,
    standing: Arc<Standing>,
    door: Arc<Door>,
}

impl Door {
    pub(super) fn new() -> Arc<Self> {
        let descriptors = rustix::process::getrlimit(Resource::Nofile).current;
        let share = descriptors.map_or(MOST_STRANGERS, |count| count / DESCRIPTOR_SHARE);
        let limit = usize::try_from(share.clamp(8, MOST_STRANGERS)).expect("a small number");
        Self::with(limit, PATIENCE)
    }

    fn with(limit: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit,
            patience,
            strangers: Mutex::default(),
        })
    }

    /// The connections of a listener. Never ends, and never fails: what cannot be accepted now can be later.
    pub(super) fn incoming(
        self: Arc<Self>,
        listener: TcpListener,
    ) -> impl Stream<Item = io::Result<Guarded>> + Send + Unpin {
        let accepting = futures::stream::unfold((self, listener), |(door, listener)| async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // Small frames must not wait for more; fails only for a connection that is over.
                        let _ = stream.set_nodelay(true);
                        return Some((Ok(door.admit(stream)), (door, listener)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        door.turn_oldest_away(0);
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        Box::pin(accepting)
    }

    fn admit(self: &Arc<Self>, stream: TcpStream) -> Guarded {
        self.turn_oldest_away(self.limit - 1);
        let standing = Arc::new(Standing::default());
        let mut strangers = self.strangers();
        let number = strangers.next;
        strangers.next += 1;
        strangers.waiting.insert(number, Arc::clone(&standing));
        drop(strangers);
        Guarded {
            stream,
            visitor: Visitor {
                number,
                standing,
                door: Arc::clone(self),
            },
            deadline: Some(Box::pin(tokio::time::sleep(self.patience))),
        }
    }

    /// Leaves at most so many strangers, but turns only one away at a time.
    fn turn_oldest_away(&self, most: usize) {
        let mut strangers = self.strangers();
        if strangers.waiting.len() > most
            && let Some((_, oldest)) = strangers.waiting.pop_first()
        {
            oldest.is_turned_away.store(true, Ordering::Release);
            oldest.waker.wake();
        }
    }

    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        self.strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor {
    /// It has shown that it belongs to the cluster.
    pub(super) fn is_known_now(&self) {
        if !self.standing.is_known.swap(true, Ordering::AcqRel) {
            self.door.strangers().waiting.remove(&self.number);
        }
    }
}

/// A connection that ends by itself while its other end is a stranger.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: TcpStream,
    visitor: Visitor,
    /// `None` once the visitor is known.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(deadline) = &mut self.deadline else {
            return Ok(());
        };
        let standing = &self.visitor.standing;
        if standing.is_known.load(Ordering::Acquire) {
            self.deadline = None;
            return Ok(());
        }
        standing.waker.register(context.waker());
        if standing.is_turned_away.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let visitor = &self.visitor;
        visitor.door.strangers().waiting.remove(&visitor.number);
    }
}

impl Connected for Guarded {
    type ConnectInfo = Visitor;

    fn connect_info(&self) -> Visitor {
        self.visitor.clone()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 and TLS always have a read under way.
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn open(
        limit: usize,
        patience: Duration,
    ) -> (
        impl Stream<Item = io::Result<Guarded>> + Unpin,
        std::net::SocketAddr,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Door::with(limit, patience).incoming(listener), address)
    }

    #[tokio::test]
    async fn new_stranger_takes_the_place_of_the_oldest_and_known_ones_stay() {
        let (mut incoming, address) = open(2, Duration::from_secs(3600)).await;
        let mut clients = Vec::new();
        let mut served = Vec::new();
        for number in 0..4 {
            clients.push(TcpStream::connect(address).await.unwrap());
            let guarded = incoming.next().await.unwrap().unwrap();
            if number == 0 {
                guarded.visitor.is_known_now();
            }
            served.push(guarded);
        }
        let mut buffer = [0; 1];
        let error = served[1].read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "NET-5");
        for client in &mut clients {
            tokio::io::AsyncWriteExt::write_all(client, b"x")
                .await
                .unwrap();
        }
        for number in [0, 2, 3] {
            assert_eq!(served[number].read(&mut buffer).await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn silent_stranger_is_left_after_a_while_and_a_known_one_is_not() {
        // Much longer than a busy machine needs to say that somebody is known.
        let patience = Duration::from_millis(500);
        let (mut incoming, address) = open(8, patience).await;
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut served = incoming.next().await.unwrap().unwrap();
        let error = served.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "NET-5");
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut known = incoming.next().await.unwrap().unwrap();
        known.visitor.is_known_now();
        let mut buffer = [0; 1];
        let read = known.read(&mut buffer);
        assert!(tokio::time::timeout(2 * patience, read).await.is_err());
    }
}
