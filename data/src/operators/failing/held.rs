//! What this process holds of memory, and how much of that is of relational work: a process that dies for want of memory which sorts,
//! joins and groups had has not died of the call that was under way.
//!
//! ```text
//!  call begins ─► noted, with what is held ──they hold less than half──► a death is the call's
//!                          │ they hold more
//!                          ▼
//!                 looked at until the call ends; noted again as soon as they hold less than half: it is the call that grows
//! ```

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aktis_common::machine::anonymous_bytes;
use datafusion_execution::memory_pool::MemoryPool;
use parking_lot::Mutex;

use super::FailingInput;
use crate::wire::failing::NotedCall;

/// How often it is looked whether a call grows.
const LOOK: Duration = Duration::from_millis(20);

/// The pools of memory of relational work in this process.
static POOLS: Mutex<Vec<Weak<dyn MemoryPool>>> = Mutex::new(Vec::new());

/// What is taken from the pool is held by relational work.
pub(crate) fn count_pool(pool: &Arc<dyn MemoryPool>) {
    let mut pools = POOLS.lock();
    pools.retain(|pool| pool.strong_count() > 0);
    pools.push(Arc::downgrade(pool));
}

/// The same call, with what is held now.
pub(super) fn with_held(call: NotedCall) -> NotedCall {
    let pools = POOLS.lock();
    let reserved = pools.iter().filter_map(Weak::upgrade);
    let reserved: usize = reserved.map(|pool| pool.reserved()).sum();
    drop(pools);
    NotedCall {
        relational_bytes: reserved as u64,
        process_bytes: anonymous_bytes(std::process::id()).unwrap_or(0),
        ..call
    }
}

/// The call that is under way, where calls are made one at a time.
#[derive(Default)]
pub(super) struct CallInWork {
    /// What the process held when it began.
    pub(super) process_bytes_before: u64,
    /// Looks whether it grows, until this is dropped.
    _look: Option<Look>,
}

impl CallInWork {
    /// One that begins with this note.
    pub(super) fn begin(call: &NotedCall, input: &Arc<FailingInput>) -> Self {
        Self {
            process_bytes_before: call.process_bytes,
            _look: (call.is_of_operators()).then(|| Look::begin(call.clone(), Arc::clone(input))),
        }
    }
}

/// A thread that looks whether a call grows.
struct Look {
    /// `None` once it is to end.
    goes_on: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Look {
    fn begin(call: NotedCall, input: Arc<FailingInput>) -> Self {
        let (goes_on, is_over) = channel::<()>();
        let thread = thread::Builder::new().name("aktis-memory".to_owned());
        let spawned = thread.spawn(move || {
            while is_over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let call = with_held(call.clone());
                if call.is_of_operators() {
                    continue;
                }
                if let Err(failure) = input.notes.note_beside(&input.spec.note_key, &call) {
                    tracing::warn!(%failure, "that a call takes much memory cannot be noted");
                }
                return;
            }
        });
        if let Err(error) = &spawned {
            tracing::warn!(%error, "nobody looks how much memory a call takes");
        }
        Self {
            goes_on: Some(goes_on),
            thread: spawned.ok(),
        }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        self.goes_on = None;
        // What is noted next comes after what it notes.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("looking how much memory a call takes has failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use aktis_worker::TaskFailure;
    use bytes::Bytes;
    use datafusion_execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryReservation};

    use super::*;
    use crate::graph::MapCall;
    use crate::operators::failing::notes::Notes;
    use crate::operators::failing::{CallPiece, Guard, Watch};
    use crate::operators::fragment::Environment;
    use crate::testing::{rows, test_map};
    use crate::wire::failing::FailingSpec;

    const DEADLINE: Duration = Duration::from_secs(60);

    struct Tells(Mutex<Sender<NotedCall>>);

    impl Notes for Tells {
        fn note(&self, _key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure> {
            self.0.lock().send(call.clone()).expect("somebody listens");
            Ok(())
        }

        fn note_beside(&self, key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure> {
            self.note(key, call)
        }
    }

    fn careful_guard() -> (Guard, Receiver<NotedCall>) {
        let (sender, noted) = channel();
        let careful = FailingSpec {
            is_careful: true,
            ..FailingSpec::default()
        };
        let input = FailingInput::new(
            careful,
            0,
            "here".into(),
            Arc::new(Tells(Mutex::new(sender))),
            Arc::<Watch>::default(),
            false,
        );
        let step = MapCall::of(&test_map("f"));
        (Guard::new(&Arc::new(input), 0, &step, None, &[]), noted)
    }

    /// A sort that holds more than any process.
    fn large_sort() -> MemoryReservation {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(usize::MAX));
        count_pool(&pool);
        let sort = MemoryConsumer::new("sort").register(&pool);
        sort.grow(1 << 40);
        sort
    }

    #[test]
    fn call_that_grows_beyond_relational_work_is_noted_again() {
        let sort = large_sort();
        let (guard, noted) = careful_guard();
        let piece = CallPiece::new(rows(0, 4), 10, 0);
        guard.begins(&piece).expect("notes");
        let next = || noted.recv_timeout(DEADLINE).expect("is noted");
        let begun = next();
        assert!(begun.is_of_operators(), "{begun:?}");
        // As if the process had become so much larger.
        drop(sort);
        let grown = next();
        assert!(!grown.is_of_operators(), "{grown:?}");
        assert_eq!((grown.first, grown.last, grown.rows), (10, 13, 4));
        guard.ended(&piece).expect("notes");
        let ended = next();
        assert_eq!((ended.rows, ended.ended_rows), (0, 4));
        assert_eq!(ended.process_bytes_before, begun.process_bytes);
        assert!(ended.process_bytes > 0 && noted.try_recv().is_err());
    }

    #[test]
    fn nothing_of_a_call_is_noted_when_it_has_ended() {
        let sort = large_sort();
        let (guard, noted) = careful_guard();
        let piece = CallPiece::new(rows(0, 4), 10, 0);
        guard.begins(&piece).expect("notes");
        guard.ended(&piece).expect("notes");
        drop(sort);
        drop(guard);
        let next = || noted.recv_timeout(DEADLINE).map(|call| call.rows);
        let all = [next(), next(), next()];
        // The thread has ended, too.
        assert_eq!(all, [Ok(4), Ok(0), Err(RecvTimeoutError::Disconnected)]);
    }

    #[test]
    fn what_sorts_and_joins_have_taken_is_counted() {
        let environment = Environment::of_memory(1 << 50);
        let context = environment.shared_context(1).expect("begins");
        let join = MemoryConsumer::new("join").register(&context.runtime_env().memory_pool);
        join.try_grow(1 << 45).expect("has room");
        let held = with_held(NotedCall::default());
        assert!(held.relational_bytes >= 1 << 45 && held.is_of_operators());
        drop((join, context));
        let held = with_held(NotedCall::default());
        assert!(held.relational_bytes < 1 << 45, "{held:?}");
    }
}
