//! What an object waits for: for the error of whoever waited in vain, and for who looks at what runs.

use aktis_common::ids::{ObjectId, TaskId};

use crate::core::Core;
use crate::core::tasks::{Place, Target};

/// Where a task is that is ready to run.
const FOR_A_WORKER: &str = "waits for a worker";

impl Core {
    /// What is still to happen before the object is ready; `None` if this process does not know.
    pub(crate) fn waits_for(&self, object: ObjectId) -> Option<String> {
        if self.objects.get(object)?.owner().is_some() {
            return Some(
                "another process owns it, and still makes it or does not answer".to_owned(),
            );
        }
        let (name, stage) = self.stage_of(object.task())?;
        let hint = match stage {
            FOR_A_WORKER => "; `aktis status` says what is free and what others wait for",
            _ => "",
        };
        Some(format!("{name} {stage}{hint}"))
    }

    /// What an own task is called, and what it waits for; `None` if this process does not know.
    pub(crate) fn stage_of(&self, task: TaskId) -> Option<(String, &'static str)> {
        let (name, target) = (self.tasks.name(task)?, self.tasks.target(task)?);
        let stage = match (self.tasks.place(task)?, target) {
            (Place::Lineage, _) => return None,
            (Place::Queued, _) if !self.tasks.has_arguments(task) => "waits for its arguments",
            (Place::Queued, Target::Class(_)) => FOR_A_WORKER,
            (Place::Queued, Target::Actor(actor)) => self.actors.waits_for(actor),
            (Place::Pushed(_), Target::Class(_)) => "was sent to a worker, and has not ended",
            (Place::Pushed(_), Target::Actor(_)) => "was sent to its actor, and has not ended",
        };
        Some((name, stage))
    }
}
