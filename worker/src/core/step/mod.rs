//! One thin step: what has happened goes to the table that it concerns, and what follows goes on to the others.
//!
//! ```text
//!            ArgumentReady, Result…, Missed                    runnable
//!  objects ─────────────────────────────────────────► tasks ────────────► leases, actors
//!     ▲                                                 ▲                       │
//!     └── values, failures, handles given back ─────────┴── results, ends, ─────┘
//!                                                           tasks given back
//! ```
//! No decision is made here about a single object, task, lease or actor: each table decides on its own, and says what
//! concerns others.
//!
//! ```text
//!  submit   tasks wait for their arguments, and are sent
//!  ends     how tasks end
//!  objects  what becomes of objects
//!  lineage  making results again, and forgetting how
//!  cancel   cancelling tasks
//!  workers  tasks of a class and leased workers
//!  calls    calls of actors
//!  streams  items of generators
//! ```

mod calls;
mod cancel;
mod ends;
mod lineage;
mod objects;
mod streams;
mod submit;
mod waits;
mod workers;

use super::tasks::Target;
use super::{Consequence, Core, Effects};

pub(crate) use ends::EndedResult;

impl Core {
    /// Passes on what the last change of an object means for tasks. Nothing else happens in between.
    fn pass_on(&mut self, effects: &mut Effects) {
        loop {
            let following = effects.take_following();
            if following.is_empty() {
                return;
            }
            for consequence in following {
                match consequence {
                    Consequence::ArgumentReady(task) => {
                        if self.tasks.argument_ready(task) {
                            effects.runnable.push(task);
                        }
                    }
                    Consequence::ResultStored(object) => self.tasks.result_stored(object),
                    Consequence::ResultForgotten(object) => self.forget_result(object, effects),
                    Consequence::Missed(object) => self.reconstruct(object, effects),
                }
            }
        }
    }

    /// Puts runnable tasks where they are sent from.
    pub(crate) fn settle(&mut self, effects: &mut Effects) {
        self.pass_on(effects);
        while let Some(id) = effects.runnable.pop() {
            match self.tasks.target(id) {
                Some(Target::Class(class)) => {
                    self.leases.enqueue(class, id);
                    self.pump(class, effects);
                }
                Some(Target::Actor(actor)) => self.pump_actor(actor, effects),
                None => {}
            }
        }
    }
}
