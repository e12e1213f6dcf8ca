//! A network in memory: every connection is two queues of bytes, each with the delay and the state of its link.
//!
//! As over TCP, bytes of a connection arrive once, in order, or never. A cut link keeps them until it heals; connections
//! over it end when somebody's patience ends (pings of HTTP/2, time limits). What TCP does not order is in the seed's
//! hands: two connections between the same hosts have delays of their own, so calls and publications overtake each other.
//! What is carried out twice is made by [`Net::lose_answers`]: a call arrives, its answer does not, and the caller tries
//! again over a new connection.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aktis_proto::transport::{Address, Carrier, Dialling, Incoming, Network};
use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::channel::mpsc;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::clock::next_random;
pub use super::host::Host;
use super::host::host_of;
use super::log::Log;

/// Bytes under way in one direction of a connection.
const WINDOW_BYTES: usize = 4 << 20;

/// One direction between two hosts.
#[derive(Debug, Clone, Default)]
struct Link {
    is_cut: bool,
    delay: Duration,
    jitter: Duration,
}

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    from: Host,
    to: Host,
    chunks: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// When the last chunk arrives: later ones arrive later.
    arrival: Instant,
    is_finished: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Connection {
    pipes: [Pipe; 2],
    /// The processes at both ends.
    processes: [u64; 2],
    is_reset: bool,
    /// Ends that were dropped.
    gone: u8,
}

struct Listening {
    process: u64,
    accept: mpsc::UnboundedSender<(u64, u8)>,
}

struct State {
    links: BTreeMap<(Host, Host), Link>,
    usual: Link,
    listeners: BTreeMap<String, Listening>,
    connections: BTreeMap<u64, Connection>,
    /// Calls for connections that wait for a link to heal.
    dialling: Vec<Waker>,
    dead: Vec<u64>,
    next: u64,
    chance: u64,
}

/// The network of a run. Cheap to clone.
#[derive(Clone)]
pub struct Net {
    state: Arc<Mutex<State>>,
    log: Log,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

impl State {
    fn link(&self, from: Host, to: Host) -> &Link {
        self.links.get(&(from, to)).unwrap_or(&self.usual)
    }

    fn link_mut(&mut self, from: Host, to: Host) -> &mut Link {
        let usual = self.usual.clone();
        self.links.entry((from, to)).or_insert(usual)
    }

    fn delay(&mut self, from: Host, to: Host) -> Duration {
        if from == to {
            return Duration::ZERO;
        }
        let link = self.link(from, to).clone();
        let share = next_random(&mut self.chance) % 1000;
        link.delay + link.jitter.mul_f64(share as f64 / 1000.0)
    }

    fn wake_all(&mut self) {
        self.dialling.drain(..).for_each(Waker::wake);
        for connection in self.connections.values_mut() {
            connection.wake();
        }
    }

    fn reset_where(&mut self, is_meant: impl Fn(&Connection) -> bool) {
        for connection in self.connections.values_mut() {
            if is_meant(connection) {
                connection.is_reset = true;
                connection.wake();
            }
        }
    }
}

impl Connection {
    fn wake(&mut self) {
        for pipe in &mut self.pipes {
            pipe.reader.take().into_iter().for_each(Waker::wake);
            pipe.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    fn is_between(&self, one: Host, other: Host) -> bool {
        let Pipe { from, to, .. } = &self.pipes[0];
        (*from, *to) == (one, other) || (*from, *to) == (other, one)
    }
}

impl Net {
    /// All links whole, with a delay of up to a millisecond.
    pub fn new(seed: u64, log: Log) -> Self {
        let state = State {
            links: BTreeMap::new(),
            usual: Link {
                is_cut: false,
                delay: Duration::from_micros(100),
                jitter: Duration::from_millis(1),
            },
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            dialling: Vec::new(),
            dead: Vec::new(),
            next: 1,
            chance: seed,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            log,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A process of a host, and its network.
    pub fn process(&self, host: Host) -> (u64, Network) {
        let mut state = self.state();
        let process = state.next;
        state.next += 1;
        let carrier = ProcessCarrier {
            net: self.clone(),
            host,
            process,
        };
        (process, Network::carried_by(Arc::new(carrier)))
    }

    /// A process ends at once: its connections break, nobody reaches it, it reaches nobody.
    pub fn end_process(&self, process: u64) {
        let mut state = self.state();
        state.dead.push(process);
        state
            .listeners
            .retain(|_, listening| listening.process != process);
        state.reset_where(|connection| connection.processes.contains(&process));
        state.wake_all();
    }

    /// Nothing passes between two hosts from now on.
    pub fn cut(&self, one: Host, other: Host) {
        self.log.note(format!("cut: {one} and {other}"));
        self.set_cut(one, other, true);
        self.set_cut(other, one, true);
    }

    /// Nothing passes in one direction.
    pub fn cut_towards(&self, from: Host, to: Host) {
        self.log.note(format!("cut: from {from} to {to}"));
        self.set_cut(from, to, true);
    }

    /// The link is whole again; what was under way arrives.
    pub fn heal(&self, one: Host, other: Host) {
        self.log.note(format!("healed: {one} and {other}"));
        self.set_cut(one, other, false);
        self.set_cut(other, one, false);
        self.state().wake_all();
    }

    /// All links are whole and quick again.
    pub fn heal_all(&self) {
        self.log.note("healed: all links");
        let mut state = self.state();
        state.links.clear();
        state.wake_all();
    }

    fn set_cut(&self, from: Host, to: Host, is_cut: bool) {
        self.state().link_mut(from, to).is_cut = is_cut;
    }

    /// Bytes between two hosts take so long, each chunk by chance.
    pub fn slow_down(&self, one: Host, other: Host, delay: Duration, jitter: Duration) {
        self.log.note(format!(
            "slow: {one} and {other}, {delay:?} and up to {jitter:?} more"
        ));
        let mut state = self.state();
        for (from, to) in [(one, other), (other, one)] {
            let link = state.link_mut(from, to);
            (link.delay, link.jitter) = (delay, jitter);
        }
    }

    /// Connections between two hosts break; new ones are possible at once.
    pub fn reset(&self, one: Host, other: Host) {
        self.log.note(format!("reset: {one} and {other}"));
        self.state()
            .reset_where(|connection| connection.is_between(one, other));
    }

    /// For so long, what `host` is asked by `asking` arrives, and its answers do not; then their connections break.
    pub async fn lose_answers(&self, asking: Host, host: Host, during: Duration) {
        self.cut_towards(host, asking);
        tokio::time::sleep(during).await;
        self.reset(asking, host);
        self.heal(asking, host);
    }

    /// Waits until nothing is cut between two hosts.
    async fn passable(&self, from: Host, to: Host) {
        poll_fn(|context| {
            let mut state = self.state();
            let is_cut = state.link(from, to).is_cut || state.link(to, from).is_cut;
            if is_cut && from != to {
                state.dialling.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    async fn dial(self, from: Host, process: u64, address: Address) -> io::Result<End> {
        let refused = || {
            io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("{address}: connection refused"),
            )
        };
        let Some(to) = host_of(&address) else {
            return Err(refused());
        };
        let delay = self.state().delay(from, to);
        tokio::time::sleep(delay).await;
        self.passable(from, to).await;
        let mut state = self.state();
        if state.dead.contains(&process) {
            return Err(io::Error::other("this process has ended"));
        }
        let id = state.next;
        state.next += 1;
        let listening = state
            .listeners
            .get(&address.to_string())
            .ok_or_else(refused)?;
        let processes = [process, listening.process];
        listening
            .accept
            .unbounded_send((id, 1))
            .map_err(|_| refused())?;
        let pipe = |from, to| Pipe {
            from,
            to,
            chunks: VecDeque::new(),
            bytes: 0,
            arrival: Instant::now(),
            is_finished: false,
            reader: None,
            writer: None,
        };
        let connection = Connection {
            pipes: [pipe(from, to), pipe(to, from)],
            processes,
            is_reset: false,
            gone: 0,
        };
        state.connections.insert(id, connection);
        drop(state);
        Ok(End::new(self, id, 0))
    }
}

/// The network as one process sees it.
#[derive(Debug)]
struct ProcessCarrier {
    net: Net,
    host: Host,
    process: u64,
}

impl Carrier for ProcessCarrier {
    fn dial(&self, address: &Address) -> Dialling {
        let dial = self
            .net
            .clone()
            .dial(self.host, self.process, address.clone());
        Box::pin(async move {
            let end = dial.await?;
            Ok(Box::new(end) as aktis_proto::transport::BoxedDuplex)
        })
    }

    fn listen(&self, address: &Address) -> io::Result<Incoming> {
        let mut state = self.net.state();
        if host_of(address) != Some(self.host) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let name = address.to_string();
        if state
            .listeners
            .get(&name)
            .is_some_and(|other| !other.accept.is_closed())
        {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (accept, accepted) = mpsc::unbounded();
        let listening = Listening {
            process: self.process,
            accept,
        };
        state.listeners.insert(name, listening);
        let net = self.net.clone();
        Ok(Box::pin(accepted.map(move |(id, side)| {
            let end = End::new(net.clone(), id, side);
            Ok(Box::new(end) as aktis_proto::transport::BoxedDuplex)
        })))
    }
}

/// One end of a connection: writes into the pipe of its side, reads from the other one.
struct End {
    net: Net,
    connection: u64,
    side: usize,
    /// Wakes the reader when the first chunk arrives.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl End {
    fn new(net: Net, connection: u64, side: u8) -> Self {
        Self {
            net,
            connection,
            side: usize::from(side),
            arrival: None,
        }
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let due = {
            let mut state = this.net.state();
            let Some(connection) = state.connections.get(&this.connection) else {
                return Poll::Ready(Err(reset()));
            };
            if connection.is_reset {
                return Poll::Ready(Err(reset()));
            }
            let pipe = &connection.pipes[1 - this.side];
            let is_cut = pipe.from != pipe.to && state.link(pipe.from, pipe.to).is_cut;
            let pipe =
                &mut state.connections.get_mut(&this.connection).unwrap().pipes[1 - this.side];
            pipe.reader = Some(context.waker().clone());
            if is_cut {
                return Poll::Pending;
            }
            match pipe.chunks.front_mut() {
                Some((due, chunk)) if *due <= Instant::now() => {
                    let count = chunk.len().min(buffer.remaining());
                    buffer.put_slice(&chunk[..count]);
                    chunk.advance(count);
                    if chunk.is_empty() {
                        pipe.chunks.pop_front();
                    }
                    pipe.bytes -= count;
                    pipe.writer.take().into_iter().for_each(Waker::wake);
                    return Poll::Ready(Ok(()));
                }
                Some((due, _)) => *due,
                None if pipe.is_finished => return Poll::Ready(Ok(())),
                None => return Poll::Pending,
            }
        };
        let mut sleep = Box::pin(tokio::time::sleep_until(due));
        if sleep.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        this.arrival = Some(sleep);
        Poll::Pending
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.net.state();
        let Some(connection) = state.connections.get(&self.connection) else {
            return Poll::Ready(Err(reset()));
        };
        if connection.is_reset || connection.gone > 0 {
            return Poll::Ready(Err(reset()));
        }
        let Pipe { from, to, .. } = connection.pipes[self.side];
        let delay = state.delay(from, to);
        let pipe = &mut state.connections.get_mut(&self.connection).unwrap().pipes[self.side];
        let room = WINDOW_BYTES - pipe.bytes.min(WINDOW_BYTES);
        if room == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(room);
        pipe.arrival = pipe.arrival.max(Instant::now() + delay);
        let chunk = (pipe.arrival, Bytes::copy_from_slice(&bytes[..count]));
        pipe.chunks.push_back(chunk);
        pipe.bytes += count;
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.state();
        if let Some(connection) = state.connections.get_mut(&self.connection) {
            let pipe = &mut connection.pipes[self.side];
            pipe.is_finished = true;
            pipe.reader.take().into_iter().for_each(Waker::wake);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let Ok(mut state) = self.net.state.lock() else {
            return;
        };
        let Some(connection) = state.connections.get_mut(&self.connection) else {
            return;
        };
        connection.gone += 1;
        connection.pipes[self.side].is_finished = true;
        connection.wake();
        if connection.gone == 2 {
            state.connections.remove(&self.connection);
        }
    }
}
