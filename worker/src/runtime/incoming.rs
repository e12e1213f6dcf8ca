//! What comes in: frames of lanes and of the raylet, turned into events of the core.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aktis_common::ids::{NodeId, ObjectId, TaskId};
use aktis_lane::{Connection, ConnectionId, Frame, Handler, Payload, PayloadParts, Urgency};
use aktis_proto::v1 as wire;
use parking_lot::Mutex;
use prost::Message;
use thin_vec::ThinVec;
use wire::lane_frame::Kind as LaneKind;

use super::lane_table::LaneRole;
use super::{ReceivedCall, Runtime};
use crate::core::EndedResult;
use crate::error::TaskFailure;
use crate::execution::Work;
use crate::reference::{ObjectRef, ProcessAddress};
use crate::value::{Format, Value, cut_value};

/// What happens with the frames of one lane.
pub(super) struct LaneHandler {
    runtime: Runtime,
    /// What the caller at the other end has told, by slots. Only the polling thread looks at it.
    templates: Mutex<Vec<Arc<wire::CallTemplate>>>,
    /// Who is at the other end is known: this process opened the lane, or the peer said hello.
    is_known: AtomicBool,
}

impl LaneHandler {
    pub(super) fn new(runtime: Runtime, is_known: bool) -> Self {
        Self {
            runtime,
            templates: Mutex::default(),
            is_known: AtomicBool::new(is_known),
        }
    }

    fn on_template(
        &self,
        connection: &Arc<Connection>,
        template: wire::CallTemplate,
    ) -> Result<(), String> {
        self.runtime.note_calls(connection.id);
        let mut templates = self.templates.lock();
        let (slot, template) = (template.slot as usize, Arc::new(template));
        if slot > templates.len() {
            return Err(format!("a call template for slot {slot} out of order"));
        }
        if slot == templates.len() {
            templates.push(template);
        } else {
            templates[slot] = template;
        }
        Ok(())
    }

    fn on_push(
        &self,
        connection: &Arc<Connection>,
        push: wire::PushTask,
        payload: &Payload<'_>,
    ) -> Result<(), String> {
        let template = self
            .templates
            .lock()
            .get(push.template_slot as usize)
            .map(Arc::clone)
            .ok_or("a call without its template")?;
        let (runtime, connection) = (self.runtime.clone(), Arc::clone(connection));
        let call = Box::new(ReceivedCall::new(
            runtime, connection, template, push, payload,
        )?);
        if self.runtime.queue().is_blocked() && !call.is_actor_call() {
            let connection = Arc::clone(call.connection());
            super::executor::send_returned(&connection, &[call], true);
        } else {
            self.runtime.queue().push(Work::Call(call));
        }
        Ok(())
    }
}

impl Handler for LaneHandler {
    fn on_frame(&self, connection: &Arc<Connection>, frame: Frame<'_>) -> Result<(), String> {
        let header = wire::LaneFrame::decode(frame.header)
            .map_err(|error| format!("bad header: {error}"))?;
        let kind = header
            .kind
            .ok_or("frame of an unknown kind: all processes must run the same Aktis version")?;
        if let LaneKind::WhatRuns(_) = kind {
            return self.runtime.say_what_runs(connection);
        }
        // Only the polling thread looks at it.
        if !self.is_known.load(Ordering::Relaxed) {
            if !matches!(kind, LaneKind::Hello(_)) {
                return Err("the first frame of a lane is not a hello".to_owned());
            }
            self.is_known.store(true, Ordering::Relaxed);
        }
        match kind {
            LaneKind::PushTask(push) => self.on_push(connection, push, &frame.payload),
            LaneKind::CallTemplate(template) => self.on_template(connection, *template),
            kind => self.runtime.on_lane_frame(connection, kind, &frame.payload),
        }
    }

    fn on_memory_mapped(&self, connection: &Arc<Connection>) {
        let mapped = LaneKind::SharedMemoryMapped(wire::SharedMemoryMapped {});
        let frame = wire::LaneFrame { kind: Some(mapped) };
        // Nothing waits for it: it goes with what is sent next. A peer that is gone needs it no more.
        let _ = connection.send(&frame, &PayloadParts::default(), Urgency::Soon);
    }

    fn on_closed(&self, connection: &Arc<Connection>) {
        self.runtime.on_lane_closed(connection.id);
    }
}

pub(super) fn id_error(error: &dyn std::fmt::Display) -> String {
    format!("bad identifier: {error}")
}

pub(super) fn address_of(address: Option<&wire::Address>) -> Result<ProcessAddress, String> {
    let address = address.ok_or("an address is missing")?;
    ProcessAddress::from_wire(address).map_err(|error| id_error(&error))
}

fn object_of(bytes: &[u8]) -> Result<ObjectId, String> {
    ObjectId::from_bytes(bytes).map_err(|error| id_error(&error))
}

fn task_of(bytes: &[u8]) -> Result<TaskId, String> {
    TaskId::from_bytes(bytes).map_err(|error| id_error(&error))
}

impl Runtime {
    fn on_lane_frame(
        &self,
        connection: &Arc<Connection>,
        kind: LaneKind,
        payload: &Payload<'_>,
    ) -> Result<(), String> {
        let id = connection.id;
        match kind {
            LaneKind::Hello(hello) => self.on_hello(id, *hello),
            LaneKind::TaskDone(done) => self.on_task_done(id, done, payload),
            LaneKind::TasksReturned(returned) => self.on_tasks_returned(id, &returned),
            LaneKind::StealTasks(steal) => {
                self.give_back(connection, steal.max_tasks as usize, false);
                Ok(())
            }
            LaneKind::ObjectRequest(request) => self.on_object_request(id, &request),
            LaneKind::ObjectReply(reply) => self.on_object_reply(reply, payload),
            LaneKind::BorrowDelta(delta) => self.on_borrow_delta(&delta),
            LaneKind::ObjectLost(lost) => self.on_object_lost(&lost),
            LaneKind::CancelTask(cancel) => {
                self.on_cancel_task(task_of(&cancel.task_id)?, &cancel);
                Ok(())
            }
            LaneKind::CancelRequest(request) => {
                self.on_cancel_request(task_of(&request.task_id)?, &request);
                Ok(())
            }
            LaneKind::StreamTaken(taken) => {
                self.on_stream_taken(task_of(&taken.task_id)?, &taken);
                Ok(())
            }
            LaneKind::StreamItem(item) => self.on_stream_item(item, payload),
            LaneKind::SharedMemoryMapped(_) => {
                let used = connection.use_shared_memory();
                used.map_err(|error| error.to_string())
            }
            LaneKind::Running(_) => Err("an answer to no question".to_owned()),
            LaneKind::PushTask(_) | LaneKind::CallTemplate(_) | LaneKind::WhatRuns(_) => {
                unreachable!("handled by the lane")
            }
        }
    }

    fn on_tasks_returned(
        &self,
        id: ConnectionId,
        returned: &wire::TasksReturned,
    ) -> Result<(), String> {
        let tasks: Result<Vec<_>, _> = returned.task_ids.iter().map(|task| task_of(task)).collect();
        let tasks = tasks?;
        self.with_core(|core, effects| {
            core.tasks_returned(id, &tasks, returned.is_blocked, effects)
        });
        Ok(())
    }

    fn on_object_request(
        &self,
        id: ConnectionId,
        request: &wire::ObjectRequest,
    ) -> Result<(), String> {
        let object = object_of(&request.object_id)?;
        let (number, readiness) = (request.request_id, request.wants_readiness_only);
        self.with_core(|core, effects| core.peer_asks(object, id, number, readiness, effects));
        Ok(())
    }

    fn on_borrow_delta(&self, delta: &wire::BorrowDelta) -> Result<(), String> {
        let (object, borrower) = (
            object_of(&delta.object_id)?,
            address_of(delta.borrower.as_ref())?,
        );
        self.with_core(|core, effects| {
            core.borrow_delta(object, borrower.worker, delta.delta, effects);
        });
        Ok(())
    }

    fn on_object_lost(&self, lost: &wire::ObjectLost) -> Result<(), String> {
        let object = object_of(&lost.object_id)?;
        let node = NodeId::from_bytes(&lost.node_id).map_err(|error| id_error(&error))?;
        self.with_core(|core, effects| core.objects.copy_lost(object, node, lost.making, effects));
        Ok(())
    }

    /// Calls come on this lane.
    fn note_calls(&self, id: ConnectionId) {
        self.0.lanes.lock().note_calls(id);
    }

    fn on_hello(&self, id: ConnectionId, hello: wire::LaneHello) -> Result<(), String> {
        let caller = address_of(hello.caller.as_ref())?;
        if hello.lease_id != 0 {
            let resources = hello
                .resources
                .clone()
                .unwrap_or_default()
                .quantities
                .into_iter()
                .collect();
            let namespace = hello.namespace.clone();
            *self.0.assignment.lock() = super::Assignment {
                namespace,
                resources,
                restarts: 0,
                held_before: Duration::ZERO,
                waits_when_infeasible: hello.waits_when_infeasible,
            };
        }
        // Lanes from other nodes come through the raylet.
        let is_local = caller.node == self.0.me.node;
        self.0.lanes.greeted(id, caller, hello, is_local);
        self.0.core.note(|core| core.objects.add_peer(id, caller));
        Ok(())
    }

    fn on_task_done(
        &self,
        id: ConnectionId,
        done: wire::TaskDone,
        payload: &Payload<'_>,
    ) -> Result<(), String> {
        let task = TaskId::from_words(done.task_prefix, done.task_number);
        if done.failure.is_some() && !done.results.is_empty() {
            return Err(format!("task {task} is said to have failed with results"));
        }
        let results = self.read_results(&done.results, payload)?;
        let borrowed: Result<Vec<_>, String> = done
            .still_borrowed
            .iter()
            .map(|reference| {
                Ok((
                    object_of(&reference.object_id)?,
                    address_of(reference.owner.as_ref())?,
                ))
            })
            .collect();
        let ended = EndedResult {
            task,
            results,
            failure: done.failure.map(TaskFailure::from_wire),
            is_retryable: done.is_retryable,
            still_borrowed: borrowed?,
            execution: Duration::from_micros(done.execution_micros),
            is_worker_exiting: done.is_worker_exiting,
            stream_length: done.stream_length,
        };
        let callee = if ended.still_borrowed.is_empty() {
            None
        } else {
            self.0.lanes.lock().get(id).and_then(|lane| lane.peer)
        };
        self.with_core(|core, effects| core.task_ended(id, callee, ended, effects));
        Ok(())
    }

    fn on_stream_item(&self, item: wire::StreamItem, payload: &Payload<'_>) -> Result<(), String> {
        let task = task_of(&item.task_id)?;
        let result = item.result.ok_or("a stream item without a result")?;
        let mut results = self.read_results(std::slice::from_ref(&result), payload)?;
        let result = results.pop().ok_or("a stream item without a value")?;
        self.with_core(|core, effects| core.stream_item(task, item.index, result, effects))
            .map_err(|error| error.to_string())
    }

    /// Results as they came; references in them were credited to this process by the sender.
    fn read_results(
        &self,
        results: &[wire::TaskResult],
        payload: &Payload<'_>,
    ) -> Result<Vec<crate::core::objects::ResultValue>, String> {
        use wire::task_result::Place;
        let mut position = 0;
        let mut values = Vec::with_capacity(results.len());
        for result in results {
            values.push(match &result.place {
                Some(Place::Inline(layout)) => {
                    let (value, end) = self.read_value(layout, payload, position, true)?;
                    position = end;
                    crate::core::objects::ResultValue::Inline(value)
                }
                Some(Place::Stored(stored)) => self.read_stored_place(stored)?,
                None => return Err("a result that is nowhere".to_owned()),
            });
        }
        Ok(values)
    }

    fn read_stored_place(
        &self,
        stored: &wire::StoredObject,
    ) -> Result<crate::core::objects::ResultValue, String> {
        Ok(crate::core::objects::ResultValue::Stored {
            node: NodeId::from_bytes(&stored.node_id).map_err(|error| id_error(&error))?,
            size_bytes: stored.size_bytes,
            making: stored.making,
            contained: self.import_refs(&stored.contained_refs, true)?,
        })
    }

    /// Cuts a value out of a payload, from `position` on.
    pub(super) fn read_value(
        &self,
        layout: &wire::ValueLayout,
        payload: &Payload<'_>,
        position: usize,
        is_credited: bool,
    ) -> Result<(Value, usize), String> {
        let (mut value, end) = Self::cut_layout(layout, payload, position)?;
        value.contained = self.import_refs(&layout.contained_refs, is_credited)?;
        Ok((value, end))
    }

    /// [`Self::read_value`] without the references.
    pub(super) fn cut_layout(
        layout: &wire::ValueLayout,
        payload: &Payload<'_>,
        position: usize,
    ) -> Result<(Value, usize), String> {
        let format = Format::from_u32(layout.format).ok_or("a value of an unknown format")?;
        let position = aktis_lane::align_up(position);
        cut_value(format, &layout.lengths, payload, position)
            .ok_or_else(|| "a value that reaches beyond its payload".to_owned())
    }

    /// Handles for references that came from another process.
    pub(crate) fn import_refs(
        &self,
        refs: &[wire::ObjectRef],
        is_credited: bool,
    ) -> Result<ThinVec<ObjectRef>, String> {
        refs.iter()
            .map(|reference| self.import_ref(reference, is_credited))
            .collect()
    }

    fn import_ref(
        &self,
        reference: &wire::ObjectRef,
        is_credited: bool,
    ) -> Result<ObjectRef, String> {
        let id = object_of(&reference.object_id)?;
        let owner = address_of(reference.owner.as_ref())?;
        self.0
            .core
            .note(|core| core.objects.count_handle(id, owner, is_credited));
        Ok(ObjectRef::from_counted(id, owner, self))
    }

    /// A reference whose bytes came by a way of the user's own. The object is there if its owner keeps it.
    pub fn adopt_reference(&self, id: ObjectId, owner: ProcessAddress) -> ObjectRef {
        self.0
            .core
            .note(|core| core.objects.count_handle(id, owner, false));
        ObjectRef::from_counted(id, owner, self)
    }

    /// Asks the owner at the other end of the lane for an object.
    pub(super) fn ask_on(&self, lane: &Arc<Connection>, owner: ProcessAddress, object: ObjectId) {
        let request_id = self.0.lanes.lock().ask(lane.id, object);
        let request = wire::ObjectRequest {
            request_id,
            object_id: object.to_wire(),
            wants_readiness_only: false,
        };
        let frame = wire::LaneFrame {
            kind: Some(LaneKind::ObjectRequest(request)),
        };
        if lane
            .send(&frame, &PayloadParts::default(), Urgency::Now)
            .is_err()
        {
            self.on_owner_lost(owner, "its lane is closed");
        }
    }

    fn on_object_reply(
        &self,
        reply: wire::ObjectReply,
        payload: &Payload<'_>,
    ) -> Result<(), String> {
        use wire::object_reply::Outcome;
        let Some(object) = self.0.lanes.lock().answered(reply.request_id) else {
            return Ok(());
        };
        let answer = match reply.outcome.ok_or("a reply without an outcome")? {
            Outcome::Inline(layout) => Ok(crate::core::objects::ResultValue::Inline(
                self.read_value(&layout, payload, 0, true)?.0,
            )),
            Outcome::Stored(stored) => Ok(self.read_stored_place(&stored)?),
            Outcome::Failure(failure) => Err(TaskFailure::from_wire(failure)),
            Outcome::Ready(_) => return Ok(()),
        };
        self.with_core(|core, effects| core.owner_answered(object, answer, effects));
        Ok(())
    }

    fn on_lane_closed(&self, id: ConnectionId) {
        if self.is_closed() {
            return;
        }
        let ended = self.0.lanes.lock().ended(id);
        let Some((lane, was_asked)) = ended else {
            return;
        };
        match (lane.role, lane.peer) {
            (LaneRole::Lease, _) => self.on_lease_lane_closed(id),
            (LaneRole::Actor(_), _) => {
                self.with_core(|core, effects| core.actor_lane_closed(id, effects))
            }
            (LaneRole::Peer, Some(peer)) if was_asked => {
                self.on_owner_lost(peer, "its connection closed");
            }
            (LaneRole::Incoming { .. }, _) => {
                self.queue().forget(id);
                self.0.core.note(|core| core.objects.remove_peer(id));
            }
            (LaneRole::Peer, _) => {}
        }
    }
}

#[cfg(test)]
mod tests;
