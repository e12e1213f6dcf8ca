//! Every object this process holds references to.
//!
//! ```text
//!            task ended              copies gone
//!  Pending ─────────────► Inline          │
//!     │  └──────────────► Stored ─────────┴─► Lost ── task runs again ─► Pending
//!     └─────────────────► Failed                └─── cannot ───────────► Failed
//! ```
//! A borrowed object starts as Pending and becomes what its owner answers.

pub(super) mod lending;
mod references;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aktis_common::ids::{ActorId, IdBuildHasher, NodeId, ObjectId, WorkerId};
use aktis_lane::Waiter;
use rustc_hash::FxHashMap;
use thin_vec::ThinVec;

use super::effects::Watcher;
use crate::error::TaskFailure;
use crate::reference::{ObjectRef, ProcessAddress};
use crate::value::Value;

/// Where an object of the stores lies.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) size_bytes: u64,
    /// Grows whenever a copy is made. A reader that misses one says which it was told of: one that was made since may lie on
    /// the same node.
    pub(crate) making: u64,
    /// Held for the object that contains them.
    pub(crate) contained: ThinVec<ObjectRef>,
}

/// What is known of an object's value.
#[derive(Debug)]
pub(crate) enum ObjectState {
    Pending,
    Inline(Value),
    Stored(Box<Stored>),
    Failed(Arc<TaskFailure>),
    /// All copies are gone; nobody has asked since.
    Lost,
}

impl ObjectState {
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Self::Inline(_) | Self::Stored(_) | Self::Failed(_))
    }
}

/// One object.
pub(crate) struct ObjectEntry {
    /// Handles in this process.
    pub(crate) handles: u32,
    /// Results kept as lineage that were computed from this object.
    pub(crate) lineage_pins: u32,
    pub(crate) state: ObjectState,
    watchers: ThinVec<Watcher>,
    /// Most objects are this process's own, and no other process knows of them.
    elsewhere: Option<Box<Elsewhere>>,
}

/// What other processes, and actors, have to do with an object.
#[derive(Default)]
pub(crate) struct Elsewhere {
    /// `None`: owned by this process.
    pub(crate) owner: Option<ProcessAddress>,
    /// Handed to this process that many times by senders who told the owner (borrowed objects only).
    pub(crate) credits: i64,
    /// The owner was asked (borrowed objects only).
    pub(crate) is_requested: bool,
    /// Processes that hold references (owned objects only). Counts may be negative for a moment: see `references`.
    pub(crate) borrowers: FxHashMap<WorkerId, i64>,
    /// The reference stands for an actor: its end is the actor's end.
    pub(crate) actor: Option<ActorId>,
}

impl ObjectEntry {
    pub(crate) fn owned(state: ObjectState) -> Self {
        Self {
            handles: 0,
            lineage_pins: 0,
            state,
            watchers: ThinVec::new(),
            elsewhere: None,
        }
    }

    pub(crate) fn borrowed(owner: ProcessAddress) -> Self {
        let mut entry = Self::owned(ObjectState::Pending);
        entry.elsewhere().owner = Some(owner);
        entry
    }

    /// The process that owns the object; `None` if it is this one.
    pub(crate) fn owner(&self) -> Option<ProcessAddress> {
        self.elsewhere.as_ref()?.owner
    }

    pub(crate) fn elsewhere(&mut self) -> &mut Elsewhere {
        self.elsewhere.get_or_insert_default()
    }

    /// Nothing refers to the object any more: its owner, the credits to be given back to it, the actor it stands for.
    pub(crate) fn part_with(&mut self) -> (Option<ProcessAddress>, i64, Option<ActorId>) {
        match &mut self.elsewhere {
            Some(elsewhere) => (
                elsewhere.owner.take(),
                elsewhere.credits,
                elsewhere.actor.take(),
            ),
            None => (None, 0, None),
        }
    }

    pub(crate) fn is_borrowed_by(&self, worker: WorkerId) -> bool {
        self.elsewhere
            .as_ref()
            .is_some_and(|elsewhere| elsewhere.borrowers.contains_key(&worker))
    }

    pub(crate) fn watch(&mut self, watcher: Watcher) {
        self.watchers.push(watcher);
    }

    pub(crate) fn take_watchers(&mut self) -> ThinVec<Watcher> {
        std::mem::take(&mut self.watchers)
    }

    pub(crate) fn unwatch(&mut self, is_over: impl Fn(&Watcher) -> bool) {
        self.watchers.retain(|watcher| !is_over(watcher));
    }

    /// Whether anybody may still ask for the value.
    pub(crate) fn is_referenced(&self) -> bool {
        self.handles > 0 || self.is_lent()
    }

    /// Whether other processes hold references to this object of this process.
    pub(crate) fn is_lent(&self) -> bool {
        let is_borrowed =
            |elsewhere: &Elsewhere| elsewhere.borrowers.values().any(|count| *count > 0);
        self.elsewhere.as_deref().is_some_and(is_borrowed)
    }

    /// The actor that the reference stands for.
    pub(crate) fn actor(&self) -> Option<ActorId> {
        self.elsewhere.as_ref()?.actor
    }

    /// What the value refers to.
    pub(crate) fn contained(&self) -> &[ObjectRef] {
        match &self.state {
            ObjectState::Inline(value) => &value.contained,
            ObjectState::Stored(stored) => &stored.contained,
            ObjectState::Pending | ObjectState::Failed(_) | ObjectState::Lost => &[],
        }
    }
}

/// All objects, by id.
#[derive(Default)]
pub(crate) struct ObjectTable {
    pub(crate) entries: HashMap<ObjectId, ObjectEntry, IdBuildHasher>,
    has_shrunk: bool,
    peak: usize,
    /// Own objects that other processes hold references to.
    lent: usize,
    last_making: u64,
    /// Threads that wait for one of many objects, and are to know when another one fails.
    getters: Vec<Getter>,
    next_getter: u64,
}

struct Getter {
    number: u64,
    waiter: Option<Arc<Waiter>>,
    /// What has failed since it looked last.
    failed: Vec<ObjectId>,
    /// Whether that is anything, to be seen without the core's lock.
    has_failures: Arc<AtomicBool>,
}

impl ObjectTable {
    pub(crate) fn get(&self, id: ObjectId) -> Option<&ObjectEntry> {
        self.entries.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ObjectId) -> Option<&mut ObjectEntry> {
        self.entries.get_mut(&id)
    }

    /// Forgets an object. A table that was large once gives its memory back.
    pub(crate) fn remove(&mut self, id: ObjectId) {
        self.entries.remove(&id);
        self.has_shrunk |= shrink_if_sparse(&mut self.entries, &mut self.peak);
    }

    /// Changes who holds references to an own object.
    pub(crate) fn change_borrowers(
        &mut self,
        id: ObjectId,
        change: impl FnOnce(&mut FxHashMap<WorkerId, i64>),
    ) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let was_lent = entry.is_lent();
        change(&mut entry.elsewhere().borrowers);
        match (was_lent, entry.is_lent()) {
            (false, true) => self.lent += 1,
            (true, false) => self.lent -= 1,
            _ => {}
        }
    }

    /// The number of a copy that was made just now.
    pub(in crate::core) fn next_making(&mut self) -> u64 {
        self.last_making += 1;
        self.last_making
    }

    /// How many own objects other processes hold references to.
    pub(crate) fn lent(&self) -> usize {
        self.lent
    }

    /// Whether much memory was freed since this was asked last.
    pub(crate) fn take_shrunk(&mut self) -> bool {
        std::mem::take(&mut self.has_shrunk)
    }

    /// A thread gets many objects.
    pub(crate) fn add_getter(&mut self, has_failures: Arc<AtomicBool>) -> u64 {
        self.next_getter += 1;
        self.getters.push(Getter {
            number: self.next_getter,
            waiter: None,
            failed: Vec::new(),
            has_failures,
        });
        self.next_getter
    }

    /// It waits now; at once for nothing, if something has failed since it looked last.
    pub(crate) fn getter_waits(&mut self, number: u64, waiter: &Arc<Waiter>) {
        if let Some(getter) = self.getters.iter_mut().find(|one| one.number == number) {
            if !getter.failed.is_empty() {
                waiter.count_down();
            }
            getter.waiter = Some(Arc::clone(waiter));
        }
    }

    /// What has failed since this was asked last.
    pub(crate) fn take_failed(&mut self, number: u64) -> Vec<ObjectId> {
        let getter = self.getters.iter_mut().find(|one| one.number == number);
        getter.map_or_else(Vec::new, |getter| {
            getter.has_failures.store(false, Ordering::Release);
            std::mem::take(&mut getter.failed)
        })
    }

    /// The thread is done.
    pub(crate) fn remove_getter(&mut self, number: u64) {
        self.getters.retain(|one| one.number != number);
    }

    /// An object has failed.
    pub(in crate::core) fn tell_getters(&mut self, object: ObjectId) {
        for getter in &mut self.getters {
            getter.failed.push(object);
            getter.has_failures.store(true, Ordering::Release);
            if let Some(waiter) = &getter.waiter {
                waiter.count_down();
            }
        }
    }

    /// Adds an object of this process.
    pub(crate) fn insert_owned(&mut self, id: ObjectId, state: ObjectState) -> &mut ObjectEntry {
        self.entries
            .entry(id)
            .or_insert_with(|| ObjectEntry::owned(state))
    }

    /// Whether the object is ready; an unknown one counts as not ready.
    pub(crate) fn is_ready(&self, id: ObjectId) -> bool {
        self.get(id).is_some_and(|entry| entry.state.is_ready())
    }
}

/// Gives back most of a table's memory when hardly anything is left in it, to be called after each removal. True: it did.
/// `peak`: the most entries since the last time. The table's own capacity does not count places that were emptied.
pub(crate) fn shrink_if_sparse<K: Eq + Hash, V>(
    table: &mut HashMap<K, V, IdBuildHasher>,
    peak: &mut usize,
) -> bool {
    const WORTH_IT: usize = 1 << 12;
    *peak = (*peak).max(table.len() + 1);
    let is_sparse = *peak > WORTH_IT && table.len() < *peak / 16;
    if is_sparse {
        table.shrink_to(table.len() * 2);
        *peak = table.len();
    }
    is_sparse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emptied_table_gives_its_memory_back_and_keeps_what_is_left() {
        let mut table = ObjectTable::default();
        let ids: Vec<ObjectId> = (0..200_000).map(|_| ObjectId::for_put()).collect();
        for id in &ids {
            table.insert_owned(*id, ObjectState::Pending);
        }
        let full = table.entries.capacity();
        let (gone, kept) = ids.split_at(199_500);
        gone.iter().for_each(|id| table.remove(*id));
        assert!(table.take_shrunk() && !table.take_shrunk());
        // From full to a sixteenth, and from there to a sixteenth of that.
        assert!(table.entries.capacity() < full / 100);
        assert!(kept.iter().all(|id| table.get(*id).is_some()));
    }
}
