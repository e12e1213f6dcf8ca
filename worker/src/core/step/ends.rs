//! How tasks end: values, failures, retries.

use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ObjectId, TaskId};

use crate::core::objects::ResultValue;
use crate::core::tasks::{Retry, Target};
use crate::core::{Core, Effects};
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;
use aktis_lane::ConnectionId;

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
                self.objects.hand_over(object, owner, callee, effects);
            }
        }
        let (task, now) = (ended.task, self.clock.now());
        let (execution, is_exiting) = (ended.execution, ended.is_worker_exiting);
        self.leases
            .task_ended(connection, task, execution, is_exiting, now);
        let answered = self.actors.answered(connection, task);
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
        for (index, result) in (0u32..).zip(results) {
            let object = ObjectId::of_return(id, index);
            self.resolve_object(object, result, effects);
        }
        self.retire(id, effects);
        self.settle(effects);
    }

    /// The task is over without values (`TASK-1`).
    pub(crate) fn fail_task(&mut self, id: TaskId, failure: TaskFailure, effects: &mut Effects) {
        let Some((results, is_rerun)) = self.tasks.results(id) else {
            return;
        };
        for index in 0..results {
            self.fail_object(ObjectId::of_return(id, index), failure.clone(), effects);
        }
        if is_rerun {
            self.fail_missing(id, &failure, effects);
        }
        self.end_stream(id, 0, Some(failure), effects);
        self.retire(id, effects);
        self.settle(effects);
    }

    /// The task's attempt failed through the system or with an exception it is to be retried on.
    pub(crate) fn retry_or_fail(
        &mut self,
        id: TaskId,
        failure: TaskFailure,
        effects: &mut Effects,
    ) {
        match self.tasks.retry(id) {
            None => return,
            Some(Retry::Again(Target::Class(_))) => self.resolve_dependencies(id, effects),
            Some(Retry::Again(Target::Actor(actor))) => self.requeue_call(actor, id, effects),
            Some(Retry::NoneLeft) => {
                let is_crash = failure.code == ErrorCode::WorkerCrashed;
                let cancelled = is_crash.then(|| self.tasks.cancelled_end(id)).flatten();
                self.fail_task(id, cancelled.unwrap_or(failure), effects);
            }
        }
        self.settle(effects);
    }

    /// The session is over: everything that is pending fails, and calls to come, too.
    pub(crate) fn fail_everything(&mut self, failure: &TaskFailure, effects: &mut Effects) {
        for actor in self.actors.known() {
            self.actor_dead(actor, failure.clone(), effects);
        }
        for task in self.tasks.pending() {
            self.fail_task(task, failure.clone(), effects);
        }
        for object in self.objects.unready() {
            self.fail_object(object, failure.clone(), effects);
        }
    }
}
