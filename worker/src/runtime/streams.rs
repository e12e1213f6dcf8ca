//! Generators: their consumers, and their producers that wait for a consumer.

use std::sync::Arc;
use std::time::Instant;

use aktis_common::ids::TaskId;
use aktis_lane::Waiter;
use aktis_proto::v1 as wire;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::at_work::Subject;
use super::waiting::Waiting;
use super::{GetError, Interrupt, ReceivedCall, Runtime};
use crate::core::{StreamNext, Watcher};
use crate::error::TaskFailure;
use crate::reference::ObjectRef;
use crate::value::Value;

/// The consumer's side.
impl Runtime {
    pub(crate) fn stream_next(
        &self,
        task: TaskId,
        deadline: Option<Instant>,
        interrupt: Interrupt<'_>,
    ) -> Result<Option<ObjectRef>, GetError> {
        loop {
            match self.with_core(|core, effects| core.stream_next(task, effects)) {
                StreamNext::Item(object) => {
                    return Ok(Some(ObjectRef::from_counted(object, self.0.me, self)));
                }
                StreamNext::End => return Ok(None),
                StreamNext::Failed(failure) => return Err(GetError::Failed(failure)),
                StreamNext::Pending => {}
            }
            let waiter = Waiter::new(1);
            let watcher = Watcher::Thread(Arc::clone(&waiter));
            self.with_core(|core, effects| core.streams.watch(task, watcher, effects));
            let waited =
                Waiting::new(self, deadline, interrupt).wait_for(&waiter, Subject::Item(task));
            if waited.is_err() {
                self.0.core.note(|core| core.streams.unwatch(task, &waiter));
            }
            waited?;
        }
    }

    pub(crate) fn close_stream(&self, task: TaskId) {
        if !self.is_closed() {
            self.with_core(|core, effects| core.drop_stream(task, effects));
        }
    }

    pub(crate) fn stream_end(&self, task: TaskId, nothing: Value) -> ObjectRef {
        let end = self.with_core(|core, effects| core.stream_end(task, nothing, effects));
        ObjectRef::from_counted(end, self.0.me, self)
    }

    pub(crate) fn stream_peek(&self, task: TaskId) -> ObjectRef {
        let next = self.with_core(|core, effects| core.stream_peek(task, effects));
        ObjectRef::from_counted(next, self.0.me, self)
    }

    pub(crate) fn stream_progress(&self, task: TaskId) -> (bool, bool) {
        self.0.core.look(|core| core.streams.progress(task))
    }

    pub(crate) fn on_stream_next(&self, task: TaskId, callback: Box<dyn FnOnce() + Send>) {
        let watcher = Watcher::Callback(callback);
        self.with_core(|core, effects| core.streams.watch(task, watcher, effects));
    }
}

/// How far the consumers of the generators that run here are.
#[derive(Default)]
pub(super) struct StreamWindows {
    windows: Mutex<FxHashMap<TaskId, Window>>,
}

#[derive(Default)]
struct Window {
    taken: u64,
    producer: Option<Producer>,
}

/// Who waits for room: the thread that runs the generator, or the event loop on which it runs.
enum Producer {
    Thread(Arc<Waiter>),
    Loop(Box<dyn FnOnce() + Send>),
}

impl Producer {
    fn wake(self) {
        match self {
            Self::Thread(waiter) => waiter.count_down(),
            Self::Loop(wake) => wake(),
        }
    }
}

impl StreamWindows {
    /// An item is about to be sent, and may be taken from now on.
    pub(super) fn open(&self, task: TaskId) {
        self.windows.lock().entry(task).or_default();
    }

    /// Something to wait for until fewer than `limit` of `sent` items are unread; `None` if that is so.
    fn wait_for_room(&self, task: TaskId, sent: u64, limit: u64) -> Option<Arc<Waiter>> {
        let waiter = Waiter::new(1);
        let producer = Producer::Thread(Arc::clone(&waiter));
        let has_room = self.tell_of_room(task, sent, limit, producer);
        (!has_room).then_some(waiter)
    }

    /// Whether fewer than `limit` of `sent` items are unread. If not, the producer is woken when something was read.
    fn tell_of_room(&self, task: TaskId, sent: u64, limit: u64, producer: Producer) -> bool {
        let mut windows = self.windows.lock();
        let window = windows.entry(task).or_default();
        if sent.saturating_sub(window.taken) < limit {
            return true;
        }
        window.producer = Some(producer);
        false
    }

    fn taken(&self, task: TaskId, taken: u64) {
        // A task that has ended has no window.
        let producer = self.windows.lock().get_mut(&task).and_then(|window| {
            window.taken = window.taken.max(taken);
            window.producer.take()
        });
        if let Some(producer) = producer {
            producer.wake();
        }
    }

    /// The task has ended.
    pub(super) fn close(&self, task: TaskId) {
        self.windows.lock().remove(&task);
    }
}

/// The producer's side.
impl Runtime {
    pub(super) fn on_stream_taken(&self, task: TaskId, taken: &wire::StreamTaken) {
        self.0.stream_windows.taken(task, taken.taken);
    }
}

impl ReceivedCall {
    /// Waits until the consumer has read enough of the `sent` items for the next one to be made.
    pub fn await_consumer(&self, sent: u32) -> Result<(), TaskFailure> {
        let limit = self.template().max_unread_items;
        if limit == 0 {
            return Ok(());
        }
        let runtime = self.runtime();
        let windows = &runtime.0.stream_windows;
        let is_over = || self.is_cancelled() || !self.has_caller();
        let mut waiting = Waiting::new(runtime, None, &is_over);
        while let Some(waiter) = windows.wait_for_room(self.task(), sent.into(), limit.into()) {
            let waited = waiting.wait_for(&waiter, Subject::Consumer);
            waited.map_err(|_| self.cancelled())?;
        }
        Ok(())
    }

    /// [`Self::await_consumer`] for an event loop, which must not wait: true if the next item may be made. If not, `wake` is
    /// called when the consumer has read something, from a runtime thread; it must be quick and not block.
    pub fn watch_consumer(&self, sent: u32, wake: Box<dyn FnOnce() + Send>) -> bool {
        let limit = self.template().max_unread_items;
        let windows = &self.runtime().0.stream_windows;
        let producer = Producer::Loop(wake);
        limit == 0 || windows.tell_of_room(self.task(), sent.into(), limit.into(), producer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::testing::PretendedRaylet;

    #[test]
    fn loop_is_woken_once_when_the_consumer_of_its_stream_has_read() {
        let (windows, task) = (StreamWindows::default(), TaskId::next());
        let (woken, wakes) = mpsc::channel();
        let producer = |name: &'static str| {
            let woken = woken.clone();
            Producer::Loop(Box::new(move || {
                woken.send(name).expect("the test listens")
            }))
        };
        windows.open(task);
        assert!(windows.tell_of_room(task, 1, 2, producer("too early")));
        assert!(!windows.tell_of_room(task, 2, 2, producer("in time")));
        assert!(wakes.try_recv().is_err(), "nothing was read yet");
        windows.taken(task, 1);
        windows.taken(task, 2);
        assert_eq!(wakes.try_iter().collect::<Vec<_>>(), ["in time"]);
        assert!(windows.tell_of_room(task, 2, 2, producer("too early")));
    }

    #[test]
    fn reader_whose_time_is_over_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let node = PretendedRaylet::new(folder.path()).expect("a raylet");
        let (runtime, _raylet) = node.join().expect("joined");
        let task = TaskId::next();
        runtime.0.core.note(|core| core.streams.open(task));
        let read = runtime.stream_next(task, Some(Instant::now()), &|| false);
        assert!(matches!(read, Err(GetError::TimedOut { .. })));
        assert_eq!(runtime.0.core.look(|core| core.streams.watchers(task)), 0);
        runtime.shutdown();
    }
}
