//! The results of a generator, one by one.

use std::time::Instant;

use aktis_common::ids::TaskId;

use crate::error::TaskFailure;
use crate::reference::ObjectRef;
use crate::runtime::{GetError, Interrupt, Runtime};

/// The items of a streaming task. Dropping it releases the items that were not taken.
pub struct ObjectStream {
    task: TaskId,
    runtime: Runtime,
}

impl ObjectStream {
    pub(crate) fn new(task: TaskId, runtime: &Runtime) -> Self {
        Self {
            task,
            runtime: runtime.clone(),
        }
    }

    /// The task that makes the items.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// Waits for the next item; `None` at the end. A failure of the task is told once, after its last item.
    pub fn next_item(
        &self,
        deadline: Option<Instant>,
        interrupt: Interrupt<'_>,
    ) -> Result<Option<ObjectRef>, GetError> {
        self.runtime.stream_next(self.task, deadline, interrupt)
    }

    /// A reference that has failed, for embedders that hand a stream's failure over as its last item.
    pub fn failed_reference(&self, failure: &TaskFailure) -> Result<ObjectRef, TaskFailure> {
        self.runtime.failed_object(failure)
    }
}

impl Drop for ObjectStream {
    fn drop(&mut self) {
        self.runtime.close_stream(self.task);
    }
}
