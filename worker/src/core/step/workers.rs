//! Tasks of a class go to leased workers, and come back.

use aktis_common::error::ErrorCode;
use aktis_common::ids::TaskId;

use crate::core::leases::{ClassId, LeaseRequestKey};
use crate::core::{Core, Effects};
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;
use aktis_lane::ConnectionId;

impl Core {
    /// Pushes queued tasks to leased workers, and asks for more workers or fewer.
    pub(super) fn pump(&mut self, class: ClassId, effects: &mut Effects) {
        let now = self.clock.now();
        while let Some((connection, task)) = self.leases.next_push(class, now, &self.tasks) {
            self.push_task(task, connection, effects);
        }
        self.leases.adjust(class, &self.tasks, effects);
    }

    fn push_task(&mut self, task: TaskId, connection: ConnectionId, effects: &mut Effects) {
        match self.tasks.assemble(task, &self.objects) {
            Ok(frame) => {
                let pushed = self.leases.push(connection, task, &mut self.clock);
                if let Some((slots, urgency)) = pushed {
                    self.tasks
                        .push(task, connection, slots, frame, urgency, effects);
                }
            }
            Err(why) => self.hold_back(task, why, effects),
        }
    }

    /// A worker was leased, and its lane is open.
    pub(crate) fn lease_granted(
        &mut self,
        key: LeaseRequestKey,
        lease_id: u64,
        worker: ProcessAddress,
        connection: ConnectionId,
        effects: &mut Effects,
    ) {
        let clock = &mut self.clock;
        self.leases
            .granted(key, lease_id, worker, connection, clock);
        self.pump(key.class, effects);
        self.settle(effects);
    }

    /// The request ended without a worker: the tasks it was for fail if no other request is left.
    pub(crate) fn lease_refused(
        &mut self,
        key: LeaseRequestKey,
        failure: &TaskFailure,
        effects: &mut Effects,
    ) {
        for task in self.leases.refused(key) {
            self.fail_task(task, failure.clone(), effects);
        }
        self.settle(effects);
    }

    /// Nothing can ever satisfy the request, as the cluster is now.
    pub(crate) fn lease_infeasible(
        &mut self,
        key: LeaseRequestKey,
        message: &str,
        effects: &mut Effects,
    ) {
        let failure = TaskFailure::new(ErrorCode::Unschedulable, message);
        for task in self.leases.infeasible(key, effects) {
            self.fail_task(task, failure.clone(), effects);
        }
        self.settle(effects);
    }

    /// After a task's end: gives the worker its next tasks, or lets it go.
    pub(super) fn lease_continue(&mut self, connection: ConnectionId, effects: &mut Effects) {
        let Some(class) = self.leases.class_on(connection) else {
            return;
        };
        self.pump(class, effects);
        let clock = &mut self.clock;
        self.leases.note_if_idle(connection, clock, effects);
        self.settle(effects);
    }

    /// A worker gives tasks back that it has not started.
    pub(crate) fn tasks_returned(
        &mut self,
        connection: ConnectionId,
        tasks: &[TaskId],
        is_blocked: bool,
        effects: &mut Effects,
    ) {
        let clock = &mut self.clock;
        let Some(class) = self.leases.returned(connection, tasks, is_blocked, clock) else {
            return;
        };
        for task in tasks.iter().rev() {
            if let Some(failure) = self.tasks.cancelled_end(*task) {
                self.fail_task(*task, failure, effects);
            } else if self.tasks.given_back(*task) {
                self.leases.put_back(class, *task);
            }
        }
        self.lease_continue(connection, effects);
    }
}
