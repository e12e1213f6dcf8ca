//! Requests that wait for room in the arena.
//!
//! Restores go before creates: they are the arguments of tasks that already run, and a task that
//! cannot get its arguments never releases those it has. Within each kind the order is first
//! come, first served (`OBJ-9 (fifo)`).

use std::collections::VecDeque;
use std::time::Duration;

use aktis_common::ids::ObjectId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoryRequest {
    Restore(ObjectId),
    Create(ObjectId),
}

impl MemoryRequest {
    pub(crate) fn oid(self) -> ObjectId {
        match self {
            MemoryRequest::Restore(oid) | MemoryRequest::Create(oid) => oid,
        }
    }
}

/// Since when nothing has helped. Help is more room than there was since then: what comes and goes, as memory that readers of
/// spilled objects take and give back, helps nobody who waits for more. Nor does work that is under way, before it has
/// succeeded: a disk that keeps failing must not keep requests waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standstill {
    since: Option<Duration>,
    /// How much room there was then.
    room_bytes: u64,
}

impl Standstill {
    /// There is so much room.
    fn note_room(&mut self, room_bytes: u64) {
        if room_bytes > self.room_bytes {
            self.since = None;
        }
    }

    /// So much is not enough; returns for how long it has not been more.
    fn note_stalled(&mut self, room_bytes: u64, now: Duration) -> Duration {
        self.note_room(room_bytes);
        if self.since.is_none() {
            *self = Self {
                since: Some(now),
                room_bytes,
            };
        }
        self.waited(now)
    }

    fn waited(&self, now: Duration) -> Duration {
        self.since
            .map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

/// A request, and for how long it has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    oid: ObjectId,
    standstill: Standstill,
}

impl Waiting {
    fn new(oid: ObjectId) -> Self {
        Self {
            oid,
            standstill: Standstill::default(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct MemoryQueue {
    restores: VecDeque<Waiting>,
    creates: VecDeque<Waiting>,
    /// The same for any request. Stays when requests go on without room: those that come after them need not wait anew for what
    /// did not come.
    starved: Standstill,
}

/// For how long there has been no room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stall {
    /// For the first request.
    pub(crate) waited: Duration,
    /// For any request that needs as much as the first.
    pub(crate) starved: Duration,
}

impl MemoryQueue {
    /// The request is the last of its kind (`OBJ-9`).
    pub(crate) fn push(&mut self, request: MemoryRequest) {
        let waiting = Waiting::new(request.oid());
        match request {
            MemoryRequest::Restore(_) => self.restores.push_back(waiting),
            MemoryRequest::Create(_) => self.creates.push_back(waiting),
        }
    }

    pub(crate) fn front(&self) -> Option<MemoryRequest> {
        self.iter().next()
    }

    /// The first request got room. If it is a create, then the turn of those behind it has come nearer. Restores can come for
    /// ever: one that goes before them is no help.
    pub(crate) fn pop_served(&mut self) {
        if self.restores.pop_front().is_none() {
            self.creates.pop_front();
            for waiting in &mut self.creates {
                waiting.standstill = Standstill::default();
            }
        }
    }

    /// The first request goes on without room; returns how long it has waited.
    pub(crate) fn pop_unserved(&mut self) -> Standstill {
        let popped = self.restores.pop_front();
        popped
            .or_else(|| self.creates.pop_front())
            .map_or_else(Standstill::default, |waiting| waiting.standstill)
    }

    /// A create that went on without room comes back: before those that came after it (`OBJ-9`).
    pub(crate) fn put_back(
        &mut self,
        oid: ObjectId,
        standstill: Standstill,
        came_after: impl Fn(ObjectId) -> bool,
    ) {
        let behind = self.creates.iter().position(|other| came_after(other.oid));
        let position = behind.unwrap_or(self.creates.len());
        self.creates.insert(position, Waiting { oid, standstill });
    }

    pub(crate) fn remove(&mut self, request: MemoryRequest) {
        match request {
            MemoryRequest::Restore(oid) => self.restores.retain(|waiting| waiting.oid != oid),
            MemoryRequest::Create(oid) => self.creates.retain(|waiting| waiting.oid != oid),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.restores.is_empty() && self.creates.is_empty()
    }

    /// Whether a restore may be placed without waiting for its turn.
    pub(crate) fn has_restores(&self) -> bool {
        !self.restores.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = MemoryRequest> + '_ {
        let restores = self.restores.iter().map(|r| MemoryRequest::Restore(r.oid));
        restores.chain(self.creates.iter().map(|c| MemoryRequest::Create(c.oid)))
    }

    /// There is so much room.
    pub(crate) fn note_room(&mut self, room_bytes: u64) {
        self.starved.note_room(room_bytes);
    }

    /// The first request, which needs `needed_bytes`, is stalled; returns for how long it has been.
    pub(crate) fn note_stalled(
        &mut self,
        needed_bytes: u64,
        room_bytes: u64,
        now: Duration,
    ) -> Stall {
        let first = self.restores.front_mut().or(self.creates.front_mut());
        let first = first.expect("callers have seen the first request");
        let waited = first.standstill.note_stalled(room_bytes, now);
        let starved = self.starved.note_stalled(room_bytes, now);
        // Who needs less than there was may have come just when it was taken.
        let has_never_been_enough = needed_bytes > self.starved.room_bytes;
        Stall {
            waited,
            starved: if has_never_been_enough {
                starved
            } else {
                waited
            },
        }
    }

    /// Notes which creates are stalled, wherever they stand; returns those that have been so for `grace`.
    pub(crate) fn stalled_creates(
        &mut self,
        is_stalled: impl Fn(ObjectId) -> bool,
        room_bytes: u64,
        now: Duration,
        grace: Duration,
    ) -> Vec<ObjectId> {
        let mut stalled = Vec::new();
        for waiting in &mut self.creates {
            if !is_stalled(waiting.oid) {
                waiting.standstill.note_room(room_bytes);
            } else if waiting.standstill.note_stalled(room_bytes, now) >= grace {
                stalled.push(waiting.oid);
            }
        }
        stalled
    }
}
