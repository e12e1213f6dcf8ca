//! The lanes of this process: who is at the other end, and how one is opened.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_common::limits::{descriptor_advice, is_out_of_descriptors};
use aktis_lane::{Connection, ConnectionId, Decoder, PayloadParts, Urgency, encode_whole};
use aktis_proto::v1 as wire;

use super::Runtime;
use super::incoming::LaneHandler;
use super::lane_table::{LaneRole, LaneTable};
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;

impl Runtime {
    /// Opens a lane for a lease or an actor.
    pub(super) fn open_lane(
        &self,
        callee: ProcessAddress,
        role: LaneRole,
        hello: wire::LaneHello,
    ) -> Result<ConnectionId, Unreachable> {
        let socket = self.connect(callee)?;
        let mut lanes = self.0.lanes.lock();
        self.enter_lane(&mut lanes, socket, callee, role, hello)
            .map(|connection| connection.id)
    }

    /// The lane to another process's objects, opened at first use. There is never more than one: what is said about references
    /// has to arrive in order (`REF-1`).
    pub(super) fn peer_lane(&self, peer: ProcessAddress) -> Result<Arc<Connection>, Unreachable> {
        if let Some(known) = self.0.lanes.lock().to_peer(peer) {
            return Ok(known);
        }
        // Connecting may take a while, in which no other send of this process is held up.
        let socket = self.connect(peer)?;
        let hello = self.plain_hello();
        let mut lanes = self.0.lanes.lock();
        if let Some(known) = lanes.to_peer(peer) {
            // Another thread was faster.
            return Ok(known);
        }
        self.enter_lane(&mut lanes, socket, peer, LaneRole::Peer, hello)
    }

    /// Enters a lane, with its hello as the first frame. The table is locked, so that the lane's end finds it there.
    fn enter_lane(
        &self,
        lanes: &mut LaneTable,
        socket: OwnedFd,
        callee: ProcessAddress,
        role: LaneRole,
        hello: wire::LaneHello,
    ) -> Result<Arc<Connection>, Unreachable> {
        let connection = self
            .add_lane_socket(socket, Decoder::new(), true)
            .map_err(|errno| Unreachable::new(callee, errno.into()))?;
        if callee.node == self.0.me.node {
            connection.share_memory();
        }
        let frame = wire::LaneFrame {
            kind: Some(wire::lane_frame::Kind::Hello(Box::new(hello))),
        };
        // It leaves with what is sent next. If the peer is gone already the reactor reports the lane closed.
        let _ = connection.enqueue(&frame, &PayloadParts::default(), Urgency::Soon);
        lanes.enter(Arc::clone(&connection), role, callee);
        Ok(connection)
    }

    pub(super) fn plain_hello(&self) -> wire::LaneHello {
        let assignment = self.assignment();
        wire::LaneHello {
            caller: Some(self.0.me.to_wire()),
            job_id: self.job().to_wire(),
            namespace: assignment.namespace,
            waits_when_infeasible: assignment.waits_when_infeasible,
            ..Default::default()
        }
    }

    fn connect(&self, callee: ProcessAddress) -> Result<OwnedFd, Unreachable> {
        let unreachable = |cause| Unreachable::new(callee, cause);
        let greeting = &self.0.hello;
        let is_local = callee.node == self.0.me.node;
        let path = if is_local {
            format!("{}/{}", greeting.lane_dir, callee.worker)
        } else {
            greeting.lane_proxy_path.clone()
        };
        let mut stream = UnixStream::connect(Path::new(&path)).map_err(unreachable)?;
        if !is_local {
            let route = wire::LaneRoute {
                callee: Some(callee.to_wire()),
            };
            std::io::Write::write_all(&mut stream, &encode_whole(&route, &PayloadParts::default()))
                .map_err(unreachable)?;
        }
        stream.set_nonblocking(true).map_err(unreachable)?;
        Ok(stream.into())
    }

    /// `is_known`: the peer need not say who it is.
    pub(super) fn add_lane_socket(
        &self,
        socket: OwnedFd,
        decoder: Decoder,
        is_known: bool,
    ) -> rustix::io::Result<Arc<Connection>> {
        let handler = Arc::new(LaneHandler::new(self.clone(), is_known));
        self.0.reactor.add_connection(socket, decoder, handler)
    }

    pub(super) fn close_lane(&self, id: ConnectionId) {
        let lane = self.0.lanes.lock().take(id);
        if let Some(lane) = lane {
            lane.connection.flush();
            lane.connection.close();
        }
    }
}

/// A process to which no lane could be opened.
#[derive(Debug)]
pub(super) struct Unreachable {
    peer: ProcessAddress,
    cause: io::Error,
}

impl Unreachable {
    fn new(peer: ProcessAddress, cause: io::Error) -> Self {
        Self { peer, cause }
    }

    /// It is this process that has no descriptor for the lane; the other one may be well.
    pub(super) fn is_shortage(&self) -> bool {
        is_out_of_descriptors(&self.cause)
    }

    /// What calls are told with the code given.
    pub(super) fn failure(&self, code: ErrorCode) -> TaskFailure {
        TaskFailure::new(code, self.to_string())
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, cause } = self;
        let (worker, node) = (peer.worker, peer.node);
        write!(f, "cannot reach process {worker} on node {node}: {cause}")?;
        if self.is_shortage() {
            write!(f, "; {}", descriptor_advice())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use aktis_common::ids::WorkerId;
    use rustix::io::Errno;
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    };
    use rustix::thread::{Pid, gettid};

    use super::super::lane_table::Lane;
    use super::*;
    use crate::testing::PretendedRaylet;

    /// An owner with whom nobody gets through: its listener's queue is full of the connections that are given beside it.
    fn busy_owner(path: &str) -> (UnixListener, Vec<OwnedFd>) {
        let socket = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket")
        };
        let address = SocketAddrUnix::new(path).expect("short");
        let listener = socket();
        bind(&listener, &address).expect("nobody else is there");
        listen(&listener, 1).expect("bound");
        let mut waiting = Vec::new();
        loop {
            let client = socket();
            match connect(&client, &address) {
                Ok(()) => waiting.push(client),
                Err(Errno::AGAIN) => return (UnixListener::from(listener), waiting),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until all the threads sleep, one look after another.
    fn await_sleep(threads: &[Pid]) {
        let sleeps = |thread: &Pid| {
            let path = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
            let stat = std::fs::read_to_string(path).expect("it runs");
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('S'))
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut quiet_looks = 0;
        while quiet_looks < 20 {
            assert!(Instant::now() < deadline, "they do not wait");
            quiet_looks = if threads.iter().all(sleeps) {
                quiet_looks + 1
            } else {
                0
            };
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// D10, REF-1: what this process says to an owner arrives in order, since it goes one way.
    #[test]
    fn threads_that_meet_an_owner_at_the_same_time_share_one_lane() {
        const THREADS: usize = 4;
        let folder = tempfile::tempdir().expect("a folder");
        let node = PretendedRaylet::new(folder.path()).expect("a raylet");
        let (runtime, _raylet) = node.join().expect("joined");
        let owner = ProcessAddress {
            node: runtime.address().node,
            worker: WorkerId::random(),
        };
        let path = format!("{}/{}", runtime.greeting().lane_dir, owner.worker);
        let (listener, before) = busy_owner(&path);
        let (sender, receiver) = mpsc::channel();
        // The owner's ends stay open until all is looked at.
        let (mut lanes, accepted) = std::thread::scope(|scope| {
            let meet = |sender: mpsc::Sender<Pid>| {
                sender.send(gettid()).expect("it listens");
                runtime.peer_lane(owner).expect("a lane").id
            };
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let sender = sender.clone();
                    scope.spawn(move || meet(sender))
                })
                .collect();
            let met: Vec<Pid> = receiver.iter().take(THREADS).collect();
            // All have looked for a lane, found none, and are on their way.
            await_sleep(&met);
            let mut accepted = Vec::new();
            while threads.iter().any(|thread| !thread.is_finished()) {
                accepted.extend(listener.accept());
                std::thread::sleep(Duration::from_millis(1));
            }
            let lanes: Vec<ConnectionId> = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .collect();
            (lanes, accepted)
        });
        lanes.sort();
        lanes.dedup();
        assert_eq!(lanes.len(), 1);
        let table = runtime.0.lanes.lock();
        let to_owner = |lane: &&Lane| lane.peer == Some(owner);
        assert_eq!(table.iter().filter(to_owner).count(), 1);
        drop(table);
        drop((before, accepted));
        runtime.shutdown();
    }
}
