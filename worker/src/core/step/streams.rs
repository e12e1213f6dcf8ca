//! What follows from items of generators that come and are taken: for the objects that they are, and for their producers.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ObjectId, TaskId};

use crate::core::objects::{ObjectState, ResultValue};
use crate::core::streams::{Arrival, AwaitedEnd, ItemOutOfOrder, StreamNext, StreamTable};
use crate::core::{Core, Effects};
use crate::error::TaskFailure;
use crate::value::Value;

/// As many as a producer can make: nobody reads them.
const ALL: u64 = u64::MAX;

impl Core {
    /// An item has come.
    pub(crate) fn stream_item(
        &mut self,
        task: TaskId,
        index: u64,
        result: ResultValue,
        effects: &mut Effects,
    ) -> Result<(), ItemOutOfOrder> {
        let item = match self.streams.arrive(task, index) {
            Err(refused) => {
                effects.discard_result(result);
                return Err(refused);
            }
            Ok(Arrival::Unread(item)) => {
                self.resolve_object(item, result, effects);
                self.tasks.tell_taken(task, ALL, effects);
                return Ok(());
            }
            Ok(Arrival::Again { item, taken }) => {
                if let Some(taken) = taken {
                    self.tasks.tell_taken(task, taken.into(), effects);
                }
                item
            }
            Ok(Arrival::New(item)) => {
                self.objects.hold(item, ObjectState::Pending);
                item
            }
        };
        self.resolve_object(item, result, effects);
        self.streams.tell(task, effects);
        self.settle(effects);
        Ok(())
    }

    /// The task has ended after `length` items, or with a failure.
    pub(super) fn end_stream(
        &mut self,
        task: TaskId,
        length: u64,
        failure: Option<TaskFailure>,
        effects: &mut Effects,
    ) {
        let ended = self.streams.end(task, length, failure);
        if let Some((nothing, failure)) = ended.awaited {
            self.settle_end(task, nothing, failure, effects);
        }
        if let Some(beyond) = ended.beyond {
            self.fail_object(beyond, no_more_items(), effects);
            self.streams.tell(task, effects);
        }
    }

    fn settle_end(
        &mut self,
        task: TaskId,
        nothing: Value,
        failure: Option<TaskFailure>,
        effects: &mut Effects,
    ) {
        let end = StreamTable::end_of(task);
        match failure {
            // As in Ray: what the generator itself raised is its last item, and a way to end.
            Some(failure) if failure.code != ErrorCode::Application => {
                self.fail_object(end, failure, effects);
            }
            _ => self.resolve_object(end, ResultValue::Inline(nothing), effects),
        }
    }

    /// The object that becomes `nothing` when the stream has ended, or fails if the system ended it. Its handle is
    /// counted.
    pub(crate) fn stream_end(
        &mut self,
        task: TaskId,
        nothing: Value,
        effects: &mut Effects,
    ) -> ObjectId {
        let end = StreamTable::end_of(task);
        self.objects.hold(end, ObjectState::Pending);
        if let AwaitedEnd::Now(nothing, failure) = self.streams.await_end(task, nothing) {
            self.settle_end(task, nothing, failure, effects);
        }
        end
    }

    /// The object that is ready when the stream has a next item, or none any more. Its handle is counted.
    pub(crate) fn stream_peek(&mut self, task: TaskId, effects: &mut Effects) -> ObjectId {
        let (next, is_over) = self.streams.peek(task);
        self.objects.hold(next, ObjectState::Pending);
        if is_over {
            self.fail_object(next, no_more_items(), effects);
        }
        next
    }

    /// Takes the next item.
    pub(crate) fn stream_next(&mut self, task: TaskId, effects: &mut Effects) -> StreamNext {
        let (next, taken) = self.streams.take(task);
        if let Some(taken) = taken {
            self.tasks.tell_taken(task, taken.into(), effects);
        }
        next
    }

    /// The consumer is gone.
    pub(crate) fn drop_stream(&mut self, task: TaskId, effects: &mut Effects) {
        let Some(untaken) = self.streams.drop_stream(task) else {
            return;
        };
        for index in untaken {
            self.release_handle(ObjectId::of_return(task, index), effects);
        }
        self.tasks.tell_taken(task, ALL, effects);
    }

    /// The code of this process has ended: nobody reads its generators, and they need not wait for anybody.
    pub(crate) fn drop_streams(&mut self, effects: &mut Effects) {
        let open: Vec<TaskId> = self.streams.tasks().collect();
        for task in open {
            self.drop_stream(task, effects);
        }
    }
}

fn no_more_items() -> TaskFailure {
    TaskFailure::new(ErrorCode::NotFound, "the generator has no more items")
}
