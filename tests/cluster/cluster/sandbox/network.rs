//! A network in memory: every connection is two queues of bytes, each with the delay and the state of its link.
//!
//! # What arrives twice, or in another order
//! As over TCP, bytes of a connection arrive once, in order, or never: nothing is reordered or doubled inside one, because
//! nothing real does that. HTTP/2 keeps the order of the bytes of one stream, and tonic hands a call to its service at most
//! once for each time that it is sent; between streams of a connection (calls at the same time, a call and a subscription)
//! nobody promises an order. So there are two ways left, and both are here:
//! - **Twice**: a unary call whose answer is lost is sent again by whoever repeats calls (`raylet/src/io/gcs`, the gcs's
//!   requests for actors). [`Net::lose_answers`] has calls arrive and takes their answers away.
//! - **Another order**: two connections between the same hosts have delays of their own ([`Net::slow_down`]), so calls and
//!   publications overtake each other. And a cut link keeps what is under way until it heals: a caller that gave up
//!   meanwhile and called again over a new connection is overtaken by itself, its first call arrives last.
//!
//! Lanes are not in here (processes pretend): frames of a lane arrive in order or not at all, a lane that ends is never
//! taken up again, and what was on it is repeated under a new attempt (`worker/src/core`).
//!
//! Connections over a cut link end when somebody's patience ends (pings of HTTP/2, time limits).

mod end;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use aktis_proto::transport::{Address, Carrier, Dialling, Incoming, Network};
use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use tokio::time::Instant;

use self::end::End;
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
