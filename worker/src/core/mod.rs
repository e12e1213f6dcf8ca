//! What a process knows as an owner, a borrower and a caller: pure state, no clock, thread, socket or file.
//!
//! Five tables, each with private fields, and a step that passes on what a change of one means for another:
//!
//! | table | knows | says to others |
//! |---|---|---|
//! | [`objects`] | objects this process holds references to: value, who holds it, who waits; whether others need it on their account | [`Consequence`]: an argument is ready, a result is forgotten, one is missed |
//! | [`streams`] | generators as their consumer sees them: items, end, who waits | what an item is ([`streams::Arrival`]), whom an end concerns |
//! | [`tasks`] | tasks this process submitted: arguments, attempts, lineage | what a task is to do: [`tasks::Retry`], [`tasks::CancelledAt`], [`tasks::Remake`], [`tasks::NotReady`] |
//! | [`leases`] | classes of tasks and leased workers: queues, pipelining, stealing back | who is pushed next, who comes back or cannot be run |
//! | [`actors`] | actors this process calls: where they are, calls in order | the call that leaves next ([`actors::NextCall`]), who is interrupted |
//!
//! What a line may touch is what the compiler lets it touch: the fields of the table in whose folder it stands. No table knows
//! [`Core`]. One may look into those below it, as an argument: `leases` and `actors` look into `tasks`, `tasks` into `objects`;
//! none changes another. Only `step` holds several tables at once, and it has no state. Verbs of a table that concern
//! nobody else are for the crate (`pub(crate)`), the others for the step (`pub(super)`, `pub(in crate::core)`).
//!
//! Every entry point takes what happened and appends what is to be done to an [`Effects`]. The caller carries the
//! effects out after it has released the core's lock, except [`Effect::Send`], which it appends to the connection's
//! outbox while it holds the lock: that is what keeps calls in order. `clock` is the time of the event; `check` looks whether
//! the invariants hold, which stand with the tables: `REF-1`, `LEND-1` (objects), `STREAM-1..2`, `TASK-1..4`, `CLASS-1..2`,
//! `ACTOR-1`.

pub(crate) mod actors;
mod check;
mod clock;
mod effects;
pub(crate) mod leases;
pub(crate) mod objects;
mod sparse;
mod step;
mod streams;
pub(crate) mod tasks;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::reference::ProcessAddress;

use effects::Consequence;
pub(crate) use effects::{Effect, Effects, Watcher};
pub(crate) use step::EndedResult;
pub(crate) use streams::StreamNext;
pub(crate) use tasks::{Cancel, CancelError, cancelled_failure};

/// See the [module](self).
pub(crate) struct Core {
    clock: clock::Clock,
    /// How many there were, in builds with assertions.
    events: u32,
    pub(crate) objects: objects::ReferenceTable,
    pub(crate) tasks: tasks::TaskTable,
    pub(crate) leases: leases::ClassTable,
    pub(crate) actors: actors::CalleeTable,
    pub(crate) streams: streams::StreamTable,
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
            clock: clock::Clock::default(),
            events: 0,
            objects: objects::ReferenceTable::new(me),
            tasks: tasks::TaskTable::new(lineage_limit_bytes),
            leases: leases::ClassTable::new(lease_idle),
            actors: actors::CalleeTable::default(),
            streams: streams::StreamTable::default(),
        }
    }

    /// An event is to be handled.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.clock.set(now);
    }

    /// It was handled: passes on what has not been yet.
    pub(crate) fn end(&mut self, effects: &mut Effects) -> StepEnd {
        self.settle(effects);
        self.keep_lineage_bounded(effects);
        if cfg!(debug_assertions) {
            self.check_now_and_then();
        }
        StepEnd {
            tick_wish: self.clock.take_tick_wish(),
            has_shrunk: self.objects.take_shrunk(),
        }
    }

    /// Does what is due at this time. Says when to come again.
    pub(crate) fn tick(&mut self, effects: &mut Effects) -> Option<Duration> {
        let now = self.clock.now();
        let leases = self.leases.tick(&mut self.clock, effects);
        let actors = self.actors.tick(now, effects);
        let others = [
            self.objects.lending_tick(now, effects),
            self.leases.condemned_tick(now, effects),
        ];
        let others = others.into_iter().flatten();
        leases.into_iter().chain(actors).chain(others).min()
    }
}
