//! Every object this process holds references to: its state, who holds it, who waits for it.
//!
//! ```text
//!            task ended              copies gone
//!  Pending ─────────────► Inline          │
//!     │  └──────────────► Stored ─────────┴─► Lost ── task runs again ─► Pending
//!     └─────────────────► Failed                └─── cannot ───────────► Failed
//! ```
//! A borrowed object starts as Pending and becomes what its owner answers.
//!
//! ```text
//!  references   who holds an object, here and elsewhere; freeing it
//!  values       objects become ready, or get lost; those who wait are told
//!  getters      threads that get many objects
//!  lending      whether others need this process on account of its objects
//! ```
//! What a change here means for tasks is left in the [`Effects`](super::Effects) as a [`Consequence`](super::Consequence).
//!
//! - `REF-1 (freed-once)`: an object's storage is freed exactly when no handle, task, borrower or containing object
//!   holds it. A value that came inline is no storage: it also stays while a task that takes it may run again.

mod check;
mod entry;
mod getters;
mod lending;
mod references;
mod values;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use aktis_common::ids::{IdBuildHasher, NodeId, ObjectId, TaskId};
use rustc_hash::FxHashMap;

use self::getters::Getters;
use self::lending::Lending;
use super::Watcher;
use super::sparse::shrink_if_sparse;
use crate::reference::ProcessAddress;
use aktis_lane::ConnectionId;
use aktis_lane::Waiter;

pub(crate) use self::entry::{ObjectEntry, ObjectState, ResultValue};
pub(crate) use self::values::layout_of;

/// All objects, by id.
pub(crate) struct ReferenceTable {
    me: ProcessAddress,
    entries: HashMap<ObjectId, ObjectEntry, IdBuildHasher>,
    has_shrunk: bool,
    peak: usize,
    /// Own objects that other processes hold references to.
    lent: usize,
    lending: Lending,
    last_making: u64,
    /// Of values that nobody refers to, kept since a task takes them that may run again.
    kept_bytes: u64,
    getters: Getters,
    /// What became of the bytes of objects that were lost in another way than with their node, for people.
    losses: FxHashMap<ObjectId, String>,
    /// Who said hello on which connection: they are handed what the values that they ask for refer to.
    peers: FxHashMap<ConnectionId, ProcessAddress>,
}

impl ReferenceTable {
    pub(super) fn new(me: ProcessAddress) -> Self {
        Self {
            me,
            entries: HashMap::default(),
            has_shrunk: false,
            peak: 0,
            lent: 0,
            lending: Lending::default(),
            last_making: 0,
            kept_bytes: 0,
            getters: Getters::default(),
            losses: FxHashMap::default(),
            peers: FxHashMap::default(),
        }
    }

    pub(crate) fn get(&self, id: ObjectId) -> Option<&ObjectEntry> {
        self.entries.get(&id)
    }

    pub(crate) fn state(&self, id: ObjectId) -> Option<&ObjectState> {
        self.get(id).map(ObjectEntry::state)
    }

    /// Whether the object is ready; an unknown one counts as not ready.
    pub(crate) fn is_ready(&self, id: ObjectId) -> bool {
        self.state(id).is_some_and(ObjectState::is_ready)
    }

    /// One more handle on an object of this process, which begins in `state` if it is not known yet.
    pub(crate) fn hold(&mut self, id: ObjectId, state: ObjectState) {
        match self.entries.entry(id) {
            Entry::Occupied(known) => {
                let entry = known.into_mut();
                entry.handles += 1;
                entry.count_kept(&mut self.kept_bytes);
            }
            Entry::Vacant(place) => place.insert(ObjectEntry::owned(state)).handles = 1,
        }
    }

    /// Who has said hello on a connection.
    pub(crate) fn add_peer(&mut self, connection: ConnectionId, peer: ProcessAddress) {
        self.peers.insert(connection, peer);
    }

    pub(crate) fn remove_peer(&mut self, connection: ConnectionId) {
        self.peers.remove(&connection);
    }

    /// Whether much memory was freed since this was asked last.
    pub(super) fn take_shrunk(&mut self) -> bool {
        std::mem::take(&mut self.has_shrunk)
    }

    /// The thread waits for the object no more.
    pub(crate) fn unwatch(&mut self, id: ObjectId, waiter: &Arc<Waiter>) {
        self.unwatch_if(id, |waiting| Arc::ptr_eq(waiting, waiter));
    }

    /// Threads whose wait is over, without this object, wait for it no more.
    pub(crate) fn unwatch_done(&mut self, id: ObjectId) {
        self.unwatch_if(id, |waiting| waiting.is_done());
    }

    fn unwatch_if(&mut self, id: ObjectId, is_over: impl Fn(&Arc<Waiter>) -> bool) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let stays = |watcher: &Watcher| match watcher {
                Watcher::Thread(waiter) => !is_over(waiter),
                _ => true,
            };
            entry.watchers.retain(stays);
        }
    }

    fn ids(&self, is_meant: impl Fn(&ObjectId, &ObjectEntry) -> bool) -> Vec<ObjectId> {
        let entries = self.entries.iter();
        entries
            .filter(|(id, entry)| is_meant(id, entry))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Objects without a value or a failure.
    pub(super) fn unready(&self) -> Vec<ObjectId> {
        self.ids(|_, entry| !entry.state.is_ready())
    }

    /// Results of an own task without a value or a failure.
    pub(super) fn unready_of(&self, task: TaskId) -> Vec<ObjectId> {
        self.ids(|id, entry| {
            id.task() == task && entry.owner().is_none() && !entry.state.is_ready()
        })
    }

    /// Those of them that somebody waits for.
    pub(super) fn waited_for_of(&self, task: TaskId) -> Vec<ObjectId> {
        let mut unready = self.unready_of(task);
        unready.retain(|id| !self.entries[id].watchers.is_empty());
        unready
    }

    /// Owners on a node of what this process has borrowed.
    pub(super) fn owners_on(&self, node: NodeId) -> Vec<ProcessAddress> {
        let owners = self.entries.values().filter_map(ObjectEntry::owner);
        let mut there: Vec<ProcessAddress> = owners.filter(|owner| owner.node == node).collect();
        there.dedup();
        there
    }

    /// Forgets an object. A table that was large once gives its memory back.
    fn remove(&mut self, id: ObjectId) -> Option<ObjectEntry> {
        let mut entry = self.entries.remove(&id)?;
        entry.lineage_pins = 0;
        entry.count_kept(&mut self.kept_bytes);
        self.losses.remove(&id);
        self.has_shrunk |= shrink_if_sparse(&mut self.entries, &mut self.peak);
        Some(entry)
    }

    /// Bytes of values that are kept for lineage alone.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub(super) fn me(&self) -> ProcessAddress {
        self.me
    }
}

#[cfg(test)]
mod tests {
    use aktis_common::ids::WorkerId;

    use super::*;

    #[test]
    fn emptied_table_gives_its_memory_back_and_keeps_what_is_left() {
        let mut table = ReferenceTable::new(ProcessAddress {
            node: NodeId::random(),
            worker: WorkerId::random(),
        });
        let ids: Vec<ObjectId> = (0..200_000).map(|_| ObjectId::for_put()).collect();
        for id in &ids {
            table.hold(*id, ObjectState::Pending);
        }
        let full = table.entries.capacity();
        let (gone, kept) = ids.split_at(199_500);
        gone.iter().for_each(|id| drop(table.remove(*id)));
        assert!(table.take_shrunk() && !table.take_shrunk());
        // From full to a sixteenth, and from there to a sixteenth of that.
        assert!(table.entries.capacity() < full / 100);
        assert!(kept.iter().all(|id| table.get(*id).is_some()));
    }
}
