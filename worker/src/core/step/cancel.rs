//! Cancelling tasks and calls of this process.
//!
//! ```text
//!  Queued   ──► taken out of its queue, its results fail
//!  Pushed   ──► never retried; the worker is told, and answers (or its process ends)
//!  ended    ──► nothing
//! ```

use aktis_common::ids::TaskId;

use crate::core::tasks::{Cancel, CancelError, CancelledAt, Target, TaskTable};
use crate::core::{Core, Effects};

impl Core {
    /// Cancels a task of this process; one that has ended stays as it is.
    pub(crate) fn cancel(
        &mut self,
        task: TaskId,
        how: Cancel,
        effects: &mut Effects,
    ) -> Result<(), CancelError> {
        match self.tasks.cancel(task, how)? {
            CancelledAt::Ended => return Ok(()),
            CancelledAt::Pushed(connection) => {
                if how.is_forced {
                    // What would be pushed from now on would die with the worker.
                    self.leases.condemn(connection, &mut self.clock);
                }
                TaskTable::tell_cancelled(task, connection, how, effects);
            }
            CancelledAt::Waiting {
                target: Target::Class(class),
                is_in_queue,
                failure,
            } => {
                if is_in_queue {
                    self.leases.leave_queue(class, &self.tasks, effects);
                }
                self.fail_task(task, failure, effects);
            }
            CancelledAt::Waiting {
                target: Target::Actor(actor),
                failure,
                ..
            } => {
                self.actors.leave(actor, task, &self.tasks);
                self.fail_task(task, failure, effects);
                // It may have held up the calls behind it, or been the last one of an actor without handles.
                self.pump_actor(actor, effects);
            }
        }
        self.settle(effects);
        Ok(())
    }

    /// Cancels what a task that runs in this process has submitted.
    pub(crate) fn cancel_children(&mut self, parent: TaskId, how: Cancel, effects: &mut Effects) {
        for (child, target) in self.tasks.children(parent) {
            let is_forced = how.is_forced && matches!(target, Target::Class(_));
            let how = Cancel { is_forced, ..how };
            self.cancel(child, how, effects)
                .expect("calls of actors are not cancelled by force here");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use aktis_common::error::ErrorCode;
    use aktis_common::ids::{JobId, NodeId, ObjectId, WorkerId};
    use aktis_proto::v1 as wire;
    use wire::lane_frame::Kind;

    use super::*;
    use crate::core::Effect;
    use crate::core::objects::ObjectState;
    use crate::core::tasks::{CallTemplate, TaskRecord};
    use crate::error::TaskFailure;
    use crate::reference::ProcessAddress;
    use crate::value::Value;
    use aktis_lane::ConnectionId;

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
        core.objects.hold(result, ObjectState::Pending);
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
        match core.objects.state(ObjectId::of_return(task, 0))? {
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
        core.leases.lane_closed(LANE, &mut effects);
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
        core.leases.tick(&mut core.clock, &mut effects);
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
