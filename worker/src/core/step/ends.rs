//! How tasks and objects end: values, failures, retries.

use std::sync::Arc;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId, TaskId};
use aktis_lane::{ConnectionId, PayloadParts, Urgency};
use aktis_proto::v1 as wire;
use thin_vec::ThinVec;

use crate::core::objects::{ObjectState, Stored};
use crate::core::tasks::{Target, layout_of};
use crate::core::{Core, Effect, Effects, Watcher};
use crate::error::TaskFailure;
use crate::reference::{ObjectRef, ProcessAddress};
use crate::value::Value;

/// One result of a task, as it arrived.
pub(crate) enum ResultValue {
    Inline(Value),
    Stored {
        node: NodeId,
        size_bytes: u64,
        /// As the owner told it; 0 from the process that made the copy.
        making: u64,
        contained: ThinVec<ObjectRef>,
    },
}

impl ResultValue {
    fn into_state(self) -> ObjectState {
        match self {
            Self::Inline(value) => ObjectState::Inline(value),
            Self::Stored {
                node,
                size_bytes,
                making,
                contained,
            } => ObjectState::Stored(Box::new(Stored {
                nodes: vec![node],
                size_bytes,
                making,
                contained,
            })),
        }
    }
}

/// A task's end as its worker told it.
pub(crate) struct EndedResult {
    pub(crate) task: TaskId,
    pub(crate) results: Vec<ResultValue>,
    pub(crate) failure: Option<TaskFailure>,
    pub(crate) is_retryable: bool,
    /// References passed in that the worker still holds.
    pub(crate) still_borrowed: Vec<(ObjectId, ProcessAddress)>,
    pub(crate) execution: Duration,
    pub(crate) is_worker_exiting: bool,
    pub(crate) stream_length: u64,
}

impl Core {
    /// A worker or an actor has answered.
    pub(crate) fn task_ended(
        &mut self,
        connection: ConnectionId,
        callee: Option<ProcessAddress>,
        ended: EndedResult,
        effects: &mut Effects,
    ) {
        if let Some(callee) = callee {
            for (object, owner) in ended.still_borrowed {
                self.register_borrower(object, owner, callee, effects);
            }
        }
        let task = ended.task;
        self.lease_task_ended(connection, task, ended.execution, ended.is_worker_exiting);
        let answered = self.call_answered(connection, task);
        match ended.failure {
            None => {
                self.end_stream(task, ended.stream_length, None, effects);
                self.finish_task(task, ended.results, effects);
            }
            Some(failure) if ended.is_retryable => self.retry_or_fail(task, failure, effects),
            Some(failure) => self.fail_task(task, failure, effects),
        }
        if let Some(answered) = answered {
            self.continue_calls(answered, effects);
        }
        self.lease_continue(connection, effects);
    }

    /// Values of a task have come.
    pub(crate) fn finish_task(
        &mut self,
        id: TaskId,
        results: Vec<ResultValue>,
        effects: &mut Effects,
    ) {
        let mut stored_results = 0;
        for (index, result) in (0u32..).zip(results) {
            let object = ObjectId::of_return(id, index);
            let is_stored = matches!(result, ResultValue::Stored { .. });
            if self.resolve_object(object, result, effects) && is_stored {
                stored_results += 1;
            }
        }
        self.retire(id, stored_results, effects);
        self.settle(effects);
    }

    /// An own object has its value. False: nobody holds it any more, and it is freed.
    pub(crate) fn resolve_object(
        &mut self,
        object: ObjectId,
        result: ResultValue,
        effects: &mut Effects,
    ) -> bool {
        let mut state = result.into_state();
        if let ObjectState::Stored(stored) = &mut state
            && stored.making == 0
        {
            stored.making = self.objects.next_making();
        }
        let Some(entry) = self.objects.get_mut(object) else {
            match state {
                ObjectState::Stored(stored) => {
                    effects.push(Effect::FreeStored {
                        object,
                        nodes: stored.nodes,
                    });
                    effects.discard_refs(stored.contained);
                }
                ObjectState::Inline(value) => effects.discard_value(value),
                _ => {}
            }
            return false;
        };
        match (&mut entry.state, state) {
            (ObjectState::Pending | ObjectState::Lost, state) => entry.state = state,
            // A task ran again for another of its results: this one gained a copy, or was inline all the time.
            (ObjectState::Stored(old), ObjectState::Stored(new)) => {
                old.nodes.extend(
                    new.nodes
                        .iter()
                        .filter(|node| !old.nodes.contains(node))
                        .copied()
                        .collect::<Vec<_>>(),
                );
                old.making = new.making;
                effects.discard_refs(new.contained);
            }
            (_, ObjectState::Inline(value)) => effects.discard_value(value),
            (_, ObjectState::Stored(stored)) => effects.discard_refs(stored.contained),
            (_, _) => {}
        }
        self.tell_watchers(object, effects);
        // An unreferenced object that is only kept as lineage does not need its value.
        self.free_if_unreferenced(object, effects);
        true
    }

    pub(in crate::core) fn tell_watchers(&mut self, object: ObjectId, effects: &mut Effects) {
        let Some(entry) = self.objects.get_mut(object) else {
            return;
        };
        for watcher in entry.take_watchers() {
            self.tell(object, watcher, effects);
        }
    }

    /// The object is ready: tells one watcher.
    pub(in crate::core) fn tell(
        &mut self,
        object: ObjectId,
        watcher: Watcher,
        effects: &mut Effects,
    ) {
        match watcher {
            Watcher::Thread(waiter) => waiter.count_down(),
            Watcher::Callback(callback) => effects.callbacks.push(callback),
            Watcher::Task(task) => {
                if let Some(record) = self.tasks.records.get_mut(&task) {
                    record.unresolved = record.unresolved.saturating_sub(1);
                    if record.unresolved == 0 {
                        effects.runnable.push(task);
                    }
                }
            }
            Watcher::Peer {
                connection,
                request_id,
                wants_readiness_only,
            } => {
                self.answer_peer(
                    object,
                    connection,
                    request_id,
                    wants_readiness_only,
                    effects,
                );
            }
        }
    }

    fn answer_peer(
        &mut self,
        object: ObjectId,
        connection: ConnectionId,
        request_id: u64,
        wants_readiness_only: bool,
        effects: &mut Effects,
    ) {
        use wire::object_reply::Outcome;
        let mut payload = PayloadParts::default();
        let mut handed_over = Vec::new();
        let outcome = match self.objects.get(object).map(|entry| &entry.state) {
            Some(state) if wants_readiness_only && state.is_ready() => Outcome::Ready(true),
            Some(ObjectState::Inline(value)) => {
                value.append_to(&mut payload);
                handed_over.extend(
                    value
                        .contained
                        .iter()
                        .map(|inner| (inner.id(), inner.owner())),
                );
                Outcome::Inline(layout_of(value))
            }
            Some(ObjectState::Stored(stored)) => {
                handed_over.extend(
                    stored
                        .contained
                        .iter()
                        .map(|inner| (inner.id(), inner.owner())),
                );
                Outcome::Stored(wire::StoredObject {
                    node_id: stored
                        .nodes
                        .first()
                        .map(|node| node.to_wire())
                        .unwrap_or_default(),
                    size_bytes: stored.size_bytes,
                    contained_refs: stored.contained.iter().map(ObjectRef::to_wire).collect(),
                    making: stored.making,
                })
            }
            Some(ObjectState::Failed(failure)) => Outcome::Failure(failure.to_wire()),
            Some(ObjectState::Pending | ObjectState::Lost) | None => {
                Outcome::Failure(freed_failure(object).to_wire())
            }
        };
        if let Some(peer) = self.peers.get(&connection).copied() {
            for (inner, owner) in handed_over {
                self.register_borrower(inner, owner, peer, effects);
            }
        }
        let reply = wire::ObjectReply {
            request_id,
            outcome: Some(outcome),
        };
        let frame = wire::LaneFrame {
            kind: Some(wire::lane_frame::Kind::ObjectReply(reply)),
        };
        effects.push(Effect::Send {
            connection,
            frame,
            payload,
            urgency: Urgency::Now,
        });
    }

    /// A borrower asks for an own object.
    pub(crate) fn peer_asks(
        &mut self,
        object: ObjectId,
        connection: ConnectionId,
        request_id: u64,
        wants_readiness_only: bool,
        effects: &mut Effects,
    ) {
        let watcher = Watcher::Peer {
            connection,
            request_id,
            wants_readiness_only,
        };
        self.watch(object, watcher, effects);
        self.settle(effects);
    }

    /// The owner of a borrowed object has answered.
    pub(crate) fn owner_answered(
        &mut self,
        object: ObjectId,
        answer: Result<ResultValue, TaskFailure>,
        effects: &mut Effects,
    ) {
        match answer {
            Ok(result) => {
                self.resolve_object(object, result, effects);
            }
            Err(failure) => self.fail_object(object, failure, effects),
        }
        self.settle(effects);
    }

    /// A reader found no copy on this node: when no other node has one, another is to be made. A copy that was made after what
    /// the reader was told of stays, also on this node: the reader asks again, and finds it.
    pub(crate) fn copy_lost(
        &mut self,
        object: ObjectId,
        node: NodeId,
        making: u64,
        effects: &mut Effects,
    ) {
        let state = self.objects.get(object).map(|entry| &entry.state);
        if matches!(state, Some(ObjectState::Stored(stored)) if stored.making == making) {
            self.forget_copy(object, node, effects);
        }
    }

    fn forget_copy(&mut self, object: ObjectId, node: NodeId, effects: &mut Effects) {
        let Some(entry) = self.objects.get_mut(object) else {
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

    /// A node died with everything its store held.
    pub(crate) fn node_died(&mut self, node: NodeId, effects: &mut Effects) {
        let there: Vec<ObjectId> = self
            .objects
            .entries
            .iter()
            .filter(|(_, entry)| matches!(&entry.state, ObjectState::Stored(stored) if stored.nodes.contains(&node)))
            .map(|(id, _)| *id)
            .collect();
        for object in there {
            self.forget_copy(object, node, effects);
        }
        self.settle(effects);
    }

    pub(in crate::core) fn fail_object(
        &mut self,
        object: ObjectId,
        failure: TaskFailure,
        effects: &mut Effects,
    ) {
        let Some(entry) = self.objects.get_mut(object) else {
            return;
        };
        if entry.state.is_ready() {
            return;
        }
        entry.state = ObjectState::Failed(Arc::new(failure));
        self.objects.tell_getters(object);
        self.tell_watchers(object, effects);
        self.free_if_unreferenced(object, effects);
    }

    /// The task is over without values (`TASK-1`).
    pub(crate) fn fail_task(&mut self, id: TaskId, failure: TaskFailure, effects: &mut Effects) {
        let Some(record) = self.tasks.records.get(&id) else {
            return;
        };
        for index in 0..record.template.shared.num_returns.max(1) {
            self.fail_object(ObjectId::of_return(id, index), failure.clone(), effects);
        }
        if self
            .tasks
            .records
            .get(&id)
            .is_some_and(|record| record.is_rerun)
        {
            self.fail_missing(id, &failure, effects);
        }
        self.end_stream(id, 0, Some(failure), effects);
        self.retire(id, 0, effects);
        self.settle(effects);
    }

    /// The task's attempt failed through the system or with an exception it is to be retried on.
    pub(crate) fn retry_or_fail(
        &mut self,
        id: TaskId,
        failure: TaskFailure,
        effects: &mut Effects,
    ) {
        let Some(record) = self.tasks.records.get_mut(&id) else {
            return;
        };
        if !record.take_retry() {
            let is_crash = failure.code == ErrorCode::WorkerCrashed;
            let cancelled = is_crash.then(|| self.cancelled_end(id)).flatten();
            return self.fail_task(id, cancelled.unwrap_or(failure), effects);
        }
        record.place = crate::core::tasks::Place::Queued;
        match record.template.target {
            Target::Class(_) => self.resolve_dependencies(id, effects),
            Target::Actor(actor) => self.requeue_call(actor, id, effects),
        }
        self.settle(effects);
    }

    /// The owner died: what was borrowed from it cannot be had any more.
    pub(crate) fn owner_died(&mut self, owner: ProcessAddress, cause: &str, effects: &mut Effects) {
        let orphans: Vec<ObjectId> = self
            .objects
            .entries
            .iter()
            .filter(|(_, entry)| {
                entry
                    .owner()
                    .is_some_and(|address| address.worker == owner.worker)
                    && !entry.state.is_ready()
            })
            .map(|(id, _)| *id)
            .collect();
        for object in orphans {
            let message = format!(
                "object {object} cannot be had: the process {} that owned it ended ({cause})",
                owner.worker
            );
            self.fail_object(
                object,
                TaskFailure::new(ErrorCode::OwnerDied, message),
                effects,
            );
        }
        self.settle(effects);
    }
}

impl Core {
    /// A node died, and with it the owners that lived there.
    pub(crate) fn owners_on_node_died(&mut self, node: NodeId, cause: &str, effects: &mut Effects) {
        let mut owners: Vec<ProcessAddress> = self
            .objects
            .entries
            .values()
            .filter_map(|entry| entry.owner())
            .filter(|owner| owner.node == node)
            .collect();
        owners.dedup();
        for owner in owners {
            self.owner_died(owner, cause, effects);
        }
    }

    /// The session is over: everything that is pending fails.
    pub(crate) fn fail_everything(&mut self, failure: &TaskFailure, effects: &mut Effects) {
        self.lose_actors(failure, effects);
        let tasks: Vec<TaskId> = self.tasks.records.keys().copied().collect();
        for task in tasks {
            self.fail_task(task, failure.clone(), effects);
        }
        let pending: Vec<ObjectId> = self
            .objects
            .entries
            .iter()
            .filter(|(_, entry)| !entry.state.is_ready())
            .map(|(id, _)| *id)
            .collect();
        for object in pending {
            self.fail_object(object, failure.clone(), effects);
        }
    }
}

fn freed_failure(object: ObjectId) -> TaskFailure {
    let message = format!("object {object} was freed: no process held a reference to it any more");
    TaskFailure::new(ErrorCode::ObjectLost, message)
}
