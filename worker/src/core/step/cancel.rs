//! Cancelling tasks and calls of this process.
//!
//! ```text
//!  Queued   ──► taken out of its queue, its results fail
//!  Pushed   ──► never retried; the worker is told, and answers (or its process ends)
//!  ended    ──► nothing
//! ```
//! Invariant `TASK-3 (cancelled-for-good)`: a cancelled task is never pushed again.

use aktis_common::error::ErrorCode;
use aktis_common::ids::TaskId;
use aktis_lane::{ConnectionId, PayloadParts, Urgency};
use aktis_proto::v1 as wire;

use crate::core::tasks::{Place, Target};
use crate::core::{Core, Effect, Effects};
use crate::error::TaskFailure;

/// How many cancelled tasks are remembered after their end.
const REMEMBERED: usize = 1024;

/// How a task is to be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cancel {
    /// End the worker process that runs it.
    pub(crate) is_forced: bool,
    /// Its children, too.
    pub(crate) is_recursive: bool,
}

/// Why a task cannot be cancelled like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CancelError {
    /// A call of an actor was to be cancelled by force.
    #[error(
        "{name} is a call of an actor, which cannot be cancelled with force=True: leave out force, or kill() the actor"
    )]
    ForcedCall { name: String },
}

/// The failure of a cancelled task.
pub(crate) fn cancelled_failure(name: &str) -> TaskFailure {
    TaskFailure::new(ErrorCode::Cancelled, format!("task {name} was cancelled"))
}

impl Core {
    /// Cancels a task of this process; one that has ended stays as it is.
    pub(crate) fn cancel(
        &mut self,
        task: TaskId,
        how: Cancel,
        effects: &mut Effects,
    ) -> Result<(), CancelError> {
        let Some(record) = self.tasks.records.get_mut(&task) else {
            return Ok(());
        };
        let (target, place, name) = (record.template.target, record.place, record.name());
        // One whose arguments are not there yet is in no queue of its class.
        let is_in_queue = record.unresolved == 0;
        if how.is_forced && matches!(target, Target::Actor(_)) {
            return Err(CancelError::ForcedCall { name });
        }
        if place == Place::Lineage {
            return Ok(());
        }
        record.is_cancelled = true;
        record.retries_left = 0;
        self.remember_cancelled(task);
        match (place, target) {
            (Place::Pushed(connection), _) => self.cancel_pushed(task, connection, how, effects),
            (_, Target::Class(class)) => {
                if is_in_queue {
                    self.leave_queue(class, effects);
                }
                self.fail_task(task, cancelled_failure(&name), effects);
            }
            (_, Target::Actor(actor)) => {
                self.leave_calls(actor, task);
                self.fail_task(task, cancelled_failure(&name), effects);
                // It may have held up the calls behind it, or been the last one of an actor without handles.
                self.pump_actor(actor, effects);
            }
        }
        self.settle(effects);
        Ok(())
    }

    /// Cancels what a task that runs in this process has submitted.
    pub(crate) fn cancel_children(&mut self, parent: TaskId, how: Cancel, effects: &mut Effects) {
        let children: Vec<(TaskId, Target)> = self
            .tasks
            .records
            .iter()
            .filter(|(_, record)| record.parent == Some(parent))
            .map(|(id, record)| (*id, record.template.target))
            .collect();
        for (child, target) in children {
            let is_forced = how.is_forced && matches!(target, Target::Class(_));
            let how = Cancel { is_forced, ..how };
            self.cancel(child, how, effects)
                .expect("calls of actors are not cancelled by force here");
        }
    }

    /// Whether a task was cancelled and did not end yet; the failure it ends with.
    pub(in crate::core) fn cancelled_end(&self, task: TaskId) -> Option<TaskFailure> {
        let record = self.tasks.records.get(&task)?;
        record
            .is_cancelled
            .then(|| cancelled_failure(&record.name()))
    }

    fn cancel_pushed(
        &mut self,
        task: TaskId,
        connection: ConnectionId,
        how: Cancel,
        effects: &mut Effects,
    ) {
        if how.is_forced {
            // What would be pushed from now on would die with the worker.
            self.lease_condemned(connection);
        }
        let cancel = wire::CancelTask {
            task_id: task.to_wire(),
            force: how.is_forced,
            recursive: how.is_recursive,
        };
        let kind = Some(wire::lane_frame::Kind::CancelTask(cancel));
        effects.push(Effect::Send {
            connection,
            frame: wire::LaneFrame { kind },
            payload: PayloadParts::default(),
            urgency: Urgency::Now,
        });
    }

    fn remember_cancelled(&mut self, task: TaskId) {
        if self.tasks.cancelled.len() == REMEMBERED {
            self.tasks.cancelled.pop_front();
        }
        self.tasks.cancelled.push_back(task);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use aktis_common::ids::{JobId, NodeId, ObjectId, WorkerId};
    use wire::lane_frame::Kind;

    use super::*;
    use crate::core::objects::ObjectState;
    use crate::core::tasks::{CallTemplate, TaskRecord};
    use crate::reference::ProcessAddress;
    use crate::value::Value;

    const LANE: ConnectionId = ConnectionId(7);
    const GENTLY: Cancel = Cancel {
        is_forced: false,
        is_recursive: true,
    };

    fn process() -> ProcessAddress {
        ProcessAddress {
            node: NodeId::random(),
            worker: WorkerId::random(),
        }
    }

    /// A core with one task that waits for a worker.
    fn core_with_task() -> (Core, TaskId, Effects) {
        let (mut core, mut effects) = (
            Core::new(process(), 1 << 20, Duration::from_secs(1)),
            Effects::default(),
        );
        core.clock.set(Instant::now());
        let class = core.leases.class_of(&Default::default(), JobId::random());
        let template = Arc::new(CallTemplate {
            shared: wire::CallTemplate {
                num_returns: 1,
                ..Default::default()
            },
            target: Target::Class(class),
            group: String::new(),
            retries: 3,
        });
        let task = TaskId::next();
        let result = ObjectId::of_return(task, 0);
        core.objects
            .insert_owned(result, ObjectState::Pending)
            .handles = 1;
        let nothing = Value::native(bytes::Bytes::new());
        let record = TaskRecord::new(task, template, nothing, Vec::new());
        core.submit(record, &mut effects);
        (core, task, effects)
    }

    fn grant(core: &mut Core, effects: &mut Effects) {
        let key = effects.list.iter().find_map(|effect| match effect {
            Effect::RequestLease { key, .. } => Some(*key),
            _ => None,
        });
        let key = key.expect("a worker was asked for");
        core.lease_granted(key, 1, process(), LANE, effects);
    }

    fn end_of(core: &Core, task: TaskId) -> Option<ErrorCode> {
        match &core.objects.get(ObjectId::of_return(task, 0))?.state {
            ObjectState::Failed(failure) => Some(failure.code),
            _ => None,
        }
    }

    fn sent(effects: &Effects, is_wanted: impl Fn(&Kind) -> bool) -> usize {
        let kinds = effects.list.iter().filter_map(|effect| match effect {
            Effect::Send { frame, .. } => frame.kind.as_ref(),
            _ => None,
        });
        kinds.filter(|kind| is_wanted(kind)).count()
    }

    #[test]
    fn cancelled_task_that_waits_is_never_pushed() {
        let (mut core, task, mut effects) = core_with_task();
        core.cancel(task, GENTLY, &mut effects).unwrap();
        assert_eq!(end_of(&core, task), Some(ErrorCode::Cancelled));
        let is_withdrawn = |effect: &Effect| matches!(effect, Effect::CancelLease { .. });
        assert!(effects.list.iter().any(is_withdrawn));
        assert_eq!(sent(&effects, |kind| matches!(kind, Kind::PushTask(_))), 0);
    }

    #[test]
    fn cancelled_task_is_not_retried_when_its_worker_dies() {
        let (mut core, task, mut effects) = core_with_task();
        grant(&mut core, &mut effects);
        core.cancel(task, GENTLY, &mut effects).unwrap();
        assert_eq!(
            sent(&effects, |kind| matches!(kind, Kind::CancelTask(_))),
            1
        );
        assert_eq!(end_of(&core, task), None);
        core.lease_lane_closed(LANE, &mut effects);
        let crash = TaskFailure::new(ErrorCode::WorkerCrashed, "killed");
        core.retry_or_fail(task, crash, &mut effects);
        assert_eq!(end_of(&core, task), Some(ErrorCode::Cancelled));
    }

    #[test]
    fn cancelled_task_that_is_given_back_ends() {
        let (mut core, task, mut effects) = core_with_task();
        grant(&mut core, &mut effects);
        core.cancel(task, GENTLY, &mut effects).unwrap();
        core.tasks_returned(LANE, &[task], false, &mut effects);
        assert_eq!(end_of(&core, task), Some(ErrorCode::Cancelled));
        assert_eq!(sent(&effects, |kind| matches!(kind, Kind::PushTask(_))), 1);
    }

    #[test]
    fn lease_whose_tasks_came_back_is_returned_when_it_stays_idle() {
        let (mut core, task, mut effects) = core_with_task();
        grant(&mut core, &mut effects);
        core.tasks_returned(LANE, &[task], true, &mut effects);
        let later = core.clock.now() + Duration::from_secs(2);
        core.clock.set(later);
        core.lease_tick(&mut effects);
        let is_return = |effect: &Effect| matches!(effect, Effect::ReturnLease { .. });
        assert!(effects.list.iter().any(is_return));
    }

    #[test]
    fn ended_task_stays_as_it_is() {
        let (mut core, task, mut effects) = core_with_task();
        grant(&mut core, &mut effects);
        let crash = TaskFailure::new(ErrorCode::Application, "raised");
        core.fail_task(task, crash, &mut effects);
        core.cancel(task, GENTLY, &mut effects).unwrap();
        assert_eq!(end_of(&core, task), Some(ErrorCode::Application));
    }
}
