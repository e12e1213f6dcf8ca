//! Tasks wait for their arguments, and are sent.

use aktis_common::ids::{ActorId, TaskId};

use crate::core::tasks::{NotReady, TaskRecord};
use crate::core::{Core, Effects, Watcher};

impl Core {
    /// Takes a new task. Its results must have been counted by the caller already.
    pub(crate) fn submit(&mut self, record: TaskRecord, effects: &mut Effects) {
        let id = record.id();
        for (dependency, owner) in record.dependencies() {
            self.objects.count_handle(*dependency, *owner, false);
        }
        self.tasks.insert(record);
        self.resolve_dependencies(id, effects);
        self.settle(effects);
    }

    /// Takes a new call, in order.
    pub(crate) fn submit_call(
        &mut self,
        actor: ActorId,
        record: TaskRecord,
        effects: &mut Effects,
    ) {
        let (call, group) = (record.id(), record.group());
        self.actors.add_call(actor, call, group, effects);
        self.submit(record, effects);
    }

    /// Watches the dependencies that are not ready; makes the task runnable when none is missing.
    pub(super) fn resolve_dependencies(&mut self, id: TaskId, effects: &mut Effects) {
        let Some(missing) = self.tasks.await_arguments(id, &self.objects) else {
            return;
        };
        if missing.is_empty() {
            effects.runnable.push(id);
        }
        for object in missing {
            self.watch(object, Watcher::Task(id), effects);
        }
    }

    /// The task that was to be sent does not leave.
    pub(super) fn hold_back(&mut self, id: TaskId, why: NotReady, effects: &mut Effects) {
        match why {
            NotReady::ArgumentLost => self.resolve_dependencies(id, effects),
            NotReady::ArgumentFailed(failure) => self.fail_task(id, failure, effects),
            NotReady::Ended => {}
        }
    }
}
