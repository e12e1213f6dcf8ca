//! What is sent of a task.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_common::ids::TaskId;
use aktis_proto::v1 as wire;

use super::templates::TemplateSlots;
use super::{CallTemplate, Place, TaskTable};
use crate::core::objects::{ObjectState, ReferenceTable, layout_of};
use crate::core::{Effect, Effects};
use crate::error::TaskFailure;
use aktis_lane::PayloadParts;
use aktis_lane::{ConnectionId, Urgency};

/// Bytes of one frame's payload beyond which the values of further dependencies do not travel along: the callee asks their
/// owner for them, one frame each. Thousands of small values would else make a frame that nobody takes.
pub(crate) const INLINED_BYTES: usize = 4 << 20;
/// The same for values that their owners cannot be asked for: half of what a frame may have.
const MOST_INLINED_BYTES: usize = 512 << 20;

/// Why a task does not leave.
pub(in crate::core) enum NotReady {
    /// An argument has got lost meanwhile; the task has to wait for it again.
    ArgumentLost,
    /// An argument failed, and the task with it.
    ArgumentFailed(TaskFailure),
    /// It has ended.
    Ended,
}

fn too_much_to_run_again(name: &str) -> TaskFailure {
    let message = format!(
        "{name} cannot run again to make a lost result: it took more than 512 MiB of small values from other processes, which \
         these have freed; keep references to them, or hand them over in larger objects (put)"
    );
    TaskFailure::new(ErrorCode::ReconstructionFailed, message)
}

impl TaskTable {
    /// Builds the frame of a task whose arguments are ready.
    pub(in crate::core) fn assemble(
        &self,
        id: TaskId,
        objects: &ReferenceTable,
    ) -> Result<(wire::PushTask, PayloadParts), NotReady> {
        let record = self.records.get(&id).ok_or(NotReady::Ended)?;
        let (mut inlined, mut locations) = (Vec::new(), Vec::new());
        let mut payload = PayloadParts::default();
        record.args.append_to(&mut payload);
        let mut failure = None;
        for (position, (object, _)) in (0u32..).zip(&record.dependencies) {
            match objects.state(*object) {
                Some(ObjectState::Inline(_))
                    if payload.len_bytes() > INLINED_BYTES
                        && !(record.is_rerun && objects.is_given_back(*object)) => {}
                Some(ObjectState::Inline(_)) if payload.len_bytes() > MOST_INLINED_BYTES => {
                    failure = Some(too_much_to_run_again(&record.name()));
                }
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
                    return Err(NotReady::ArgumentLost);
                }
            }
        }
        if let Some(failure) = failure {
            return Err(NotReady::ArgumentFailed(failure));
        }
        let (task_prefix, task_number) = id.to_words();
        let references = record.dependencies.iter();
        let push = wire::PushTask {
            template_slot: 0,
            task_prefix,
            task_number,
            args: Some(layout_of(&record.args)),
            dependencies: references
                .map(|(object, owner)| wire::ObjectRef {
                    object_id: object.to_wire(),
                    owner: Some(owner.to_wire()),
                })
                .collect(),
            inlined,
            locations,
        };
        Ok((push, payload))
    }

    /// The task leaves by a lane. `slots`: of that lane.
    pub(in crate::core) fn push(
        &mut self,
        id: TaskId,
        connection: ConnectionId,
        slots: &mut TemplateSlots,
        frame: (wire::PushTask, PayloadParts),
        urgency: Urgency,
        effects: &mut Effects,
    ) {
        if let Some(record) = self.records.get_mut(&id) {
            record.place = Place::Pushed(connection);
            send_push(&record.template, slots, connection, frame, urgency, effects);
        }
    }

    /// Lets a producer that waits for its consumer go on.
    pub(in crate::core) fn tell_taken(&self, id: TaskId, taken: u64, effects: &mut Effects) {
        let Some(record) = self.records.get(&id) else {
            return;
        };
        let Place::Pushed(connection) = record.place else {
            return;
        };
        if record.template.shared.max_unread_items == 0 {
            return;
        }
        let taken = wire::StreamTaken {
            task_id: id.to_wire(),
            taken,
        };
        let kind = wire::lane_frame::Kind::StreamTaken(taken);
        send(connection, kind, Urgency::Now, effects);
    }

    /// Asks the callee to end it.
    pub(in crate::core) fn tell_cancelled(
        id: TaskId,
        connection: ConnectionId,
        how: super::Cancel,
        effects: &mut Effects,
    ) {
        let cancel = wire::CancelTask {
            task_id: id.to_wire(),
            force: how.is_forced,
            recursive: how.is_recursive,
        };
        let kind = wire::lane_frame::Kind::CancelTask(cancel);
        send(connection, kind, Urgency::Now, effects);
    }
}

/// Sends a call, after its template if the callee does not know that yet.
fn send_push(
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
        let kind = wire::lane_frame::Kind::CallTemplate(Box::new(told));
        send(connection, kind, Urgency::Soon, effects);
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

fn send(
    connection: ConnectionId,
    kind: wire::lane_frame::Kind,
    urgency: Urgency,
    effects: &mut Effects,
) {
    effects.push(Effect::Send {
        connection,
        frame: wire::LaneFrame { kind: Some(kind) },
        payload: PayloadParts::default(),
        urgency,
    });
}
