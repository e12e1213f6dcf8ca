//! Tasks whose results come one by one (generators), as their consumer sees them.
//!
//! ```text
//!  0 ........ taken ........ arrived ........ length
//!  └ consumed ┘└── held here ──┘└─ to come ──┘
//! ```
//! An item that has arrived is held by its stream until the consumer takes it. A stream that is dropped early releases
//! what was not taken, and whatever still comes. The producer of a stream with `max_unread_items` waits for the consumer;
//! it is told what was taken whenever that changes, and whenever it repeats items after a retry.
//!
//! - `STREAM-1 (items-in-order)`: items are taken in order, each once, and none before it has come; a stream tells its end
//!   or its failure after its last item.
//! - `STREAM-2 (nobody-waits-for-what-is-there)`: who is to be told of the next item or of the end is told when it is there.

use std::ops::Range;
use std::sync::Arc;

use aktis_common::ids::{ObjectId, TaskId};
use rustc_hash::FxHashMap;

use super::{Effects, Watcher};
use crate::error::TaskFailure;
use crate::value::Value;
use aktis_lane::Waiter;

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

    /// All items were taken, and no more come.
    fn is_over(&self) -> bool {
        self.taken >= self.arrived && self.length.is_some()
    }

    fn tell(&mut self, effects: &mut Effects) {
        for watcher in std::mem::take(&mut self.watchers) {
            tell(watcher, effects);
        }
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

/// What an item that has come is to its stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Nobody reads the stream any more.
    Unread(ObjectId),
    /// It has come before, and the task was retried.
    Again {
        item: ObjectId,
        /// How many the consumer has taken, if this is one of them.
        taken: Option<u32>,
    },
    New(ObjectId),
}

/// Who is concerned by the end of a stream.
pub(super) struct Ended {
    /// The value and the failure of the object that stands for the end, if anybody has a reference to it.
    pub(super) awaited: Option<(Value, Option<TaskFailure>)>,
    /// The item after the last one. `None`: how the stream ended was told before.
    pub(super) beyond: Option<ObjectId>,
}

/// What becomes of the object that stands for the end.
pub(super) enum AwaitedEnd {
    /// The stream has not ended yet.
    ToCome,
    Now(Value, Option<TaskFailure>),
    /// Nobody reads the stream any more.
    Unread,
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

/// The streams of this process's tasks.
#[derive(Default)]
pub(crate) struct StreamTable {
    streams: FxHashMap<TaskId, Stream>,
    /// Streams whose end somebody holds a reference to, and the value it gets.
    awaited_ends: FxHashMap<TaskId, Value>,
}

impl StreamTable {
    /// A streaming task is about to be submitted.
    pub(crate) fn open(&mut self, task: TaskId) {
        self.streams.insert(task, Stream::default());
    }

    /// Streams that have a reader.
    pub(super) fn tasks(&self) -> impl Iterator<Item = TaskId> {
        self.streams.keys().copied()
    }

    /// Whether the stream has a next item, or its end; whether it is at its end.
    pub(crate) fn progress(&self, task: TaskId) -> (bool, bool) {
        self.streams.get(&task).map_or((true, true), |stream| {
            let is_failure_due = stream.failure.is_some() && !stream.is_failure_told;
            (stream.has_next(), stream.is_over() && !is_failure_due)
        })
    }

    /// Tells the watcher when the stream has something new to offer, at once if it has.
    pub(crate) fn watch(&mut self, task: TaskId, watcher: Watcher, effects: &mut Effects) {
        match self.streams.get_mut(&task) {
            Some(stream) if !stream.has_next() => stream.watchers.push(watcher),
            _ => tell(watcher, effects),
        }
    }

    /// The thread waits no more.
    pub(crate) fn unwatch(&mut self, task: TaskId, waiter: &Arc<Waiter>) {
        if let Some(stream) = self.streams.get_mut(&task) {
            stream.watchers.retain(|watcher| {
                !matches!(watcher, Watcher::Thread(waiting) if Arc::ptr_eq(waiting, waiter))
            });
        }
    }

    #[cfg(test)]
    pub(crate) fn watchers(&self, task: TaskId) -> usize {
        self.streams[&task].watchers.len()
    }

    /// An item has come. A task that was retried produces its first items again. To be followed by [`Self::tell`], when the
    /// item has its value.
    pub(super) fn arrive(&mut self, task: TaskId, index: u64) -> Result<Arrival, ItemOutOfOrder> {
        let stream = self.streams.get_mut(&task);
        let arrived = stream.as_ref().map(|stream| stream.arrived);
        let Some(index) = checked_index(index, arrived) else {
            let arrived = arrived.unwrap_or(0);
            return Err(ItemOutOfOrder {
                task,
                index,
                arrived,
            });
        };
        let item = ObjectId::of_return(task, index);
        let Some(stream) = stream else {
            return Ok(Arrival::Unread(item));
        };
        if index < stream.arrived {
            let taken = (index < stream.taken).then_some(stream.taken);
            return Ok(Arrival::Again { item, taken });
        }
        stream.arrived = index + 1;
        Ok(Arrival::New(item))
    }

    /// There is something new.
    pub(super) fn tell(&mut self, task: TaskId, effects: &mut Effects) {
        if let Some(stream) = self.streams.get_mut(&task) {
            stream.tell(effects);
        }
    }

    /// The task has ended after `length` items, or with a failure. To be followed by [`Self::tell`].
    pub(super) fn end(&mut self, task: TaskId, length: u64, failure: Option<TaskFailure>) -> Ended {
        let awaited = self.awaited_ends.remove(&task);
        let awaited = awaited.map(|nothing| (nothing, failure.clone()));
        // A stream may run again for items that were lost. How it ended was told when it ended first.
        let stream = self.streams.get_mut(&task);
        let beyond = stream
            .filter(|stream| stream.length.is_none())
            .map(|stream| {
                stream.length = Some(if failure.is_some() {
                    stream.arrived
                } else {
                    u32::try_from(length).unwrap_or(u32::MAX)
                });
                stream.failure = failure;
                ObjectId::of_return(task, stream.arrived)
            });
        Ended { awaited, beyond }
    }

    /// The object that stands for the end of the task's stream.
    pub(super) fn end_of(task: TaskId) -> ObjectId {
        ObjectId::of_return(task, END_INDEX)
    }

    /// Somebody has a reference to the object that stands for the end, which is to become `nothing`.
    pub(super) fn await_end(&mut self, task: TaskId, nothing: Value) -> AwaitedEnd {
        match self.streams.get(&task) {
            Some(stream) if stream.length.is_none() => {
                self.awaited_ends.insert(task, nothing);
                AwaitedEnd::ToCome
            }
            Some(stream) => AwaitedEnd::Now(nothing, stream.failure.clone()),
            None => AwaitedEnd::Unread,
        }
    }

    /// The item that is taken next, and whether there is none.
    pub(super) fn peek(&self, task: TaskId) -> (ObjectId, bool) {
        let stream = self.streams.get(&task);
        let (taken, is_over) = stream.map_or((0, true), |stream| (stream.taken, stream.is_over()));
        (ObjectId::of_return(task, taken), is_over)
    }

    /// Takes the next item. With it comes how many were taken.
    pub(super) fn take(&mut self, task: TaskId) -> (StreamNext, Option<u32>) {
        let Some(stream) = self.streams.get_mut(&task) else {
            return (StreamNext::End, None);
        };
        if stream.taken < stream.arrived {
            stream.taken += 1;
            let item = ObjectId::of_return(task, stream.taken - 1);
            return (StreamNext::Item(item), Some(stream.taken));
        }
        let next = match &stream.failure {
            _ if stream.length.is_none() => StreamNext::Pending,
            Some(failure) if !stream.is_failure_told => {
                stream.is_failure_told = true;
                StreamNext::Failed(failure.clone())
            }
            _ => StreamNext::End,
        };
        (next, None)
    }

    /// The consumer is gone. Returns the items that it has not taken; `None`: it was gone before.
    pub(super) fn drop_stream(&mut self, task: TaskId) -> Option<Range<u32>> {
        let stream = self.streams.remove(&task)?;
        Some(stream.taken..stream.arrived)
    }

    /// What holds between two events.
    pub(super) fn check(&self) -> Result<(), String> {
        for (task, stream) in &self.streams {
            let (taken, arrived, length) = (stream.taken, stream.arrived, stream.length);
            if taken > arrived {
                return Err(format!(
                    "STREAM-1: {taken} of {arrived} items of task {task} are taken"
                ));
            }
            if stream.failure.is_some() && length.is_none() {
                return Err(format!("STREAM-1: task {task} has failed and not ended"));
            }
            if stream.has_next() && !stream.watchers.is_empty() {
                return Err(format!(
                    "STREAM-2: somebody waits for what task {task} has yielded"
                ));
            }
            if length.is_some() && self.awaited_ends.contains_key(task) {
                return Err(format!(
                    "STREAM-2: somebody waits for the end of task {task}, which has ended"
                ));
            }
        }
        Ok(())
    }
}

fn tell(watcher: Watcher, effects: &mut Effects) {
    match watcher {
        Watcher::Thread(waiter) => waiter.count_down(),
        Watcher::Callback(callback) => effects.callbacks.push(callback),
        Watcher::Task(_) | Watcher::Peer { .. } => {}
    }
}

/// The index of an item, if a stream of which so many have come can have it. `arrived`: `None` if nobody reads the stream.
fn checked_index(index: u64, arrived: Option<u32>) -> Option<u32> {
    let index = u32::try_from(index).ok()?;
    let is_next_or_known = arrived.is_none_or(|arrived| index <= arrived);
    (index != END_INDEX && is_next_or_known).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STREAM-1.
    #[test]
    fn item_that_is_neither_the_next_nor_a_repeated_one_is_refused() {
        let (mut streams, task) = (StreamTable::default(), TaskId::next());
        streams.open(task);
        for index in [0, 1, 0] {
            assert!(streams.arrive(task, index).is_ok());
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
            assert_eq!(streams.arrive(task, index), Err(refused));
        }
    }

    /// STREAM-1, STREAM-2.
    #[test]
    fn items_are_taken_in_order_and_the_failure_is_told_once_after_the_last() {
        let (mut streams, task) = (StreamTable::default(), TaskId::next());
        let (mut effects, waiter) = (Effects::default(), Waiter::new(1));
        streams.open(task);
        let item = |index| ObjectId::of_return(task, index);
        assert!(matches!(streams.take(task), (StreamNext::Pending, None)));
        streams.watch(task, Watcher::Thread(Arc::clone(&waiter)), &mut effects);
        assert_eq!(streams.arrive(task, 0), Ok(Arrival::New(item(0))));
        assert!(
            streams
                .check()
                .is_err_and(|broken| broken.contains("STREAM-2"))
        );
        streams.tell(task, &mut effects);
        assert!(waiter.is_done());
        assert_eq!(streams.check(), Ok(()));
        assert!(
            matches!(streams.take(task), (StreamNext::Item(taken), Some(1)) if taken == item(0))
        );
        let again = Arrival::Again {
            item: item(0),
            taken: Some(1),
        };
        assert_eq!(streams.arrive(task, 0), Ok(again));
        let failure = TaskFailure::new(aktis_common::error::ErrorCode::WorkerCrashed, "killed");
        assert_eq!(streams.end(task, 0, Some(failure)).beyond, Some(item(1)));
        assert!(matches!(streams.take(task), (StreamNext::Failed(_), None)));
        assert!(matches!(streams.take(task), (StreamNext::End, None)));
        assert_eq!(streams.drop_stream(task), Some(1..1));
        assert_eq!(streams.drop_stream(task), None);
    }
}
