//! Objects become ready, or get lost. Those who wait for them are told.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId};
use aktis_proto::v1 as wire;

use super::{ObjectState, ReferenceTable, ResultValue};
use crate::core::{Consequence, Effect, Effects, Watcher};
use crate::error::TaskFailure;
use crate::reference::{ObjectRef, ProcessAddress};
use crate::value::Value;
use aktis_lane::PayloadParts;
use aktis_lane::{ConnectionId, Urgency};

impl ReferenceTable {
    /// Registers who is to be told when the object is ready. Ready objects tell at once.
    pub(in crate::core) fn watch(&mut self, id: ObjectId, watcher: Watcher, effects: &mut Effects) {
        match self.entries.get_mut(&id) {
            Some(entry) if !entry.state.is_ready() => {
                entry.watchers.push(watcher);
                self.bring_about(id, effects);
            }
            _ => self.tell(id, watcher, effects),
        }
    }

    /// Does what it takes for a pending object to become ready.
    pub(in crate::core) fn bring_about(&mut self, id: ObjectId, effects: &mut Effects) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let Some(owner) = entry.owner() else {
            if matches!(entry.state, ObjectState::Lost) {
                effects.follow(Consequence::Missed(id));
            }
            return;
        };
        let was_requested = match entry.state {
            ObjectState::Lost => {
                entry.state = ObjectState::Pending;
                false
            }
            ObjectState::Pending => entry.elsewhere().is_requested,
            ObjectState::Inline(_) | ObjectState::Stored(_) | ObjectState::Failed(_) => return,
        };
        if !was_requested {
            entry.elsewhere().is_requested = true;
            effects.push(Effect::AskOwner { owner, object: id });
        }
    }

    /// The object has its value; one that nobody holds any more is freed.
    pub(in crate::core) fn resolve(
        &mut self,
        id: ObjectId,
        result: ResultValue,
        effects: &mut Effects,
    ) {
        let mut state = result.into_state();
        if let ObjectState::Stored(stored) = &mut state
            && stored.making == 0
        {
            // The number of a copy that was made just now.
            self.last_making += 1;
            stored.making = self.last_making;
        }
        let Some(entry) = self.entries.get_mut(&id) else {
            match state {
                ObjectState::Stored(stored) => {
                    effects.push(Effect::FreeStored {
                        object: id,
                        nodes: stored.nodes,
                    });
                    effects.discard_refs(stored.contained);
                }
                ObjectState::Inline(value) => effects.discard_value(value),
                _ => {}
            }
            return;
        };
        match (&mut entry.state, state) {
            (ObjectState::Pending | ObjectState::Lost, state) => entry.state = state,
            // A task ran again for another of its results: this one gained a copy, or was inline all the time.
            (ObjectState::Stored(old), ObjectState::Stored(new)) => {
                let are_new = |node: &&NodeId| !old.nodes.contains(node);
                let gained: Vec<NodeId> = new.nodes.iter().filter(are_new).copied().collect();
                old.nodes.extend(gained);
                old.making = new.making;
                effects.discard_refs(new.contained);
            }
            (_, ObjectState::Inline(value)) => effects.discard_value(value),
            (_, ObjectState::Stored(stored)) => {
                // Nobody will read this copy.
                if entry.owner().is_none() {
                    let nodes = stored.nodes;
                    effects.push(Effect::FreeStored { object: id, nodes });
                }
                effects.discard_refs(stored.contained);
            }
            (_, _) => {}
        }
        entry.review_claim(id, effects);
        self.tell_ready(id, effects);
    }

    /// The object cannot be had.
    pub(in crate::core) fn fail(
        &mut self,
        id: ObjectId,
        failure: TaskFailure,
        effects: &mut Effects,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if entry.state.is_ready() {
            return;
        }
        entry.state = ObjectState::Failed(Arc::new(failure));
        entry.review_claim(id, effects);
        self.getters.tell(id);
        self.tell_ready(id, effects);
    }

    /// An owner died: what was borrowed from it cannot be had any more.
    pub(in crate::core) fn owner_died(
        &mut self,
        owner: ProcessAddress,
        cause: &str,
        effects: &mut Effects,
    ) {
        let orphans = self.ids(|_, entry| {
            let is_its = |address: ProcessAddress| address.worker == owner.worker;
            entry.owner().is_some_and(is_its) && !entry.state.is_ready()
        });
        for object in orphans {
            let message = format!(
                "object {object} cannot be had: the process {} that owned it ended ({cause})",
                owner.worker
            );
            self.fail(
                object,
                TaskFailure::new(ErrorCode::OwnerDied, message),
                effects,
            );
        }
    }

    /// A task is going to make the object again.
    pub(in crate::core) fn is_made_again(&mut self, id: ObjectId) {
        if let Some(entry) = self.entries.get_mut(&id)
            && matches!(entry.state, ObjectState::Lost)
        {
            entry.state = ObjectState::Pending;
        }
    }

    /// A reader found no copy on this node: when no other node has one, another is to be made. A copy that was made after what
    /// the reader was told of stays, also on this node: the reader asks again, and finds it.
    pub(crate) fn copy_lost(
        &mut self,
        id: ObjectId,
        node: NodeId,
        making: u64,
        effects: &mut Effects,
    ) {
        if matches!(self.state(id), Some(ObjectState::Stored(stored)) if stored.making == making) {
            self.forget_copy(id, node, effects);
        }
    }

    /// A node died with everything its store held.
    pub(crate) fn node_died(&mut self, node: NodeId, effects: &mut Effects) {
        let there = self.ids(|_, entry| {
            matches!(&entry.state, ObjectState::Stored(stored) if stored.nodes.contains(&node))
        });
        for object in there {
            self.forget_copy(object, node, effects);
        }
    }

    fn forget_copy(&mut self, id: ObjectId, node: NodeId, effects: &mut Effects) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let ObjectState::Stored(stored) = &mut entry.state else {
            return;
        };
        stored.nodes.retain(|place| *place != node);
        if stored.nodes.is_empty() {
            let state = std::mem::replace(&mut entry.state, ObjectState::Lost);
            if let ObjectState::Stored(stored) = state {
                effects.discard_refs(stored.contained);
            }
        }
    }

    /// A node says how it lost its copy.
    pub(crate) fn note_loss(&mut self, id: ObjectId, loss: String) {
        self.losses.insert(id, loss);
    }

    pub(in crate::core) fn take_loss(&mut self, id: ObjectId) -> Option<String> {
        self.losses.remove(&id)
    }

    /// Tells everybody who waits for the object.
    fn tell_ready(&mut self, id: ObjectId, effects: &mut Effects) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let (watchers, is_referenced) =
            (std::mem::take(&mut entry.watchers), entry.is_referenced());
        for watcher in watchers {
            self.tell(id, watcher, effects);
        }
        if !is_referenced {
            // One that is only kept as lineage does not need its value.
            self.free_if_unreferenced(id, effects);
        }
    }

    /// The object is ready: tells one watcher.
    fn tell(&mut self, id: ObjectId, watcher: Watcher, effects: &mut Effects) {
        match watcher {
            Watcher::Thread(waiter) => waiter.count_down(),
            Watcher::Callback(callback) => effects.callbacks.push(callback),
            Watcher::Task(task) => effects.follow(Consequence::ArgumentReady(task)),
            Watcher::Peer {
                connection,
                request_id,
                wants_readiness_only,
            } => {
                let question = (request_id, wants_readiness_only);
                self.answer_peer(id, connection, question, effects);
            }
        }
    }

    fn answer_peer(
        &mut self,
        id: ObjectId,
        connection: ConnectionId,
        (request_id, wants_readiness_only): (u64, bool),
        effects: &mut Effects,
    ) {
        use wire::object_reply::Outcome;
        let mut payload = PayloadParts::default();
        let mut handed_over = Vec::new();
        let addresses = |inner: &ObjectRef| (inner.id(), inner.owner());
        let outcome = match self.state(id) {
            Some(state) if wants_readiness_only && state.is_ready() => Outcome::Ready(true),
            Some(ObjectState::Inline(value)) => {
                value.append_to(&mut payload);
                handed_over.extend(value.contained.iter().map(addresses));
                Outcome::Inline(layout_of(value))
            }
            Some(ObjectState::Stored(stored)) => {
                handed_over.extend(stored.contained.iter().map(addresses));
                let node = stored.nodes.first();
                Outcome::Stored(wire::StoredObject {
                    node_id: node.map(|node| node.to_wire()).unwrap_or_default(),
                    size_bytes: stored.size_bytes,
                    contained_refs: stored.contained.iter().map(ObjectRef::to_wire).collect(),
                    making: stored.making,
                })
            }
            Some(ObjectState::Failed(failure)) => Outcome::Failure(failure.to_wire()),
            Some(ObjectState::Pending | ObjectState::Lost) | None => {
                Outcome::Failure(freed_failure(id).to_wire())
            }
        };
        if let Some(peer) = self.peers.get(&connection).copied() {
            for (inner, owner) in handed_over {
                self.hand_over(inner, owner, peer, effects);
            }
        }
        let reply = wire::ObjectReply {
            request_id,
            outcome: Some(outcome),
        };
        let kind = Some(wire::lane_frame::Kind::ObjectReply(reply));
        effects.push(Effect::Send {
            connection,
            frame: wire::LaneFrame { kind },
            payload,
            urgency: Urgency::Now,
        });
    }
}

/// The wire form of a value's layout.
pub(crate) fn layout_of(value: &Value) -> wire::ValueLayout {
    wire::ValueLayout {
        format: value.format as u32,
        lengths: value.part_lengths().map(|length| length as u64).collect(),
        contained_refs: value.contained.iter().map(ObjectRef::to_wire).collect(),
    }
}

fn freed_failure(object: ObjectId) -> TaskFailure {
    let message = format!("object {object} was freed: no process held a reference to it any more");
    TaskFailure::new(ErrorCode::ObjectLost, message)
}
