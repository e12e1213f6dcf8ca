//! What holds between two events, within each table and between them.
//!
//! Tests look after each event, other builds with assertions now and then: looking takes a step per entry.

use aktis_common::ids::TaskId;
use rustc_hash::FxHashSet;

use super::Core;
use super::tasks::{Place, Target};

/// After how many events it is looked.
const LOOK_AFTER: u32 = if cfg!(test) { 1 } else { 4096 };

impl Core {
    /// Panics if an invariant is broken.
    pub(super) fn check_now_and_then(&mut self) {
        self.events = self.events.wrapping_add(1);
        if !self.events.is_multiple_of(LOOK_AFTER) {
            return;
        }
        if let Err(broken) = self.check() {
            panic!("{broken}");
        }
    }

    /// The first invariant that is broken, if one is.
    pub(super) fn check(&self) -> Result<(), String> {
        self.objects.check()?;
        self.streams.check()?;
        self.tasks.check()?;
        self.tasks.check_arguments(&self.objects)?;
        self.tasks.check_results(&self.objects)?;
        self.leases.check()?;
        self.actors.check(&self.tasks)?;
        self.check_places()
    }

    /// Every task that has not ended is known to who is to run it (`CLASS-1`).
    fn check_places(&self) -> Result<(), String> {
        let queued: FxHashSet<TaskId> = self.leases.queued().collect();
        let called: FxHashSet<TaskId> = self.actors.waiting().collect();
        for (task, target) in self.tasks.waiting() {
            let is_known = match target {
                Target::Class(_) => queued.contains(&task),
                Target::Actor(_) => called.contains(&task),
            };
            if !is_known {
                return Err(format!("CLASS-1: task {task} is in no queue"));
            }
        }
        for (connection, task) in self.leases.in_flight() {
            let place = self.tasks.place(task);
            if place.is_some_and(|place| place != Place::Pushed(connection)) {
                return Err(format!(
                    "CLASS-1: task {task} was pushed to {connection:?}, and is {place:?}"
                ));
            }
        }
        Ok(())
    }
}
