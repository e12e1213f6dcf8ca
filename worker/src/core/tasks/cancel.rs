//! Tasks that are not to be run again (`TASK-3`).

use aktis_common::error::ErrorCode;
use aktis_common::ids::TaskId;

use super::{Place, Target, TaskTable};
use crate::error::TaskFailure;
use aktis_lane::ConnectionId;

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

/// Where the task was that is cancelled.
pub(in crate::core) enum CancelledAt {
    /// It has ended.
    Ended,
    /// It runs, and is to be told.
    Pushed(ConnectionId),
    /// It waits for arguments, or in the queue of its class or actor.
    Waiting {
        target: Target,
        is_in_queue: bool,
        failure: TaskFailure,
    },
}

/// The failure of a cancelled task.
pub(crate) fn cancelled_failure(name: &str) -> TaskFailure {
    TaskFailure::new(ErrorCode::Cancelled, format!("task {name} was cancelled"))
}

impl TaskTable {
    /// The task is not to be run again (`TASK-3`).
    pub(in crate::core) fn cancel(
        &mut self,
        id: TaskId,
        how: Cancel,
    ) -> Result<CancelledAt, CancelError> {
        let Some(record) = self.records.get_mut(&id) else {
            return Ok(CancelledAt::Ended);
        };
        let target = record.template.target;
        if how.is_forced && matches!(target, Target::Actor(_)) {
            let name = record.name();
            return Err(CancelError::ForcedCall { name });
        }
        let cancelled = match record.place {
            Place::Lineage => return Ok(CancelledAt::Ended),
            Place::Pushed(connection) => CancelledAt::Pushed(connection),
            Place::Queued => CancelledAt::Waiting {
                target,
                // One whose arguments are not there yet is in no queue of its class.
                is_in_queue: record.unresolved == 0,
                failure: cancelled_failure(&record.name()),
            },
        };
        record.is_cancelled = true;
        record.retries_left = 0;
        if self.cancelled.len() == REMEMBERED {
            self.cancelled.pop_front();
        }
        self.cancelled.push_back(id);
        Ok(cancelled)
    }

    /// What a task that runs in this process has submitted.
    pub(in crate::core) fn children(&self, parent: TaskId) -> Vec<(TaskId, Target)> {
        let records = self.records.values();
        records
            .filter(|record| record.parent == Some(parent))
            .map(|record| (record.id, record.template.target))
            .collect()
    }

    /// Whether a task was cancelled and did not end yet; the failure it ends with.
    pub(in crate::core) fn cancelled_end(&self, id: TaskId) -> Option<TaskFailure> {
        let record = self.records.get(&id)?;
        let failure = || cancelled_failure(&record.name());
        record.is_cancelled.then(failure)
    }
}
