//! Tasks whose results come one by one (generators).
//!
//! ```text
//!  0 ........ taken ........ arrived ........ length
//!  └ consumed ┘└── held here ──┘└─ to come ──┘
//! ```
//! An item that has arrived is held by its stream until the consumer takes it. A stream that is dropped early releases
//! what was not taken, and whatever still comes. The producer of a stream with `max_unread_items` waits for the consumer;
//! it is told what was taken whenever that changes, and whenever it repeats items after a retry.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ObjectId, TaskId};
use aktis_lane::{PayloadParts, Urgency, Waiter};
use aktis_proto::v1 as wire;
use rustc_hash::FxHashMap;

use super::ResultValue;
use super::objects::ObjectState;
use super::tasks::Place;
use super::{Core, Effect, Effects, Watcher};
use crate::error::TaskFailure;
use crate::value::Value;

/// Index of the object that stands for the end of a stream.
const END_INDEX: u32 = u32::MAX;

#[derive(Default)]
struct Stream {
    arrived: u32,
    taken: u32,
    /// Set when the task has ended.
    length: Option<u32>,
    failure: Option<TaskFailure>,
    is_failure_told: bool,
    watchers: Vec<Watcher>,
}

impl Stream {
    fn has_next(&self) -> bool {
        self.taken < self.arrived || self.length.is_some()
    }
}

/// An item that no task sends: they come one after the other, from the first on after a retry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("item {index} of task {task} came after {arrived} items")]
pub(crate) struct ItemOutOfOrder {
    task: TaskId,
    index: u64,
    arrived: u32,
}

/// The streams of this process's tasks.
#[derive(Default)]
pub(crate) struct StreamTable {
    streams: FxHashMap<TaskId, Stream>,
    /// Streams whose end somebody holds a reference to, and the value it gets.
    awaited_ends: FxHashMap<TaskId, Value>,
}

impl StreamTable {
    /// Streams that have a reader.
    pub(super) fn open(&self) -> impl Iterator<Item = TaskId> {
        self.streams.keys().copied()
    }
}

/// What a stream has to offer.
#[derive(Debug)]
pub(crate) enum StreamNext {
    /// The next item; its handle is counted already.
    Item(ObjectId),
    /// Nothing yet.
    Pending,
    /// The task failed after its last item. Told once; then the stream is at its end.
    Failed(TaskFailure),
    End,
}

impl Core {
    /// A streaming task is about to be submitted.
    pub(crate) fn open_stream(&mut self, task: TaskId) {
        self.streams.streams.insert(task, Stream::default());
    }

    /// An item has come. A task that was retried produces its first items again.
    pub(crate) fn stream_item(
        &mut self,
        task: TaskId,
        index: u64,
        result: ResultValue,
        effects: &mut Effects,
    ) -> Result<(), ItemOutOfOrder> {
        let arrived = self.streams.streams.get(&task).map(|open| open.arrived);
        let Some(index) = checked_index(index, arrived) else {
            effects.discard_result(result);
            let arrived = arrived.unwrap_or(0);
            return Err(ItemOutOfOrder {
                task,
                index,
                arrived,
            });
        };
        let object = ObjectId::of_return(task, index);
        let is_stored = matches!(result, ResultValue::Stored { .. });
        let Some(stream) = self.streams.streams.get_mut(&task) else {
            self.resolve_object(object, result, effects);
            self.tell_taken(task, u64::MAX, effects);
            return Ok(());
        };
        if index < stream.taken {
            let taken = stream.taken;
            self.tell_taken(task, taken.into(), effects);
        }
        let Some(stream) = self.streams.streams.get_mut(&task) else {
            return Ok(());
        };
        if index >= stream.arrived {
            stream.arrived = index + 1;
            self.objects
                .insert_owned(object, ObjectState::Pending)
                .handles += 1;
            if is_stored {
                self.item_is_stored(task);
            }
        }
        self.resolve_object(object, result, effects);
        self.tell_stream(task, effects);
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
        if let Some(nothing) = self.streams.awaited_ends.remove(&task) {
            self.settle_end(task, nothing, failure.clone(), effects);
        }
        let Some(stream) = self.streams.streams.get_mut(&task) else {
            return;
        };
        if stream.length.is_some() {
            // It ran again for items that were lost. How it ended was told when it ended first.
            return;
        }
        stream.length = Some(if failure.is_some() {
            stream.arrived
        } else {
            u32::try_from(length).unwrap_or(u32::MAX)
        });
        stream.failure = failure;
        let beyond = ObjectId::of_return(task, stream.arrived);
        self.fail_object(beyond, no_more_items(), effects);
        self.tell_stream(task, effects);
    }

    fn settle_end(
        &mut self,
        task: TaskId,
        nothing: Value,
        failure: Option<TaskFailure>,
        effects: &mut Effects,
    ) {
        let end = ObjectId::of_return(task, END_INDEX);
        match failure {
            // As in Ray: what the generator itself raised is its last item, and a way to end.
            Some(failure) if failure.code != ErrorCode::Application => {
                self.fail_object(end, failure, effects);
            }
            _ => drop(self.resolve_object(end, ResultValue::Inline(nothing), effects)),
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
        let end = ObjectId::of_return(task, END_INDEX);
        self.objects.insert_owned(end, ObjectState::Pending).handles += 1;
        match self.streams.streams.get(&task) {
            Some(stream) if stream.length.is_none() => {
                self.streams.awaited_ends.insert(task, nothing);
            }
            Some(stream) => {
                let failure = stream.failure.clone();
                self.settle_end(task, nothing, failure, effects);
            }
            None => {}
        }
        end
    }

    /// The object that is ready when the stream has a next item, or none any more. Its handle is counted.
    pub(crate) fn stream_peek(&mut self, task: TaskId, effects: &mut Effects) -> ObjectId {
        let stream = self.streams.streams.get(&task);
        let (taken, is_over) = stream.map_or((0, true), |stream| {
            let is_over = stream.taken >= stream.arrived && stream.length.is_some();
            (stream.taken, is_over)
        });
        let next = ObjectId::of_return(task, taken);
        self.objects
            .insert_owned(next, ObjectState::Pending)
            .handles += 1;
        if is_over {
            self.fail_object(next, no_more_items(), effects);
        }
        next
    }

    /// Whether the stream has a next item, or its end; whether it is at its end.
    pub(crate) fn stream_progress(&self, task: TaskId) -> (bool, bool) {
        self.streams
            .streams
            .get(&task)
            .map_or((true, true), |stream| {
                let is_failure_due = stream.failure.is_some() && !stream.is_failure_told;
                let is_over = stream.length.is_some() && stream.taken >= stream.arrived;
                (stream.has_next(), is_over && !is_failure_due)
            })
    }

    /// Lets a producer that waits for its consumer go on.
    fn tell_taken(&mut self, task: TaskId, taken: u64, effects: &mut Effects) {
        let Some(record) = self.tasks.records.get(&task) else {
            return;
        };
        let Place::Pushed(connection) = record.place else {
            return;
        };
        if record.template.shared.max_unread_items == 0 {
            return;
        }
        let taken = wire::StreamTaken {
            task_id: task.to_wire(),
            taken,
        };
        let kind = Some(wire::lane_frame::Kind::StreamTaken(taken));
        effects.push(Effect::Send {
            connection,
            frame: wire::LaneFrame { kind },
            payload: PayloadParts::default(),
            urgency: Urgency::Now,
        });
    }

    fn tell_stream(&mut self, task: TaskId, effects: &mut Effects) {
        let Some(stream) = self.streams.streams.get_mut(&task) else {
            return;
        };
        for watcher in std::mem::take(&mut stream.watchers) {
            match watcher {
                Watcher::Thread(waiter) => waiter.count_down(),
                Watcher::Callback(callback) => effects.callbacks.push(callback),
                Watcher::Task(_) | Watcher::Peer { .. } => {}
            }
        }
    }

    /// Takes the next item.
    pub(crate) fn stream_next(&mut self, task: TaskId, effects: &mut Effects) -> StreamNext {
        let Some(stream) = self.streams.streams.get_mut(&task) else {
            return StreamNext::End;
        };
        if stream.taken < stream.arrived {
            stream.taken += 1;
            let taken = stream.taken;
            self.tell_taken(task, taken.into(), effects);
            return StreamNext::Item(ObjectId::of_return(task, taken - 1));
        }
        if stream.length.is_none() {
            return StreamNext::Pending;
        }
        match &stream.failure {
            Some(failure) if !stream.is_failure_told => {
                stream.is_failure_told = true;
                StreamNext::Failed(failure.clone())
            }
            _ => StreamNext::End,
        }
    }

    /// Tells the watcher when the stream has something new to offer, at once if it has.
    pub(crate) fn watch_stream(&mut self, task: TaskId, watcher: Watcher, effects: &mut Effects) {
        let stream = self.streams.streams.get_mut(&task);
        match stream {
            Some(stream) if !stream.has_next() => stream.watchers.push(watcher),
            _ => match watcher {
                Watcher::Thread(waiter) => waiter.count_down(),
                Watcher::Callback(callback) => effects.callbacks.push(callback),
                Watcher::Task(_) | Watcher::Peer { .. } => {}
            },
        }
    }

    #[cfg(test)]
    pub(crate) fn stream_watchers(&self, task: TaskId) -> usize {
        self.streams.streams[&task].watchers.len()
    }

    /// The thread waits no more.
    pub(crate) fn unwatch_stream(&mut self, task: TaskId, waiter: &Arc<Waiter>) {
        if let Some(stream) = self.streams.streams.get_mut(&task) {
            stream.watchers.retain(|watcher| {
                !matches!(watcher, Watcher::Thread(waiting) if Arc::ptr_eq(waiting, waiter))
            });
        }
    }

    /// The consumer is gone.
    pub(crate) fn drop_stream(&mut self, task: TaskId, effects: &mut Effects) {
        let Some(stream) = self.streams.streams.remove(&task) else {
            return;
        };
        for index in stream.taken..stream.arrived {
            self.release_handle(ObjectId::of_return(task, index), effects);
        }
        self.tell_taken(task, u64::MAX, effects);
    }
}

/// The index of an item, if a stream of which so many have come can have it. `arrived`: `None` if nobody reads the stream.
fn checked_index(index: u64, arrived: Option<u32>) -> Option<u32> {
    let index = u32::try_from(index).ok()?;
    let is_next_or_known = arrived.is_none_or(|arrived| index <= arrived);
    (index != END_INDEX && is_next_or_known).then_some(index)
}

fn no_more_items() -> TaskFailure {
    TaskFailure::new(ErrorCode::NotFound, "the generator has no more items")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use aktis_common::ids::{NodeId, WorkerId};

    use super::*;
    use crate::reference::ProcessAddress;

    fn core_with_stream() -> (Core, TaskId) {
        let me = ProcessAddress {
            node: NodeId::random(),
            worker: WorkerId::random(),
        };
        let mut core = Core::new(me, 1 << 20, Duration::from_secs(1));
        core.clock.set(Instant::now());
        let task = TaskId::next();
        core.open_stream(task);
        (core, task)
    }

    #[test]
    fn item_that_is_neither_the_next_nor_a_repeated_one_is_refused() {
        let (mut core, task) = core_with_stream();
        let mut item = |task, index| {
            let result = ResultValue::Inline(Value::default());
            core.stream_item(task, index, result, &mut Effects::default())
        };
        for index in [0, 1, 0] {
            assert_eq!(item(task, index), Ok(()));
        }
        let unread = TaskId::next();
        let beyond = u64::from(u32::MAX);
        for (task, index, arrived) in [
            (task, 3, 2),
            (task, beyond, 2),
            (task, beyond + 1, 2),
            (unread, beyond, 0),
        ] {
            let refused = ItemOutOfOrder {
                task,
                index,
                arrived,
            };
            assert_eq!(item(task, index), Err(refused));
        }
    }
}
