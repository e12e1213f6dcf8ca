//! The only loop of a raylet: messages in, core, effects out.
//!
//! ```text
//!  Inbox ──► RayletLoop ──► core (events) ──► effects ──► io
//!                │                                           │
//!                └── store frames ──► StorePort ── answers ──┤
//!                                                            ▼
//!                                     one write per connection and round (Links)
//! ```

mod effects;
mod memory;
mod round;
mod shutdown;
mod transfers;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::ids::{ObjectId, WorkerId};
use aktis_proto::v1::HelloReply;
use rustc_hash::FxHashMap;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

use crate::core::RayletCore;
use crate::core::effect::Epitaph;
use crate::core::event::{CallAnswer, Event, PullFailure};
use crate::core::keys::{CallId, ReplyTo};
use crate::inbox::{Inbox, Mailbox, Message, RayletEnd};
use crate::io::gcs::GcsPort;
use crate::io::links::{Leftover, Links};
use crate::io::logs::LogPort;
use crate::io::peers::Peers;
use crate::io::store::StorePort;
use crate::io::zygote::ZygotePort;
use crate::processes::Processes;
use crate::transfer::{PullPlace, Reading, TransferStreams};
use memory::MemoryWatch;

/// Messages and frames of one round; then what they caused is written out.
const ROUND: usize = 256;
/// How often the store is told the time.
const STORE_TICK: Duration = Duration::from_millis(200);

/// Everything the loop acts on.
pub(crate) struct Ports {
    pub(crate) links: Links,
    pub(crate) store: StorePort,
    pub(crate) zygote: ZygotePort,
    pub(crate) gcs: GcsPort,
    pub(crate) peers: Peers,
    pub(crate) streams: TransferStreams,
    pub(crate) logs: LogPort,
}

/// What the loop knows of its surroundings.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// What every process is told; job and namespace are filled in.
    pub(crate) welcome: HelloReply,
    pub(crate) node_socket: PathBuf,
    pub(crate) node_dir: PathBuf,
    pub(crate) lane_dir: PathBuf,
    pub(crate) zygote_log: PathBuf,
    pub(crate) hostname: String,
    pub(crate) worker_env: std::collections::BTreeMap<String, String>,
    pub(crate) processes: Arc<dyn Processes>,
    /// Where runs what may take its time.
    pub(crate) beside: Handle,
    /// Accept loops and servers, ended first.
    pub(crate) listeners: Vec<JoinHandle<()>>,
}

/// A copy that is being fetched.
struct PullTask {
    task: AbortHandle,
    attempt: u64,
    /// Bytes that were there when it began.
    arrived_before: u64,
    place: Option<PullPlace>,
    owner: aktis_proto::v1::Address,
    awaiting_place: Option<oneshot::Sender<Result<PullPlace, PullFailure>>>,
}

/// The loop and what it holds.
pub(crate) struct RayletLoop {
    core: RayletCore,
    ports: Ports,
    surroundings: Surroundings,
    mailbox: Mailbox,
    /// What the effects of this round caused.
    backlog: VecDeque<Event>,
    calls: FxHashMap<CallId, oneshot::Sender<CallAnswer>>,
    forwards: FxHashMap<ReplyTo, AbortHandle>,
    pulls: FxHashMap<ObjectId, PullTask>,
    next_attempt: u64,
    /// Transfers to other nodes.
    reads: FxHashMap<CallId, Reading>,
    /// Workers that are gone from the pool, until all their lines are sent.
    epitaphs: FxHashMap<WorkerId, Epitaph>,
    leftovers: Vec<Leftover>,
    next_store_tick: Instant,
    memory: MemoryWatch,
    /// What the store held when the node reported of itself.
    /// In memory, and on the disk.
    reported_store_bytes: [u64; 2],
}

impl RayletLoop {
    pub(crate) fn new(
        core: RayletCore,
        ports: Ports,
        surroundings: Surroundings,
        mailbox: Mailbox,
    ) -> Self {
        Self {
            core,
            ports,
            surroundings,
            mailbox,
            backlog: VecDeque::new(),
            calls: FxHashMap::default(),
            forwards: FxHashMap::default(),
            pulls: FxHashMap::default(),
            next_attempt: 0,
            reads: FxHashMap::default(),
            epitaphs: FxHashMap::default(),
            leftovers: Vec::new(),
            next_store_tick: Instant::now() + STORE_TICK,
            memory: MemoryWatch::default(),
            reported_store_bytes: [0; 2],
        }
    }

    /// Runs until the shutdown message; gives what that says.
    pub(crate) async fn run(mut self, mut inbox: Inbox) -> RayletEnd {
        // The first workers are wanted before anybody asks.
        self.handle(Event::Tick);
        self.end_round();
        loop {
            let wake_at = self.wake_at();
            let end = tokio::select! {
                biased;
                news = inbox.processes.recv() => match news {
                    Some((connection, news)) => {
                        self.on_process(connection, news);
                        None
                    }
                    None => None,
                },
                message = inbox.messages.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => None,
                },
                request = inbox.requests.recv() => match request {
                    Some(request) => self.on_message(request),
                    None => None,
                },
                () = tokio::time::sleep_until(wake_at.into()) => None,
            };
            let end = end.or_else(|| self.drain(&mut inbox));
            self.on_time();
            self.end_round();
            if let Some(end) = end {
                let why = end.why.clone();
                self.shut_down(end).await;
                return why;
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let others = self.core.next_deadline().into_iter();
        others
            .chain(self.memory.next_look())
            .fold(self.next_store_tick, Instant::min)
    }

    /// Takes what else has come, so that it shares this round's writes.
    fn drain(&mut self, inbox: &mut Inbox) -> Option<shutdown::End> {
        for _ in 0..ROUND {
            let mut is_quiet = true;
            if let Ok((connection, news)) = inbox.processes.try_recv() {
                self.on_process(connection, news);
                is_quiet = false;
            }
            for message in [inbox.messages.try_recv(), inbox.requests.try_recv()] {
                let Ok(message) = message else { continue };
                let end = self.on_message(message);
                if end.is_some() {
                    return end;
                }
                is_quiet = false;
            }
            if is_quiet {
                break;
            }
        }
        None
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if now >= self.memory.next_look().unwrap_or(self.next_store_tick) {
            self.look_at_memory(now);
        }
        if now >= self.next_store_tick {
            self.next_store_tick = now + STORE_TICK;
            self.ports.store.on_tick(now);
            let stats = self.ports.store.stats();
            if [stats.used_bytes, stats.spill_file_bytes] != self.reported_store_bytes {
                self.handle(Event::StoreUseChanged);
            }
        }
        if self.core.next_deadline().is_some_and(|at| at <= now) {
            self.handle(Event::Tick);
        }
    }

    /// Takes in one event and everything it causes here.
    fn handle(&mut self, event: Event) {
        self.backlog.push_back(event);
        let mut effects = Vec::new();
        while let Some(event) = self.backlog.pop_front() {
            self.core.handle(event, Instant::now(), &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(effect);
            }
            self.take_store_outputs();
        }
    }

    /// Writes what this round has to say.
    fn end_round(&mut self) {
        self.take_store_outputs();
        while let Some(event) = self.backlog.pop_front() {
            self.handle(event);
        }
        self.ports.links.flush(&mut self.leftovers);
        for Leftover::AwaitWritable(connection, stream) in self.leftovers.drain(..) {
            let mailbox = self.mailbox.clone();
            tokio::spawn(async move {
                // On failure the reader of the connection sees its end.
                if stream.writable().await.is_ok() {
                    mailbox.send(Message::Writable(connection));
                }
            });
        }
    }
}
