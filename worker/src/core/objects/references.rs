//! Counting references, within this process and between processes.
//!
//! Between processes the owner keeps one signed count per borrower. Whoever hands a reference to another process holds
//! one itself until it has told the owner about the receiver (`BorrowDelta +1`, on the same connection as its own later
//! `-1`). The receiver remembers how often it was handed the reference (`credits`) and takes all of that back with one
//! delta when its last handle goes. Messages of two processes may overtake each other, so a single count can be
//! negative for a moment; the object is freed when no count is positive and the owner itself holds no handle.
//! The protocol is that of distributed reference counting by delegation (Birrell et al., "Distributed garbage
//! collection for network objects", 1993), with the acknowledgement replaced by the sender's own count.

use aktis_common::ids::{ActorId, ObjectId, WorkerId};

use super::{ObjectEntry, ObjectState};
use crate::core::{Core, Effect, Effects, Watcher};
use crate::reference::ProcessAddress;

impl Core {
    /// A handle is made for an object of this process or of `owner`. `is_credited`: the sender told the owner.
    pub(crate) fn count_handle(&mut self, id: ObjectId, owner: ProcessAddress, is_credited: bool) {
        let me = self.me;
        let entry = self.objects.entries.entry(id).or_insert_with(|| {
            if owner.worker == me.worker {
                // An own object that is gone already: whoever asks is told that it is lost.
                ObjectEntry::owned(ObjectState::Lost)
            } else {
                ObjectEntry::borrowed(owner)
            }
        });
        entry.handles += 1;
        if is_credited && entry.owner().is_some() {
            entry.elsewhere().credits += 1;
        }
    }

    /// The last clone of a handle is gone.
    pub(crate) fn release_handle(&mut self, id: ObjectId, effects: &mut Effects) {
        let Some(entry) = self.objects.get_mut(id) else {
            return;
        };
        entry.handles = entry.handles.saturating_sub(1);
        self.free_if_unreferenced(id, effects);
    }

    /// A process holds `delta` more references to an object of this process.
    pub(crate) fn borrow_delta(
        &mut self,
        id: ObjectId,
        borrower: WorkerId,
        delta: i64,
        effects: &mut Effects,
    ) {
        if borrower == self.me.worker {
            return;
        }
        self.objects.change_borrowers(id, |counts| {
            let count = counts.entry(borrower).or_insert(0);
            *count += delta;
            if *count == 0 {
                counts.remove(&borrower);
            }
        });
        self.free_if_unreferenced(id, effects);
        self.note_lending(effects);
    }

    /// Says to the owner of an object that `borrower` was handed a reference by this process.
    pub(crate) fn register_borrower(
        &mut self,
        id: ObjectId,
        owner: ProcessAddress,
        borrower: ProcessAddress,
        effects: &mut Effects,
    ) {
        if owner.worker == self.me.worker {
            self.borrow_delta(id, borrower.worker, 1, effects);
        } else if owner.worker != borrower.worker {
            effects.push(Effect::BorrowDelta {
                owner,
                object: id,
                borrower,
                delta: 1,
            });
        }
    }

    /// Whether this process still holds a borrowed reference after a task; if so it counts as handed over.
    pub(crate) fn credit_if_still_held(&mut self, id: ObjectId) -> bool {
        let Some(entry) = self.objects.get_mut(id) else {
            return false;
        };
        let is_held = entry.owner().is_some() && entry.handles > 0;
        if is_held {
            entry.elsewhere().credits += 1;
        }
        is_held
    }

    /// A process died: what it borrowed is given back, and what it owned is gone.
    pub(crate) fn borrower_died(&mut self, worker: WorkerId, effects: &mut Effects) {
        let held: Vec<ObjectId> = self
            .objects
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_borrowed_by(worker))
            .map(|(id, _)| *id)
            .collect();
        for id in held {
            self.objects.change_borrowers(id, |counts| {
                counts.remove(&worker);
            });
            self.free_if_unreferenced(id, effects);
        }
        self.note_lending(effects);
    }

    /// The reference `id` stands for `actor`: when it is freed, the actor ends.
    pub(crate) fn bind_actor(&mut self, id: ObjectId, actor: ActorId) {
        if let Some(entry) = self.objects.get_mut(id) {
            entry.elsewhere().actor = Some(actor);
        }
    }

    /// Registers who is to be told when the object is ready. Ready objects tell at once.
    pub(crate) fn watch(&mut self, id: ObjectId, watcher: Watcher, effects: &mut Effects) {
        let is_ready = self
            .objects
            .get(id)
            .is_none_or(|entry| entry.state.is_ready());
        if is_ready {
            self.tell(id, watcher, effects);
            return;
        }
        if let Some(entry) = self.objects.get_mut(id) {
            entry.watch(watcher);
        }
        self.bring_about(id, effects);
    }

    /// Does what it takes for a pending object to become ready.
    pub(crate) fn bring_about(&mut self, id: ObjectId, effects: &mut Effects) {
        let Some(entry) = self.objects.get_mut(id) else {
            return;
        };
        match (&entry.state, entry.owner()) {
            (ObjectState::Pending, Some(owner)) => {
                let was_requested = std::mem::replace(&mut entry.elsewhere().is_requested, true);
                if !was_requested {
                    effects.push(Effect::AskOwner { owner, object: id });
                }
            }
            (ObjectState::Lost, Some(_)) => {
                entry.state = ObjectState::Pending;
                entry.elsewhere().is_requested = false;
                self.bring_about(id, effects);
            }
            (ObjectState::Lost, None) => self.reconstruct(id, effects),
            _ => {}
        }
    }

    /// Frees the object's value when nobody can ask for it any more (`REF-1`).
    pub(crate) fn free_if_unreferenced(&mut self, id: ObjectId, effects: &mut Effects) {
        let Some(entry) = self.objects.get_mut(id) else {
            return;
        };
        if entry.is_referenced() {
            return;
        }
        let is_lineage = entry.lineage_pins > 0;
        let state = std::mem::replace(&mut entry.state, ObjectState::Lost);
        let was_stored = matches!(state, ObjectState::Stored(_) | ObjectState::Lost);
        let (owner, credits, actor) = entry.part_with();
        if is_lineage && owner.is_none() {
            if matches!(state, ObjectState::Pending) {
                entry.state = ObjectState::Pending;
            }
        } else {
            self.objects.remove(id);
        }
        self.discard_state(id, state, owner.is_none(), effects);
        if let Some(actor) = actor {
            effects.push(Effect::EndActor { actor });
        }
        match owner {
            Some(owner) if credits != 0 => {
                let (borrower, delta) = (self.me, -credits);
                effects.push(Effect::BorrowDelta {
                    owner,
                    object: id,
                    borrower,
                    delta,
                });
            }
            Some(_) => {}
            None if !is_lineage && was_stored => self.forget_result(id, effects),
            None => {}
        }
    }

    fn discard_state(
        &self,
        id: ObjectId,
        state: ObjectState,
        is_owned: bool,
        effects: &mut Effects,
    ) {
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
}
