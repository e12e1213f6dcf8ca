//! Tasks whose results come one by one (generators).
//!
//! An item that has arrived is held by its stream until the consumer takes it. A stream that is dropped early releases
//! what was not taken, and whatever still comes.

use aktis_common::ids::{ObjectId, TaskId};
use rustc_hash::FxHashMap;

use super::ends::ResultValue;
use super::objects::ObjectState;
use super::{Core, Effects, Watcher};
use crate::error::TaskFailure;

#[derive(Default)]
struct Stream {
    arrived: u32,
    taken: u32,
    /// Set when the task has ended.
    length: Option<u32>,
    failure: Option<TaskFailure>,
    watchers: Vec<Watcher>,
}

/// The streams of this process's tasks.
#[derive(Default)]
pub(crate) struct StreamTable {
    streams: FxHashMap<TaskId, Stream>,
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
        index: u32,
        result: ResultValue,
        effects: &mut Effects,
    ) {
        let object = ObjectId::of_return(task, index);
        let Some(stream) = self.streams.streams.get_mut(&task) else {
            self.resolve_object(object, result, effects);
            return;
        };
        if index >= stream.arrived {
            stream.arrived = index + 1;
            self.objects
                .insert_owned(object, ObjectState::Pending)
                .handles += 1;
        }
        self.resolve_object(object, result, effects);
        self.tell_stream(task, effects);
        self.settle(effects);
    }

    /// The task has ended after `length` items, or with a failure.
    pub(super) fn end_stream(
        &mut self,
        task: TaskId,
        length: u64,
        failure: Option<TaskFailure>,
        effects: &mut Effects,
    ) {
        let Some(stream) = self.streams.streams.get_mut(&task) else {
            return;
        };
        stream.length = Some(if failure.is_some() {
            stream.arrived
        } else {
            u32::try_from(length).unwrap_or(u32::MAX)
        });
        stream.failure = failure;
        self.tell_stream(task, effects);
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
    pub(crate) fn stream_next(&mut self, task: TaskId) -> StreamNext {
        let Some(stream) = self.streams.streams.get_mut(&task) else {
            return StreamNext::End;
        };
        if stream.taken < stream.arrived {
            stream.taken += 1;
            return StreamNext::Item(ObjectId::of_return(task, stream.taken - 1));
        }
        match (stream.length, stream.failure.take()) {
            (None, _) => StreamNext::Pending,
            (Some(_), Some(failure)) => StreamNext::Failed(failure),
            (Some(_), None) => StreamNext::End,
        }
    }

    /// Tells the watcher when the stream has something new to offer, at once if it has.
    pub(crate) fn watch_stream(&mut self, task: TaskId, watcher: Watcher, effects: &mut Effects) {
        let stream = self.streams.streams.get_mut(&task);
        match stream {
            Some(stream) if stream.taken >= stream.arrived && stream.length.is_none() => {
                stream.watchers.push(watcher)
            }
            _ => match watcher {
                Watcher::Thread(waiter) => waiter.count_down(),
                Watcher::Callback(callback) => effects.callbacks.push(callback),
                Watcher::Task(_) | Watcher::Peer { .. } => {}
            },
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
    }
}
