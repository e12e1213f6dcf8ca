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

#[derive(Debug, Default)]
pub(crate) struct MemoryQueue {
    restores: VecDeque<ObjectId>,
    creates: VecDeque<ObjectId>,
    /// Since when nothing has helped the first request. Work that is under way does not count as
    /// help before it has succeeded: a disk that keeps failing must not keep requests waiting.
    stalled_since: Option<Duration>,
    /// Since when nothing has become free that a request wanted. Stays when requests go on without it: those that come after them
    /// need not wait anew for what did not come.
    starved_since: Option<Duration>,
}

/// For how long there has been no room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stall {
    /// For the first request.
    pub(crate) waited: Duration,
    /// For any request.
    pub(crate) starved: Duration,
}

impl MemoryQueue {
    /// The request is the last of its kind (`OBJ-9`).
    pub(crate) fn push(&mut self, request: MemoryRequest) {
        match request {
            MemoryRequest::Restore(oid) => self.restores.push_back(oid),
            MemoryRequest::Create(oid) => self.creates.push_back(oid),
        }
    }

    pub(crate) fn front(&self) -> Option<MemoryRequest> {
        let restore = self.restores.front().copied().map(MemoryRequest::Restore);
        restore.or_else(|| self.creates.front().copied().map(MemoryRequest::Create))
    }

    pub(crate) fn pop(&mut self) {
        self.stalled_since = None;
        if self.restores.pop_front().is_none() {
            self.creates.pop_front();
        }
    }

    /// A create that went on without room, after it was stalled since then, comes back: before those that came after it (`OBJ-9`).
    pub(crate) fn put_back(
        &mut self,
        oid: ObjectId,
        stalled_since: Duration,
        came_after: impl Fn(ObjectId) -> bool,
    ) {
        let behind = self.creates.iter().position(|other| came_after(*other));
        let position = behind.unwrap_or(self.creates.len());
        self.creates.insert(position, oid);
        if self.front() == Some(MemoryRequest::Create(oid)) {
            self.stalled_since = Some(stalled_since);
        }
    }

    pub(crate) fn remove(&mut self, request: MemoryRequest) {
        if self.front() == Some(request) {
            self.pop();
            return;
        }
        match request {
            MemoryRequest::Restore(oid) => self.restores.retain(|o| *o != oid),
            MemoryRequest::Create(oid) => self.creates.retain(|o| *o != oid),
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
        let restores = self.restores.iter().copied().map(MemoryRequest::Restore);
        restores.chain(self.creates.iter().copied().map(MemoryRequest::Create))
    }

    /// Notes that the first request is stalled; returns for how long it has been, without any
    /// progress in between.
    pub(crate) fn note_stalled(&mut self, now: Duration) -> Stall {
        let stalled_since = *self.stalled_since.get_or_insert(now);
        let starved_since = *self.starved_since.get_or_insert(stalled_since);
        Stall {
            waited: now.saturating_sub(stalled_since),
            starved: now.saturating_sub(starved_since),
        }
    }

    /// Memory became free: the first request may still have a chance.
    pub(crate) fn note_progress(&mut self) {
        self.stalled_since = None;
        self.starved_since = None;
    }
}
