//! What an object waits for, for the error of whoever waited in vain.

use aktis_common::ids::ObjectId;

use crate::core::Core;
use crate::core::tasks::{Place, Target};

impl Core {
    /// What is still to happen before the object is ready; `None` if this process does not know.
    pub(crate) fn waits_for(&self, object: ObjectId) -> Option<String> {
        if self.objects.get(object)?.owner().is_some() {
            return Some(
                "another process owns it, and still makes it or does not answer".to_owned(),
            );
        }
        let task = object.task();
        let (name, target) = (self.tasks.name(task)?, self.tasks.target(task)?);
        let what = match (self.tasks.place(task)?, target) {
            (Place::Lineage, _) => return None,
            (Place::Queued, _) if !self.tasks.has_arguments(task) => "waits for its arguments",
            (Place::Queued, Target::Class(_)) => {
                "waits for a worker; `aktis status` says what is free and what others wait for"
            }
            (Place::Queued, Target::Actor(actor)) => self.actors.waits_for(actor),
            (Place::Pushed(_), Target::Class(_)) => "was sent to a worker, and has not ended",
            (Place::Pushed(_), Target::Actor(_)) => "was sent to its actor, and has not ended",
        };
        Some(format!("{name} {what}"))
    }
}
