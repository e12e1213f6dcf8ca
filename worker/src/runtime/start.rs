//! How a process joins its node.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aktis_common::config::Infeasible;
use aktis_common::error::ErrorCode;
use aktis_common::ids::{JobId, NodeId, WorkerId};
use aktis_lane::{Acceptor, Decoder, Reactor};
use aktis_object_store::client::ArenaMap;
use aktis_proto::v1 as wire;
use parking_lot::Mutex;
use rustix::fs::rename;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use rustix::process::{Uid, geteuid, getpid};

use super::at_work::Waits;
use super::gate::CoreGate;
use super::lane_table::Lanes;
use super::node_events::NodeHandler;
use super::streams::StreamWindows;
use super::{Assignment, Inner, LogSink, Runtime, RuntimeTicker};
use crate::core::Core;
use crate::error::TaskFailure;
use crate::execution::ExecutionQueue;
use crate::life::Life;
use crate::node_link::{Greeting, NodeLink, greet};
use crate::reference::ProcessAddress;
use crate::store::client::StoreClient;
use aktis_common::marks::{Point, note};

/// What a process is to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessRole {
    /// Submits; its end is the end of its job.
    Driver,
    /// Was started by the raylet and executes.
    Worker {
        /// The number under which the raylet awaits it.
        startup_token: u64,
    },
}

/// How to join a node.
pub struct RuntimeConfig {
    /// The raylet's unix socket.
    pub raylet_socket: PathBuf,
    /// Driver or worker.
    pub role: ProcessRole,
    /// Given to workers by the raylet, random for drivers.
    pub worker_id: WorkerId,
    /// Driver: text for `aktis list jobs`.
    pub entrypoint: String,
    /// Driver: namespace of its named actors; empty: one of its own.
    pub namespace: String,
    /// Driver: receives the output of workers.
    pub log_sink: Option<LogSink>,
    /// Whether a handler of a signal wants the calling thread to give up what it waits for. Asked while it waits.
    pub interrupt: fn() -> bool,
    /// How many bytes of arguments may wait with this process; see [`Runtime::is_to_be_stored`].
    pub queued_limit_bytes: u64,
    /// How many bytes of lineage are kept.
    pub lineage_limit_bytes: u64,
    /// How long a leased worker is kept without work, unless somebody else asks for its resources.
    pub lease_idle: Duration,
    /// Driver: what becomes of work of its job that no node can run. A worker learns it from those it works for.
    pub infeasible: Infeasible,
    /// Driver: Python modules that its workers are likely to need; the node imports them ahead when it is idle.
    pub likely_modules: Vec<String>,
}

impl Runtime {
    /// Joins the node and becomes [`Runtime::current`].
    pub fn start(config: RuntimeConfig) -> Result<Self, TaskFailure> {
        crate::trim::keep_little_if_scarce();
        aktis_common::standard_streams::hold_standard_streams();
        let job = match config.role {
            ProcessRole::Driver => JobId::random(),
            ProcessRole::Worker { .. } => JobId::NIL,
        };
        let greeting = greet(&config.raylet_socket, hello_of(&config, job))?;
        aktis_common::fork::register_folder(&greeting.reply.session_dir);
        let runtime = Self::assemble(config, job, &greeting)?;
        runtime.listen_for_lanes()?;
        runtime.spawn_lane_thread()?;
        let reactor = Arc::downgrade(runtime.reactor());
        aktis_common::fork::set_alarm(move || {
            if let Some(reactor) = reactor.upgrade() {
                reactor.call_lane(super::KEPT_PAUSE);
            }
        });
        runtime.attach_node(greeting)?;
        Self::set_current(Some(runtime.clone()));
        note(Point::Joined);
        Ok(runtime)
    }

    fn assemble(
        config: RuntimeConfig,
        job: JobId,
        greeting: &Greeting,
    ) -> Result<Self, TaskFailure> {
        let reply = &greeting.reply;
        let here =
            NodeId::from_bytes(&reply.node_id).map_err(|error| broken("hello reply", &error))?;
        let me = ProcessAddress {
            node: here,
            worker: config.worker_id,
        };
        let arena = map_arena(greeting)?;
        let reactor = Reactor::new().map_err(|error| broken("event queue", &error))?;
        let (life, node) = (Arc::new(Life::default()), Arc::new(NodeLink::new()));
        let store = StoreClient::new(
            Arc::clone(&life),
            Arc::clone(&node),
            Arc::clone(&reactor),
            arena,
            config.interrupt,
        );
        Ok(Self(Arc::new(Inner {
            life,
            me,
            role: config.role,
            job: Mutex::new(job),
            assignment: Mutex::new(Assignment {
                namespace: reply.namespace.clone(),
                waits_when_infeasible: config.infeasible == Infeasible::Wait,
                ..Assignment::default()
            }),
            hello: reply.clone(),
            reactor,
            core: CoreGate::new(Core::new(me, config.lineage_limit_bytes, config.lease_idle)),
            node,
            lanes: Lanes::default(),
            store,
            queue: ExecutionQueue::default(),
            waits: Waits::default(),
            stream_windows: StreamWindows::default(),
            canceller: OnceLock::new(),
            log_sink: config.log_sink,
            interrupt: config.interrupt,
            queued_limit_bytes: config.queued_limit_bytes,
            trim_at: Mutex::new(None),
            obituaries: Mutex::default(),
            births: super::births::Births::default(),
            rest: super::rest::Rest::default(),
            postponed: Mutex::default(),
            lane_thread: Mutex::new(None),
        })))
    }

    fn attach_node(&self, greeting: Greeting) -> Result<(), TaskFailure> {
        let handler = Arc::new(NodeHandler {
            runtime: self.clone(),
        });
        let connection = self
            .0
            .reactor
            .add_connection(greeting.socket, greeting.decoder, handler)
            .map_err(|error| broken("raylet connection", &error))?;
        self.0.node.attach(Arc::clone(&connection));
        connection.handle_buffered();
        Ok(())
    }

    /// Other processes reach this one at `<lane_dir>/<worker id>`.
    fn listen_for_lanes(&self) -> Result<(), TaskFailure> {
        let path = format!("{}/{}", self.0.hello.lane_dir, self.0.me.worker);
        let listener = listen_at(Path::new(&path)).map_err(|error| broken(&path, &error))?;
        self.0
            .reactor
            .add_listener(listener, Arc::new(LaneAcceptor(self.clone())))
            .map_err(|error| broken(&path, &error))
    }

    fn accept_lane(&self, socket: OwnedFd) {
        // The folder keeps others out. Should it not, this process runs nobody else's calls.
        match socket_peercred(&socket) {
            Ok(peer) if is_trusted(peer.uid, geteuid()) => {}
            Ok(peer) => {
                return tracing::warn!(
                    uid = peer.uid.as_raw(),
                    pid = peer.pid.as_raw_nonzero(),
                    "refused a lane from a process of another user"
                );
            }
            Err(error) => {
                return tracing::warn!(%error, "refused a lane from a process that cannot be named");
            }
        }
        // Held while the connection is added, so that its first frame finds the lane in the table.
        let mut lanes = self.0.lanes.lock();
        match self.add_lane_socket(socket, Decoder::of_stranger(), false) {
            Ok(connection) => lanes.enter_stranger(connection, Instant::now()),
            Err(error) => tracing::error!(%error, "failed to add an incoming lane"),
        }
    }

    fn spawn_lane_thread(&self) -> Result<(), TaskFailure> {
        let runtime = self.clone();
        let thread = std::thread::Builder::new()
            .name("aktis-lane".to_owned())
            .stack_size(512 << 10)
            .spawn(move || {
                block_signals();
                let reactor = Arc::clone(runtime.reactor());
                reactor.run_lane_thread(&RuntimeTicker(runtime));
            })
            .map_err(|error| broken("lane thread", &error))?;
        *self.0.lane_thread.lock() = Some(thread);
        Ok(())
    }

    /// Leaves the node. Everything that waits ends with an error; references become inert.
    pub fn shutdown(&self) {
        if !self.0.life.close() {
            return;
        }
        self.0.node.tell(
            wire::node_frame::Kind::Goodbye(wire::Goodbye::default()),
            aktis_lane::Urgency::Now,
        );
        self.end_waits();
        self.0.reactor.stop();
        let _ = std::fs::remove_file(format!("{}/{}", self.0.hello.lane_dir, self.0.me.worker));
        let thread = self.0.lane_thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
        let open = self.0.lanes.lock().take_all();
        drop(open);
        self.0.store.close();
        if Self::current().is_some_and(|current| Arc::ptr_eq(&current.0, &self.0)) {
            Self::set_current(None);
        }
    }
}

struct LaneAcceptor(Runtime);

impl Acceptor for LaneAcceptor {
    fn has_room(&self, now: Instant) -> bool {
        self.0.0.lanes.lock().make_room(now)
    }

    fn accept(&self, socket: OwnedFd) {
        self.0.accept_lane(socket);
    }
}

/// Whether a process of this user may call a process of `own`: the same user, or the system's.
fn is_trusted(peer: Uid, own: Uid) -> bool {
    peer == own || peer.is_root()
}

fn hello_of(config: &RuntimeConfig, job: JobId) -> wire::Hello {
    let (kind, startup_token) = match config.role {
        ProcessRole::Driver => (wire::ProcessKind::Driver, 0),
        ProcessRole::Worker { startup_token } => (wire::ProcessKind::Worker, startup_token),
    };
    wire::Hello {
        worker_id: config.worker_id.to_wire(),
        kind: kind.into(),
        pid: std::process::id(),
        job_id: if job.is_nil() {
            bytes::Bytes::new()
        } else {
            job.to_wire()
        },
        startup_token,
        entrypoint: config.entrypoint.clone(),
        namespace: config.namespace.clone(),
        likely_modules: config.likely_modules.clone(),
        version: aktis_proto::VERSION.to_owned(),
    }
}

fn map_arena(greeting: &Greeting) -> Result<Option<ArenaMap>, TaskFailure> {
    let Some(info) = &greeting.reply.arena else {
        return Ok(None);
    };
    let map = match (info.kind(), &greeting.arena_fd) {
        (wire::ArenaKind::Memfd, Some(fd)) => {
            let fd = fd
                .try_clone()
                .map_err(|error| broken("arena descriptor", &error))?;
            ArenaMap::from_memfd(fd, info.len_bytes)
        }
        (wire::ArenaKind::Memfd, None) => {
            return Err(broken("arena", &"the hello reply carried no descriptor"));
        }
        (wire::ArenaKind::Named, _) => ArenaMap::from_named(&info.name, info.len_bytes),
        (wire::ArenaKind::Unspecified, _) => return Ok(None),
    };
    map.map(Some).map_err(|error| broken("arena", &error))
}

/// The path is there when the socket takes connections and not before: that is how the raylet knows when it may send others
/// there, and `bind` would make it a moment too early.
fn listen_at(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // No longer than the name itself: the paths of sockets have a limit.
    let hidden = path.with_file_name(format!(".{}", getpid().as_raw_nonzero()));
    bind(&socket, &SocketAddrUnix::new(&hidden)?)?;
    listen(&socket, 1024)?;
    rename(&hidden, path)?;
    Ok(socket)
}

/// Signals are for the main thread, which looks for them while it waits.
#[allow(unsafe_code, reason = "no safe binding for the thread's signal mask")]
fn block_signals() {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is written by sigfillset before it is read; the mask of this thread alone is changed.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: `set` was initialised above; a null old set is allowed.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
}

fn broken(what: &str, error: &dyn std::fmt::Display) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::Internal,
        format!("cannot join the node: {what}: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn socket_that_is_seen_takes_connections() {
        let folder = tempfile::tempdir().expect("a folder");
        for number in 0..2000 {
            let path = folder.path().join(number.to_string());
            let connected = std::thread::scope(|scope| {
                let connecting = scope.spawn(|| {
                    let deadline = Instant::now() + Duration::from_secs(30);
                    while !path.exists() && Instant::now() < deadline {
                        std::hint::spin_loop();
                    }
                    UnixStream::connect(&path)
                });
                let _socket = listen_at(&path).expect("a socket");
                connecting.join().expect("no panic")
            });
            connected.unwrap_or_else(|error| panic!("socket {number}: {error}"));
        }
    }

    #[test]
    fn lanes_are_for_processes_of_the_same_user_and_of_the_system() {
        let [root, own, other] = [0, 1000, 1001].map(Uid::from_raw);
        assert!(is_trusted(own, own) && is_trusted(root, own));
        assert!(!is_trusted(other, own) && !is_trusted(own, root));
    }
}
