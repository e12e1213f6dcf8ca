//! The lanes of this process: who is at the other end, and how one is opened.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, ObjectId, WorkerId};
use aktis_proto::v1 as wire;
use rustc_hash::FxHashMap;

use super::Runtime;
use super::incoming::LaneHandler;
use crate::error::TaskFailure;
use crate::lane::connection::{Connection, ConnectionId, Urgency};
use crate::lane::frame::{Decoder, encode_whole};
use crate::reference::ProcessAddress;
use crate::value::PayloadParts;

/// What a lane is for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LaneRole {
    /// To a leased worker.
    Lease,
    /// To an actor.
    Actor(ActorId),
    /// To another process's objects.
    Peer,
    /// From a caller.
    Incoming { hello: Option<wire::LaneHello> },
}

pub(super) struct Lane {
    pub(super) connection: Arc<Connection>,
    pub(super) role: LaneRole,
    /// The process at the other end, once known.
    pub(super) peer: Option<ProcessAddress>,
}

/// All lanes of this process.
#[derive(Default)]
pub(super) struct LaneTable {
    pub(super) open: FxHashMap<ConnectionId, Lane>,
    pub(super) peers: FxHashMap<WorkerId, ConnectionId>,
    /// Questions to owners that are not answered yet.
    pub(super) asked: FxHashMap<u64, (ConnectionId, ObjectId)>,
    pub(super) next_question: u64,
}

impl Runtime {
    /// Opens a lane for a lease or an actor.
    pub(super) fn open_lane(
        &self,
        callee: ProcessAddress,
        role: LaneRole,
        hello: wire::LaneHello,
    ) -> Result<ConnectionId, TaskFailure> {
        let mut lanes = self.0.lanes.lock();
        let connection = self.connect(callee)?;
        if callee.node == self.0.me.node {
            connection.share_memory();
        }
        let id = connection.id;
        lanes.open.insert(
            id,
            Lane {
                connection: Arc::clone(&connection),
                role,
                peer: Some(callee),
            },
        );
        drop(lanes);
        let frame = wire::LaneFrame {
            kind: Some(wire::lane_frame::Kind::Hello(hello)),
        };
        // If the peer is gone already the reactor reports the lane closed.
        let _ = connection.send(&frame, &PayloadParts::default(), Urgency::Soon);
        Ok(id)
    }

    /// The lane to another process's objects, opened at first use.
    pub(super) fn peer_lane(&self, peer: ProcessAddress) -> Result<Arc<Connection>, TaskFailure> {
        let lanes = self.0.lanes.lock();
        let known = lanes
            .peers
            .get(&peer.worker)
            .and_then(|id| lanes.open.get(id));
        if let Some(lane) = known {
            return Ok(Arc::clone(&lane.connection));
        }
        drop(lanes);
        let id = self.open_lane(peer, LaneRole::Peer, self.plain_hello())?;
        let mut lanes = self.0.lanes.lock();
        lanes.peers.insert(peer.worker, id);
        lanes
            .open
            .get(&id)
            .map(|lane| Arc::clone(&lane.connection))
            .ok_or_else(|| unreachable_peer(peer, "it closed the lane"))
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

    fn connect(&self, callee: ProcessAddress) -> Result<Arc<Connection>, TaskFailure> {
        let greeting = &self.0.hello;
        let is_local = callee.node == self.0.me.node;
        let path = if is_local {
            format!("{}/{}", greeting.lane_dir, callee.worker)
        } else {
            greeting.lane_proxy_path.clone()
        };
        let mut stream = UnixStream::connect(Path::new(&path))
            .map_err(|error| unreachable_peer(callee, &error.to_string()))?;
        if !is_local {
            let route = wire::LaneRoute {
                callee: Some(callee.to_wire()),
            };
            std::io::Write::write_all(&mut stream, &encode_whole(&route, &PayloadParts::default()))
                .map_err(|error| unreachable_peer(callee, &error.to_string()))?;
        }
        stream
            .set_nonblocking(true)
            .map_err(|error| unreachable_peer(callee, &error.to_string()))?;
        self.add_lane_socket(stream.into())
            .map_err(|error| unreachable_peer(callee, &error.to_string()))
    }

    pub(super) fn add_lane_socket(&self, socket: OwnedFd) -> rustix::io::Result<Arc<Connection>> {
        let handler = Arc::new(LaneHandler::new(self.clone()));
        self.0
            .reactor
            .add_connection(socket, Decoder::new(), handler)
    }

    pub(super) fn close_lane(&self, id: ConnectionId) {
        let lane = self.0.lanes.lock().open.remove(&id);
        if let Some(lane) = lane {
            lane.connection.flush();
            lane.connection.close();
        }
    }
}

fn unreachable_peer(peer: ProcessAddress, cause: &str) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::WorkerCrashed,
        format!(
            "cannot reach process {} on node {}: {cause}",
            peer.worker, peer.node
        ),
    )
}
