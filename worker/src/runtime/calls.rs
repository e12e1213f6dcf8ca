//! The executing side of a call: its inputs, its results, and giving back what was not started.

use std::sync::Arc;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{JobId, ObjectId, TaskId};
use aktis_lane::{Connection, ConnectionId, Payload, PayloadParts, Urgency};
use aktis_proto::v1 as wire;
use wire::lane_frame::Kind as LaneKind;

use super::Runtime;
use crate::core::tasks::{INLINED_BYTES, call_name};
use crate::error::TaskFailure;
use crate::reference::{ObjectRef, ProcessAddress};
use crate::value::{MadeBytes, Value};

/// A call that came in over a lane.
pub struct ReceivedCall {
    runtime: Runtime,
    connection: Arc<Connection>,
    task: TaskId,
    template: Arc<wire::CallTemplate>,
    args: ReceivedValue,
    dependencies: Vec<wire::ObjectRef>,
    inlined: Vec<(u32, ReceivedValue)>,
    locations: Vec<wire::DependencyLocation>,
    /// Dependencies whose values came with the call.
    came_along: usize,
    /// References that came in; the caller is told which of them are kept.
    received: Vec<(ObjectId, ProcessAddress)>,
}

/// What a call may use: two calls with the same mark run under one lease, so whoever has set the process up for the first
/// need not do it for the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseMark {
    connection: ConnectionId,
    hellos: u64,
}

/// A value whose references are not counted yet.
#[derive(Default)]
struct ReceivedValue {
    value: Value,
    refs: Vec<wire::ObjectRef>,
}

impl ReceivedValue {
    /// Cuts a value out of a payload, from `position` on.
    fn cut(
        layout: wire::ValueLayout,
        payload: &Payload<'_>,
        position: &mut usize,
    ) -> Result<Self, String> {
        let (value, end) = Runtime::cut_layout(&layout, payload, *position)?;
        *position = end;
        Ok(Self {
            value,
            refs: layout.contained_refs,
        })
    }

    fn count_refs(mut self, runtime: &Runtime) -> Result<Value, TaskFailure> {
        let contained = runtime.import_refs(&self.refs, false);
        self.value.contained = contained.map_err(|error| bad_frame(&error))?;
        Ok(self.value)
    }
}

/// What a call works on.
pub struct CallInputs {
    /// The argument value, with references in its inside.
    pub args: Value,
    /// The values of the top-level references, in order.
    pub dependencies: Vec<Value>,
}

/// How a call ended.
pub struct CallOutcome {
    /// One value per result, or the failure.
    pub result: Result<Vec<Value>, TaskFailure>,
    /// The failure is one that the task asked to be retried on.
    pub is_retryable: bool,
    /// This process ends after the call.
    pub is_worker_exiting: bool,
    /// Time in user code.
    pub execution: Duration,
    /// Items sent with [`ReceivedCall::emit`].
    pub stream_length: u64,
}

impl CallOutcome {
    /// A call that has no results.
    pub fn failed(failure: TaskFailure, execution: Duration) -> Self {
        Self {
            result: Err(failure),
            is_retryable: false,
            is_worker_exiting: false,
            execution,
            stream_length: 0,
        }
    }
}

impl ReceivedCall {
    pub(super) fn new(
        runtime: Runtime,
        connection: Arc<Connection>,
        template: Arc<wire::CallTemplate>,
        push: wire::PushTask,
        payload: &Payload<'_>,
    ) -> Result<Self, String> {
        let mut position = 0;
        let layout = push.args.unwrap_or_default();
        let args = ReceivedValue::cut(layout, payload, &mut position)?;
        let inlined = push.inlined.into_iter().map(|inlined| {
            let layout = inlined.layout.unwrap_or_default();
            let value = ReceivedValue::cut(layout, payload, &mut position)?;
            Ok((inlined.position, value))
        });
        let inlined = inlined.collect::<Result<Vec<_>, String>>()?;
        Ok(Self {
            came_along: inlined.len(),
            inlined,
            runtime,
            connection,
            task: TaskId::from_words(push.task_prefix, push.task_number),
            template,
            args,
            dependencies: push.dependencies,
            locations: push.locations,
            received: Vec::new(),
        })
    }

    /// What the call has in common with others of the same function or method.
    pub fn template(&self) -> &Arc<wire::CallTemplate> {
        &self.template
    }

    /// The task.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// The job on whose behalf the call is made.
    pub fn job(&self) -> JobId {
        JobId::from_bytes(&self.template.job_id).unwrap_or(JobId::NIL)
    }

    /// Whether this is a method call on the actor of this process.
    pub fn is_actor_call(&self) -> bool {
        !self.template.actor_id.is_empty()
    }

    /// The function or "Class.method", for messages.
    pub fn name(&self) -> String {
        call_name(&self.template)
    }

    /// Tells calls of different leases apart, without a lock.
    pub fn lease(&self) -> LeaseMark {
        LeaseMark {
            connection: self.connection.id,
            hellos: self.runtime.0.lanes.hellos(),
        }
    }

    /// GPUs of the lease under which the call runs.
    pub fn accelerators(&self) -> Option<wire::AcceleratorAssignment> {
        let lanes = self.runtime.0.lanes.lock();
        let hello = lanes.get(self.connection.id)?.role.hello()?;
        hello.accelerators.clone()
    }

    /// Whether the caller has cancelled the call since it was handed out.
    pub fn is_cancelled(&self) -> bool {
        self.runtime.queue().is_cancelled(self.task)
    }

    /// The failure that a cancelled call ends with.
    pub fn cancelled(&self) -> TaskFailure {
        crate::core::cancelled_failure(&self.name())
    }

    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Whether the caller's lane is open: nobody else can be told anything.
    pub fn has_caller(&self) -> bool {
        let lanes = self.runtime.0.lanes.lock();
        lanes.get(self.connection.id).is_some()
    }

    /// Whether values of its dependencies have to be brought here first, which takes a while.
    pub fn must_fetch(&self) -> bool {
        self.came_along < self.dependencies.len()
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(crate) fn connection_id(&self) -> ConnectionId {
        self.connection.id
    }

    /// Reads the arguments and fetches the dependencies. Blocks while one is brought here.
    pub fn take_inputs(&mut self) -> Result<CallInputs, TaskFailure> {
        if self.is_cancelled() {
            return Err(self.cancelled());
        }
        let args = std::mem::take(&mut self.args).count_refs(&self.runtime)?;
        self.note_received(&args.contained);
        let mut dependencies: Vec<Option<Value>> = vec![None; self.dependencies.len()];
        for (position, inlined) in std::mem::take(&mut self.inlined) {
            let value = inlined.count_refs(&self.runtime)?;
            self.note_received(&value.contained);
            let slot = dependencies.get_mut(position as usize);
            *slot.ok_or_else(|| bad_frame("an inlined dependency out of range"))? = Some(value);
        }
        if self.must_fetch() {
            self.fetch_missing(&mut dependencies)?;
        }
        let dependencies: Option<Vec<Value>> = dependencies.into_iter().collect();
        let dependencies = dependencies.ok_or_else(|| bad_frame("a dependency without a value"))?;
        Ok(CallInputs { args, dependencies })
    }

    /// Brings the values here that did not come along.
    fn fetch_missing(&mut self, dependencies: &mut [Option<Value>]) -> Result<(), TaskFailure> {
        let locations = std::mem::take(&mut self.locations);
        let mut is_asked: Vec<bool> = dependencies.iter().map(Option::is_none).collect();
        for location in &locations {
            if let Some(asked) = is_asked.get_mut(location.position as usize) {
                *asked = false;
            }
        }
        let asked: Vec<usize> = (0..is_asked.len())
            .filter(|index| is_asked[*index])
            .collect();
        let fetched =
            self.runtime
                .fetch_dependencies(&self.dependencies, &locations, &asked, &|| {
                    self.is_cancelled()
                })?;
        for (index, value) in fetched {
            self.note_received(&value.contained);
            dependencies[index] = Some(value);
        }
        Ok(())
    }

    fn note_received(&mut self, references: &[ObjectRef]) {
        self.received.extend(
            references
                .iter()
                .map(|reference| (reference.id(), reference.owner())),
        );
    }

    fn caller(&self) -> Option<ProcessAddress> {
        self.template
            .owner
            .as_ref()
            .and_then(|owner| ProcessAddress::from_wire(owner).ok())
    }

    /// Sends one item of a streaming call.
    pub fn emit(&self, index: u32, value: &Value) -> Result<(), TaskFailure> {
        if self.template.max_unread_items > 0 {
            self.runtime.0.stream_windows.open(self.task);
        }
        let mut payload = PayloadParts::default();
        let result = self.place_result(index, value, &mut payload)?;
        let item = wire::StreamItem {
            task_id: self.task.to_wire(),
            index: index.into(),
            result: Some(result),
        };
        let frame = wire::LaneFrame {
            kind: Some(LaneKind::StreamItem(item)),
        };
        self.connection
            .send(&frame, &payload, Urgency::Now)
            .map_err(|_| {
                TaskFailure::new(ErrorCode::Cancelled, "the caller of this generator is gone")
            })
    }

    /// Has a result written into the node's store now, an Arrow stream; gives what stands for it among the results.
    pub(crate) fn store_stream(
        &self,
        index: u32,
        stream: &dyn MadeBytes,
    ) -> Result<Value, TaskFailure> {
        let owner = self
            .caller()
            .ok_or_else(|| bad_frame("a task without an owner"))?;
        let object = ObjectId::of_return(self.task, index);
        let store = &self.runtime.0.store;
        store.write_made(object, owner, stream).map(Value::placed)
    }

    /// Puts a result into the frame or into the node's store, and tells owners about references in it.
    fn place_result(
        &self,
        index: u32,
        value: &Value,
        payload: &mut PayloadParts,
    ) -> Result<wire::TaskResult, TaskFailure> {
        use wire::task_result::Place;
        let runtime = &self.runtime;
        let limit = runtime.0.hello.max_inline_bytes;
        // Thousands of results, each of them small, would make a frame that nobody takes.
        let has_room = payload.len_bytes() <= INLINED_BYTES;
        let place = if let Some(size_bytes) = value.placed_bytes() {
            Place::Stored(wire::StoredObject {
                node_id: runtime.0.me.node.to_wire(),
                size_bytes,
                ..Default::default()
            })
        } else if has_room && value.data_bytes() as u64 <= limit {
            value.append_to(payload);
            Place::Inline(crate::core::objects::layout_of(value))
        } else {
            let owner = self
                .caller()
                .ok_or_else(|| bad_frame("a task without an owner"))?;
            let object = ObjectId::of_return(self.task, index);
            let size_bytes = runtime.0.store.write(object, owner, value)?;
            Place::Stored(wire::StoredObject {
                node_id: runtime.0.me.node.to_wire(),
                size_bytes,
                contained_refs: value.contained.iter().map(ObjectRef::to_wire).collect(),
                making: 0,
            })
        };
        if let Some(caller) = self.caller()
            && !value.contained.is_empty()
        {
            runtime.with_core(|core, effects| {
                for inner in &value.contained {
                    core.objects
                        .hand_over(inner.id(), inner.owner(), caller, effects);
                }
            });
        }
        Ok(wire::TaskResult { place: Some(place) })
    }

    /// Sends the end of the call to its caller. All handles on its inputs must have been dropped before.
    pub fn finish(self, outcome: CallOutcome) {
        let mut payload = PayloadParts::default();
        let placed = outcome.result.and_then(|values| {
            let indexed = (0u32..).zip(&values);
            indexed
                .map(|(index, value)| self.place_result(index, value, &mut payload))
                .collect::<Result<Vec<_>, _>>()
        });
        let mut is_retryable = outcome.is_retryable;
        let (results, failure) = match placed {
            Ok(results) => (results, None),
            Err(failure) => {
                payload = PayloadParts::default();
                // Another process may read the arguments that this one could not.
                is_retryable |= failure.code == ErrorCode::ObjectUnreadable;
                (Vec::new(), Some(failure.to_wire()))
            }
        };
        let (task_prefix, task_number) = self.task.to_words();
        let done = wire::TaskDone {
            task_prefix,
            task_number,
            results,
            failure,
            still_borrowed: self.still_borrowed(),
            is_retryable,
            execution_micros: u64::try_from(outcome.execution.as_micros()).unwrap_or(u64::MAX),
            is_worker_exiting: outcome.is_worker_exiting,
            stream_length: outcome.stream_length,
        };
        let frame = wire::LaneFrame {
            kind: Some(LaneKind::TaskDone(done)),
        };
        if self.template.max_unread_items > 0 {
            self.runtime.0.stream_windows.close(self.task);
        }
        let has_more = self.runtime.queue().finished(self.task);
        let urgency = if has_more && !outcome.is_worker_exiting {
            Urgency::Soon
        } else {
            Urgency::Now
        };
        // A caller that is gone needs no answer.
        let _ = self.connection.send(&frame, &payload, urgency);
    }

    fn still_borrowed(&self) -> Vec<wire::ObjectRef> {
        if self.received.is_empty() {
            return Vec::new();
        }
        self.runtime.0.core.note(|core| {
            self.received
                .iter()
                .filter(|(object, _)| core.objects.credit_if_still_held(*object))
                .map(|(object, owner)| wire::ObjectRef {
                    object_id: object.to_wire(),
                    owner: Some(owner.to_wire()),
                })
                .collect()
        })
    }
}

pub(super) fn bad_frame(what: &str) -> TaskFailure {
    TaskFailure::new(ErrorCode::Internal, format!("cannot read a call: {what}"))
}
