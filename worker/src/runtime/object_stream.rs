//! The results of a generator, one by one.

use std::time::Instant;

use aktis_common::ids::TaskId;

use super::{GetError, Interrupt, Runtime};
use crate::error::TaskFailure;
use crate::reference::ObjectRef;
use crate::value::Value;

/// The items of a streaming task. Dropping it releases the items that were not taken.
pub struct ObjectStream {
    task: TaskId,
    runtime: Runtime,
}

impl ObjectStream {
    pub(super) fn new(task: TaskId, runtime: &Runtime) -> Self {
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

    /// A reference that gets the value `nothing` when the task has ended, or fails if the system ended it.
    pub fn completed(&self, nothing: Value) -> ObjectRef {
        self.runtime.stream_end(self.task, nothing)
    }

    /// A reference that is ready when there is a next item, or none any more. Only good for waiting.
    pub fn peek(&self) -> ObjectRef {
        self.runtime.stream_peek(self.task)
    }

    /// Whether [`Self::next_item`] would return at once.
    pub fn has_next(&self) -> bool {
        self.runtime.stream_progress(self.task).0
    }

    /// Whether all items, and the failure if there was one, were taken.
    pub fn is_finished(&self) -> bool {
        self.runtime.stream_progress(self.task).1
    }

    /// Calls back once, from a runtime thread, when [`Self::has_next`]. Must be quick and not block.
    pub fn on_next(&self, callback: Box<dyn FnOnce() + Send>) {
        self.runtime.on_stream_next(self.task, callback);
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
