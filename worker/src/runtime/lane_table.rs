//! Which lanes are open, and who is at the other end of each.
//!
//! Owns: lanes by number, the one to each owner, strangers, questions that owners have not answered. Does not own: how a lane is
//! opened ([`lanes`](super::lanes)), what is said on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use aktis_common::ids::{ActorId, ObjectId, WorkerId};
use aktis_lane::{Connection, ConnectionId};
use aktis_proto::v1 as wire;
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxHashMap;

use super::strangers::{Room, Strangers};
use crate::reference::ProcessAddress;

/// What a lane is for.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one for each lane")]
pub(super) enum LaneRole {
    /// To a leased worker.
    Lease,
    /// To an actor.
    Actor(ActorId),
    /// To another process's objects.
    Peer,
    /// From a caller.
    Incoming {
        hello: Option<wire::LaneHello>,
        /// Calls have come, or were announced.
        carries_calls: bool,
    },
}

impl LaneRole {
    /// What the caller at the other end has said, if it has.
    pub(super) fn hello(&self) -> Option<&wire::LaneHello> {
        match self {
            LaneRole::Incoming { hello, .. } => hello.as_ref(),
            LaneRole::Lease | LaneRole::Actor(_) | LaneRole::Peer => None,
        }
    }

    /// Whether calls have come on it.
    pub(super) fn carries_calls(&self) -> bool {
        matches!(self, LaneRole::Incoming { carries_calls, .. } if *carries_calls)
    }
}

pub(super) struct Lane {
    pub(super) connection: Arc<Connection>,
    pub(super) role: LaneRole,
    /// The process at the other end, once known.
    pub(super) peer: Option<ProcessAddress>,
}

/// The table, behind its lock.
#[derive(Default)]
pub(super) struct Lanes {
    table: Mutex<LaneTable>,
    /// How many lanes have said who calls, to be seen without the lock.
    hellos: AtomicU64,
}

impl Lanes {
    /// The table. Whoever adds a connection to the reactor holds it until the lane is entered, so that its first frame, and its
    /// end, find it there.
    pub(super) fn lock(&self) -> MutexGuard<'_, LaneTable> {
        self.table.lock()
    }

    /// A caller has said who it is: it is no stranger any more. `is_local`: it is a process of this node.
    pub(super) fn greeted(
        &self,
        id: ConnectionId,
        caller: ProcessAddress,
        hello: wire::LaneHello,
        is_local: bool,
    ) {
        let mut table = self.lock();
        table.strangers.remove(id);
        if let Some(lane) = table.open.get_mut(&id) {
            if is_local {
                lane.connection.share_memory();
            }
            lane.peer = Some(caller);
            lane.role = LaneRole::Incoming {
                hello: Some(hello),
                carries_calls: false,
            };
        }
        drop(table);
        self.hellos.fetch_add(1, Ordering::Release);
    }

    /// How many callers have said who they are.
    pub(super) fn hellos(&self) -> u64 {
        self.hellos.load(Ordering::Acquire)
    }
}

/// All lanes of this process.
#[derive(Default)]
pub(super) struct LaneTable {
    open: FxHashMap<ConnectionId, Lane>,
    peers: FxHashMap<WorkerId, ConnectionId>,
    /// Questions to owners that are not answered yet.
    asked: FxHashMap<u64, (ConnectionId, ObjectId)>,
    last_question: u64,
    strangers: Strangers,
}

impl LaneTable {
    pub(super) fn get(&self, id: ConnectionId) -> Option<&Lane> {
        self.open.get(&id)
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.open.values()
    }

    /// The lane to another process's objects.
    pub(super) fn to_peer(&self, peer: ProcessAddress) -> Option<Arc<Connection>> {
        let lane = self.get(*self.peers.get(&peer.worker)?)?;
        Some(Arc::clone(&lane.connection))
    }

    /// A lane that this process has opened.
    pub(super) fn enter(
        &mut self,
        connection: Arc<Connection>,
        role: LaneRole,
        peer: ProcessAddress,
    ) {
        if role == LaneRole::Peer {
            self.peers.insert(peer.worker, connection.id);
        }
        let peer = Some(peer);
        self.insert(connection, role, peer);
    }

    /// A lane from somebody who has not said who it is.
    pub(super) fn enter_stranger(&mut self, connection: Arc<Connection>, now: Instant) {
        self.strangers.add(connection.id, now);
        let role = LaneRole::Incoming {
            hello: None,
            carries_calls: false,
        };
        self.insert(connection, role, None);
    }

    fn insert(
        &mut self,
        connection: Arc<Connection>,
        role: LaneRole,
        peer: Option<ProcessAddress>,
    ) {
        let lane = Lane {
            connection: Arc::clone(&connection),
            role,
            peer,
        };
        self.open.insert(connection.id, lane);
    }

    /// Whether there is room for one more stranger; the one that was silent for longest may have to go.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        match self.strangers.make_room(now) {
            Room::Free => true,
            Room::Full => false,
            Room::InPlaceOf(silent) => {
                if let Some(lane) = self.open.get(&silent) {
                    lane.connection.close();
                }
                true
            }
        }
    }

    /// Calls come on this lane.
    pub(super) fn note_calls(&mut self, id: ConnectionId) {
        let role = self.open.get_mut(&id).map(|lane| &mut lane.role);
        if let Some(LaneRole::Incoming { carries_calls, .. }) = role {
            *carries_calls = true;
        }
    }

    /// An owner is to be asked for an object on this lane; gives the number of the question.
    pub(super) fn ask(&mut self, lane: ConnectionId, object: ObjectId) -> u64 {
        self.last_question += 1;
        self.asked.insert(self.last_question, (lane, object));
        self.last_question
    }

    /// An owner has answered: what was asked for.
    pub(super) fn answered(&mut self, question: u64) -> Option<ObjectId> {
        let (_, object) = self.asked.remove(&question)?;
        Some(object)
    }

    /// The lane is to be closed by this process.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Lane> {
        self.open.remove(&id)
    }

    /// The connection has ended: the lane, if it is not closed, and whether its owner owes an answer.
    pub(super) fn ended(&mut self, id: ConnectionId) -> Option<(Lane, bool)> {
        self.strangers.remove(id);
        let lane = self.open.remove(&id)?;
        if let Some(peer) = lane.peer
            && self.peers.get(&peer.worker) == Some(&id)
        {
            self.peers.remove(&peer.worker);
        }
        let before = self.asked.len();
        self.asked.retain(|_, (connection, _)| *connection != id);
        Some((lane, self.asked.len() < before))
    }

    /// The session is over: nothing is said any more.
    pub(super) fn take_all(&mut self) -> Vec<Lane> {
        std::mem::take(&mut self.open).into_values().collect()
    }
}
