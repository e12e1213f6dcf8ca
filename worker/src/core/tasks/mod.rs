//! Tasks this process submitted, and what is kept of them as lineage.

pub(crate) mod templates;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use aktis_common::ids::{ActorId, IdBuildHasher, ObjectId, TaskId};
use aktis_lane::{ConnectionId, PayloadParts, Urgency};
use aktis_proto::v1 as wire;

use self::templates::TemplateSlots;
use super::leases::ClassId;
use super::objects::ObjectState;
use super::{Core, Effect, Effects, Watcher};
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;
use crate::value::Value;

/// Bytes of one frame's payload beyond which the values of further dependencies do not travel along: the callee asks their
/// owner for them, one frame each. Thousands of small values would else make a frame that nobody takes.
pub(crate) const INLINED_BYTES: usize = 4 << 20;
/// Bytes a record costs besides its arguments, for the lineage budget.
const RECORD_BYTES: u64 = 500;

/// Who runs a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Class(ClassId),
    Actor(ActorId),
}

/// What all calls of one function or method by this process have in common.
#[derive(Debug)]
pub(crate) struct CallTemplate {
    /// As the callee is told, but for the slot.
    pub(crate) shared: wire::CallTemplate,
    pub(crate) target: Target,
    /// The concurrency group of an actor's method; empty: the default one.
    pub(crate) group: String,
    /// Attempts left after system failures; -1 is without end.
    pub(crate) retries: i32,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Waits for dependencies, or in a queue.
    Queued,
    Pushed(ConnectionId),
    /// Ended; kept to be run again if a result is lost.
    Lineage,
}

/// One task.
pub(crate) struct TaskRecord {
    pub(crate) id: TaskId,
    pub(crate) template: Arc<CallTemplate>,
    pub(crate) args: Value,
    /// Top-level references, each counted as a handle while the task is not ended.
    pub(crate) dependencies: Vec<(ObjectId, ProcessAddress)>,
    pub(crate) unresolved: u32,
    pub(crate) place: Place,
    pub(in crate::core) retries_left: i32,
    /// Position of an actor call in this process's sequence.
    pub(crate) sequence: u64,
    /// Results in object stores that are still referenced: of a task that has ended, and of a generator while it runs.
    pub(in crate::core) live_results: u32,
    /// It has ended before, and runs to make results again that were lost.
    pub(in crate::core) is_rerun: bool,
    /// The task of this process that submitted it, if one did.
    pub(in crate::core) parent: Option<TaskId>,
    /// It is not to be run again, whatever becomes of it.
    pub(in crate::core) is_cancelled: bool,
}

impl TaskRecord {
    pub(crate) fn new(
        id: TaskId,
        template: Arc<CallTemplate>,
        args: Value,
        dependencies: Vec<(ObjectId, ProcessAddress)>,
    ) -> Self {
        Self {
            id,
            retries_left: template.retries,
            template,
            args,
            dependencies,
            unresolved: 0,
            place: Place::Queued,
            sequence: 0,
            live_results: 0,
            is_rerun: false,
            parent: None,
            is_cancelled: false,
        }
    }

    /// The task of this process that submits it.
    pub(crate) fn child_of(mut self, parent: Option<TaskId>) -> Self {
        self.parent = parent;
        self
    }

    /// It waits, and is to be run.
    pub(in crate::core) fn is_queued(&self) -> bool {
        self.place == Place::Queued && !self.is_cancelled
    }

    pub(in crate::core) fn args_bytes(&self) -> u64 {
        self.args.data_bytes() as u64
    }

    pub(in crate::core) fn lineage_bytes(&self) -> u64 {
        RECORD_BYTES + self.args_bytes()
    }

    /// Uses up one attempt. False: none is left.
    pub(crate) fn take_retry(&mut self) -> bool {
        match self.retries_left {
            0 => return false,
            -1 => {}
            _ => self.retries_left -= 1,
        }
        true
    }

    pub(crate) fn name(&self) -> String {
        call_name(&self.template.shared)
    }
}

/// The function or "Class.method", for messages.
pub(crate) fn call_name(template: &wire::CallTemplate) -> String {
    let function = template.function.as_ref();
    let function = function.map_or("", |function| function.name.as_str());
    if !template.name.is_empty() {
        template.name.clone()
    } else if template.method.is_empty() {
        function.to_owned()
    } else {
        format!("{function}.{}", template.method)
    }
}

/// All tasks that are not ended, and lineage.
pub(crate) struct TaskTable {
    pub(crate) records: HashMap<TaskId, TaskRecord, IdBuildHasher>,
    /// Bytes of arguments of the tasks that are not ended.
    pub(in crate::core) queued_bytes: u64,
    /// Most records at once since the table was shrunk.
    pub(in crate::core) peak: usize,
    pub(in crate::core) lineage: VecDeque<TaskId>,
    pub(in crate::core) lineage_bytes: u64,
    pub(in crate::core) lineage_limit_bytes: u64,
    pub(in crate::core) evicted: u64,
    /// The tasks that were cancelled last, to explain why their results cannot be made again.
    pub(in crate::core) cancelled: VecDeque<TaskId>,
}

impl TaskTable {
    /// Bytes of arguments of the tasks that are not ended.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    pub(in crate::core) fn new(lineage_limit_bytes: u64) -> Self {
        Self {
            records: HashMap::default(),
            queued_bytes: 0,
            peak: 0,
            lineage: VecDeque::new(),
            lineage_bytes: 0,
            lineage_limit_bytes,
            evicted: 0,
            cancelled: VecDeque::new(),
        }
    }
}

/// The wire form of a value's layout.
pub(crate) fn layout_of(value: &Value) -> wire::ValueLayout {
    wire::ValueLayout {
        format: value.format as u32,
        lengths: value.part_lengths().map(|length| length as u64).collect(),
        contained_refs: value
            .contained
            .iter()
            .map(crate::reference::ObjectRef::to_wire)
            .collect(),
    }
}

/// A task that is ready to leave, or not.
#[allow(
    clippy::large_enum_variant,
    reason = "taken apart by the caller at once"
)]
pub(in crate::core) enum Assembled {
    Frame(wire::PushTask, PayloadParts),
    /// A dependency has got lost meanwhile; the task waits for it again.
    Waits,
    /// A dependency failed, and the task with it.
    Ended,
}

impl Core {
    /// Takes a new task. Its results must have been counted by the caller already.
    pub(crate) fn submit(&mut self, record: TaskRecord, effects: &mut Effects) {
        let id = record.id;
        for (dependency, owner) in &record.dependencies {
            self.count_handle(*dependency, *owner, false);
        }
        self.tasks.queued_bytes += record.args_bytes();
        self.tasks.records.insert(id, record);
        self.resolve_dependencies(id, effects);
        self.settle(effects);
    }

    /// Watches the dependencies that are not ready; makes the task runnable when none is missing.
    pub(in crate::core) fn resolve_dependencies(&mut self, id: TaskId, effects: &mut Effects) {
        let Some(record) = self.tasks.records.get_mut(&id) else {
            return;
        };
        let missing: Vec<ObjectId> = record
            .dependencies
            .iter()
            .map(|(object, _)| *object)
            .filter(|object| !self.objects.is_ready(*object))
            .collect();
        record.unresolved = u32::try_from(missing.len()).expect("dependencies fit a frame");
        if missing.is_empty() {
            effects.runnable.push(id);
        }
        for object in missing {
            self.watch(object, Watcher::Task(id), effects);
        }
    }

    /// Puts runnable tasks where they are sent from.
    pub(crate) fn settle(&mut self, effects: &mut Effects) {
        while let Some(id) = effects.runnable.pop() {
            let Some(record) = self.tasks.records.get(&id) else {
                continue;
            };
            match record.template.target {
                Target::Class(class) => self.enqueue(class, id, effects),
                Target::Actor(actor) => self.pump_actor(actor, effects),
            }
        }
    }

    /// Builds the frame of a task whose dependencies are ready.
    pub(in crate::core) fn assemble(&mut self, id: TaskId, effects: &mut Effects) -> Assembled {
        let Some(record) = self.tasks.records.get(&id) else {
            return Assembled::Ended;
        };
        let (mut inlined, mut locations) = (Vec::new(), Vec::new());
        let mut payload = PayloadParts::default();
        record.args.append_to(&mut payload);
        let mut failure = None;
        for (position, (object, _)) in (0u32..).zip(&record.dependencies) {
            match self.objects.get(*object).map(|entry| &entry.state) {
                Some(ObjectState::Inline(_)) if payload.len_bytes() > INLINED_BYTES => {}
                Some(ObjectState::Inline(value)) => {
                    value.append_to(&mut payload);
                    inlined.push(wire::InlinedDependency {
                        position,
                        layout: Some(layout_of(value)),
                    });
                }
                Some(ObjectState::Stored(stored)) => locations.push(wire::DependencyLocation {
                    position,
                    node_ids: stored.nodes.iter().map(|node| node.to_wire()).collect(),
                    size_bytes: stored.size_bytes,
                    making: stored.making,
                }),
                Some(ObjectState::Failed(cause)) => failure = Some(TaskFailure::clone(cause)),
                Some(ObjectState::Pending | ObjectState::Lost) | None => {
                    self.resolve_dependencies(id, effects);
                    return Assembled::Waits;
                }
            }
        }
        if let Some(failure) = failure {
            self.fail_task(id, failure, effects);
            return Assembled::Ended;
        }
        let (task_prefix, task_number) = id.to_words();
        let push = wire::PushTask {
            template_slot: 0,
            task_prefix,
            task_number,
            args: Some(layout_of(&record.args)),
            dependencies: record
                .dependencies
                .iter()
                .map(|(object, owner)| wire::ObjectRef {
                    object_id: object.to_wire(),
                    owner: Some(owner.to_wire()),
                })
                .collect(),
            inlined,
            locations,
        };
        Assembled::Frame(push, payload)
    }

    /// Sends a call, after its template if the callee does not know that yet. `slots`: of the lane.
    pub(in crate::core) fn send_push(
        template: &Arc<CallTemplate>,
        slots: &mut TemplateSlots,
        connection: ConnectionId,
        (mut push, payload): (wire::PushTask, PayloadParts),
        urgency: Urgency,
        effects: &mut Effects,
    ) {
        let (slot, is_new) = slots.slot_of(template);
        if is_new {
            let told = wire::CallTemplate {
                slot,
                ..template.shared.clone()
            };
            effects.push(Effect::Send {
                connection,
                frame: wire::LaneFrame {
                    kind: Some(wire::lane_frame::Kind::CallTemplate(told)),
                },
                payload: PayloadParts::default(),
                urgency: Urgency::Soon,
            });
        }
        push.template_slot = slot;
        effects.push(Effect::Send {
            connection,
            frame: wire::LaneFrame {
                kind: Some(wire::lane_frame::Kind::PushTask(push)),
            },
            payload,
            urgency,
        });
    }
}
