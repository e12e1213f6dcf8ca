//! Counting references, within this process and between processes.
//!
//! Between processes the owner keeps one signed count per borrower. Whoever hands a reference to another process holds
//! one itself until it has told the owner about the receiver (`BorrowDelta +1`, on the same connection as its own later
//! `-1`). The receiver remembers how often it was handed the reference (`credits`) and takes all of that back with one
//! delta when its last handle goes. Messages of two processes may overtake each other, so a single count can be
//! negative for a moment; the object is freed when no count is positive and the owner itself holds no handle.
//! The protocol is that of distributed reference counting by delegation (Birrell et al., "Distributed garbage
//! collection for network objects", 1993), with the acknowledgement replaced by the sender's own count.

use std::collections::hash_map::Entry;

use aktis_common::ids::{ActorId, ObjectId, WorkerId};
use rustc_hash::FxHashMap;

use super::{ObjectEntry, ObjectState, ReferenceTable};
use crate::core::clock::Clock;
use crate::core::{Effect, Effects};
use crate::reference::ProcessAddress;

/// How an object was lost that lies in no store any more since nobody referred to it.
const FREED: &str = "its value was freed with its last reference";

impl ReferenceTable {
    /// A handle is made for an object of this process or of `owner`. `is_credited`: the sender told the owner.
    pub(crate) fn count_handle(&mut self, id: ObjectId, owner: ProcessAddress, is_credited: bool) {
        let entry = match self.entries.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            // An own object that is gone already: whoever asks is told that it is lost.
            Entry::Vacant(place) if owner.worker == self.me.worker => {
                place.insert(ObjectEntry::owned(ObjectState::Lost))
            }
            Entry::Vacant(place) => place.insert(ObjectEntry::borrowed(owner)),
        };
        entry.handles += 1;
        if is_credited && entry.owner().is_some() {
            entry.elsewhere().credits += 1;
        }
        entry.count_kept(&mut self.kept_bytes);
    }

    /// Whether this process still holds a borrowed reference after a task; if so it counts as handed over.
    pub(crate) fn credit_if_still_held(&mut self, id: ObjectId) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else {
            return false;
        };
        let is_held = entry.owner().is_some() && entry.handles > 0;
        if is_held {
            entry.elsewhere().credits += 1;
        }
        is_held
    }

    /// The reference `id` stands for `actor`: when it is freed, the actor ends.
    pub(crate) fn bind_actor(&mut self, id: ObjectId, actor: ActorId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.elsewhere().actor = Some(actor);
        }
    }

    /// `borrower` was handed a reference by this process: says so to the object's owner.
    pub(crate) fn hand_over(
        &mut self,
        id: ObjectId,
        owner: ProcessAddress,
        borrower: ProcessAddress,
        effects: &mut Effects,
    ) {
        if owner.worker == self.me.worker {
            if borrower.worker != self.me.worker {
                self.change_borrowers(id, |counts| add(counts, borrower.worker, 1));
                self.note_lent(effects);
            }
        } else if owner.worker != borrower.worker {
            effects.push(Effect::BorrowDelta {
                owner,
                object: id,
                borrower,
                delta: 1,
            });
        }
    }

    /// The last clone of a handle is gone.
    pub(in crate::core) fn release_handle(&mut self, id: ObjectId, effects: &mut Effects) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.handles = entry.handles.saturating_sub(1);
        if entry.handles == 0 {
            self.free_if_unreferenced(id, effects);
        }
    }

    /// A process holds `delta` more references to an object of this process.
    pub(in crate::core) fn borrow_delta(
        &mut self,
        id: ObjectId,
        borrower: WorkerId,
        delta: i64,
        clock: &mut Clock,
        effects: &mut Effects,
    ) {
        if borrower == self.me.worker {
            return;
        }
        self.change_borrowers(id, |counts| add(counts, borrower, delta));
        self.free_if_unreferenced(id, effects);
        self.note_lent(effects);
        self.note_unlent(clock);
    }

    /// A process died: what it borrowed is given back.
    pub(in crate::core) fn borrower_died(
        &mut self,
        worker: WorkerId,
        clock: &mut Clock,
        effects: &mut Effects,
    ) {
        for id in self.ids(|_, entry| entry.is_borrowed_by(worker)) {
            self.change_borrowers(id, |counts| {
                counts.remove(&worker);
            });
            self.free_if_unreferenced(id, effects);
        }
        self.note_unlent(clock);
    }

    /// A task is kept as lineage that needs the object to run again.
    pub(in crate::core) fn pin_lineage(&mut self, id: ObjectId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.lineage_pins += 1;
        }
    }

    /// Whether the object is another process's that does not know of this one's handles any more, and may have freed it.
    pub(in crate::core) fn is_given_back(&self, id: ObjectId) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| entry.owner().is_some() && entry.credits() == 0)
    }

    /// Such a task is forgotten, or runs again and holds the object itself.
    pub(in crate::core) fn unpin_lineage(&mut self, id: ObjectId, effects: &mut Effects) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.lineage_pins = entry.lineage_pins.saturating_sub(1);
            self.free_if_unreferenced(id, effects);
        }
    }

    /// Changes who holds references to an own object.
    fn change_borrowers(
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
        entry.count_kept(&mut self.kept_bytes);
    }

    /// Frees the object's value when nobody can ask for it any more (`REF-1`). What a task needs to run again stays: a value that
    /// came inline itself, of others the fact that there was one.
    pub(super) fn free_if_unreferenced(&mut self, id: ObjectId, effects: &mut Effects) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if entry.is_referenced() {
            return;
        }
        let (owner, credits, actor) = entry.part_with();
        if entry.lineage_pins == 0 {
            entry.drop_claim(id, effects);
            if let Some(entry) = self.remove(id) {
                discard_state(id, entry.state, owner.is_none(), effects);
            }
        } else if matches!(entry.state, ObjectState::Stored(_) | ObjectState::Failed(_)) {
            let state = std::mem::replace(&mut entry.state, ObjectState::Lost);
            discard_state(id, state, owner.is_none(), effects);
            self.note_loss(id, FREED.to_owned());
        } else {
            entry.count_kept(&mut self.kept_bytes);
        }
        if let Some(actor) = actor {
            effects.push(Effect::EndActor { actor });
        }
        if let Some(owner) = owner
            && credits != 0
        {
            let (borrower, delta) = (self.me, -credits);
            effects.push(Effect::BorrowDelta {
                owner,
                object: id,
                borrower,
                delta,
            });
        }
    }
}

fn add(counts: &mut FxHashMap<WorkerId, i64>, borrower: WorkerId, delta: i64) {
    let count = counts.entry(borrower).or_insert(0);
    *count += delta;
    if *count == 0 {
        counts.remove(&borrower);
    }
}

fn discard_state(id: ObjectId, state: ObjectState, is_owned: bool, effects: &mut Effects) {
    match state {
        ObjectState::Inline(value) => effects.discard_value(value),
        ObjectState::Stored(stored) => {
            if is_owned {
                effects.push(Effect::FreeStored {
                    object: id,
                    nodes: stored.nodes,
                });
            }
            effects.discard_refs(stored.contained);
        }
        ObjectState::Pending | ObjectState::Failed(_) | ObjectState::Lost => {}
    }
}
