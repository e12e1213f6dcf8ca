//! What a process knows as an owner, a borrower and a caller: pure state, no clock, thread, socket or file.
//!
//! ```text
//!  objects   every object this process holds references to: state, counts, who waits
//!  tasks     tasks this process submitted: dependencies, attempts
//!  lineage   tasks that have ended and whose results may have to be made again
//!  leases    workers leased per scheduling class: queues, pipelining, stealing back
//!  actors    actors this process calls: state, calls in order
//!  lending   what other processes need of this one, while it works and when it ends
//!  away      which of them are asked about, since they cannot be reached
//! ```
//! Every entry point takes what happened and appends what is to be done to an [`Effects`]. The caller carries the
//! effects out after it has released the core's lock, except [`Effect::Send`], which it appends to the connection's
//! outbox while it holds the lock: that is what keeps calls in order.
//!
//! Invariants:
//! - `REF-1 (freed-once)`: an object's storage is freed exactly when no handle, task, borrower or containing object
//!   holds it.
//! - `TASK-1 (one-end)`: every submitted task ends exactly once for its results: with values or with a failure.
//! - `TASK-2 (retries-bounded)`: a task is attempted at most `1 + max_retries` times after system failures.
//! - `TASK-3 (cancelled-for-good)`: a cancelled task is never pushed again.
//! - `LEASE-1 (no-lost-task)`: a task is queued, pushed to one lease, or ended; when a lease ends its tasks are queued
//!   again or ended.
//! - `LEASE-2 (nothing-behind-a-long-task)`: a task is never pushed behind one that has run for long.
//! - `LEND-1 (nothing-lost-in-good-order)`: a process that ends in good order does so when others need nothing of it.
//! - `ACTOR-1 (fifo)`: calls of this process to one actor leave in the order of submission, within a concurrency group.

pub(crate) mod actors;
mod clock;
mod effects;
pub(crate) mod leases;
pub(crate) mod objects;
mod step;
mod streams;
pub(crate) mod tasks;

use std::time::{Duration, Instant};

use aktis_common::ids::ObjectId;
use aktis_lane::ConnectionId;
use rustc_hash::FxHashMap;

use crate::reference::ProcessAddress;

pub(crate) use effects::{Effect, Effects, Watcher};
pub(crate) use step::{Cancel, CancelError, EndedResult, ResultValue, cancelled_failure};
pub(crate) use streams::StreamNext;

/// See the [module](self).
pub(crate) struct Core {
    pub(crate) me: ProcessAddress,
    clock: clock::Clock,
    pub(crate) objects: objects::ObjectTable,
    pub(crate) tasks: tasks::TaskTable,
    pub(crate) leases: leases::LeaseTable,
    pub(crate) actors: actors::ActorTable,
    pub(crate) streams: streams::StreamTable,
    lending: objects::lending::Lending,
    /// What became of the bytes of objects that were lost in another way than with their node, for people.
    losses: FxHashMap<ObjectId, String>,
    /// Who said hello on which connection.
    pub(crate) peers: FxHashMap<ConnectionId, ProcessAddress>,
}

/// What is left to do for who has called the core.
pub(crate) struct StepEnd {
    /// After how long [`Core::tick`] is to be called, if that is earlier than was said before.
    pub(crate) tick_wish: Option<Duration>,
    /// Much memory was freed.
    pub(crate) has_shrunk: bool,
}

impl Core {
    pub(crate) fn new(me: ProcessAddress, lineage_limit_bytes: u64, lease_idle: Duration) -> Self {
        Self {
            me,
            clock: clock::Clock::default(),
            objects: objects::ObjectTable::default(),
            tasks: tasks::TaskTable::new(lineage_limit_bytes),
            leases: leases::LeaseTable::new(lease_idle),
            actors: actors::ActorTable::default(),
            streams: streams::StreamTable::default(),
            lending: objects::lending::Lending::default(),
            losses: FxHashMap::default(),
            peers: FxHashMap::default(),
        }
    }

    /// An event is to be handled.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.clock.set(now);
    }

    /// It was handled: passes on what has not been yet.
    pub(crate) fn end(&mut self, effects: &mut Effects) -> StepEnd {
        self.settle(effects);
        StepEnd {
            tick_wish: self.clock.take_tick_wish(),
            has_shrunk: self.objects.take_shrunk(),
        }
    }

    /// Does what is due at this time. Says when to come again.
    pub(crate) fn tick(&mut self, effects: &mut Effects) -> Option<Duration> {
        let leases = self.lease_tick(effects);
        let actors = self.actor_tick(effects);
        let others = [self.lending_tick(effects), self.condemned_tick(effects)];
        let others = others.into_iter().flatten();
        leases.into_iter().chain(actors).chain(others).min()
    }
}
