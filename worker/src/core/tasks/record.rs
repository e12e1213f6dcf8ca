//! One task.

use std::sync::Arc;

use aktis_common::ids::{ActorId, ObjectId, TaskId};
use aktis_proto::v1 as wire;

use crate::core::leases::ClassId;
use crate::reference::ProcessAddress;
use crate::value::Value;
use aktis_lane::ConnectionId;

/// Bytes a record costs besides its arguments, for the lineage budget.
const RECORD_BYTES: u64 = 500;

/// Who runs a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Class(ClassId),
    Actor(ActorId),
}

/// What all calls of one function or method by this process have in common.
#[derive(Debug)]
pub(crate) struct CallTemplate {
    /// As the callee is told, but for the slot.
    pub(crate) shared: wire::CallTemplate,
    pub(crate) target: Target,
    /// The concurrency group of an actor's method; empty: the default one.
    pub(crate) group: String,
    /// Attempts left after system failures; -1 is without end.
    pub(crate) retries: i32,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::core) enum Place {
    /// Waits for dependencies, or in a queue.
    Queued,
    Pushed(ConnectionId),
    /// Ended; kept to be run again if a result is lost.
    Lineage,
}

/// What a task is given: objects and their owners.
pub(in crate::core) type Dependencies = Vec<(ObjectId, ProcessAddress)>;

/// One task.
pub(crate) struct TaskRecord {
    pub(super) id: TaskId,
    pub(super) template: Arc<CallTemplate>,
    pub(super) args: Value,
    /// Top-level references, each counted as a handle while the task is not ended.
    pub(super) dependencies: Dependencies,
    pub(super) unresolved: u32,
    pub(super) place: Place,
    pub(super) retries_left: i32,
    /// Position of an actor call in this process's sequence.
    pub(super) sequence: u64,
    /// Results that it is kept for when it has ended: see `lineage`.
    pub(super) live_results: u32,
    /// It has ended before, and runs to make results again that were lost.
    pub(super) is_rerun: bool,
    /// Somebody asked for a result that was lost while it runs: a generator does not go back to an item.
    pub(super) is_missed: bool,
    /// The task of this process that submitted it, if one did.
    pub(super) parent: Option<TaskId>,
    /// It is not to be run again, whatever becomes of it.
    pub(super) is_cancelled: bool,
}

impl TaskRecord {
    pub(crate) fn new(
        id: TaskId,
        template: Arc<CallTemplate>,
        args: Value,
        dependencies: Dependencies,
    ) -> Self {
        Self {
            id,
            retries_left: template.retries,
            template,
            args,
            dependencies,
            unresolved: 0,
            place: Place::Queued,
            sequence: 0,
            live_results: 0,
            is_rerun: false,
            is_missed: false,
            parent: None,
            is_cancelled: false,
        }
    }

    /// The task of this process that submits it.
    pub(crate) fn child_of(mut self, parent: Option<TaskId>) -> Self {
        self.parent = parent;
        self
    }

    /// Its position among the calls of its actor.
    pub(crate) fn set_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    pub(in crate::core) fn id(&self) -> TaskId {
        self.id
    }

    pub(in crate::core) fn group(&self) -> &str {
        &self.template.group
    }

    pub(in crate::core) fn dependencies(&self) -> &[(ObjectId, ProcessAddress)] {
        &self.dependencies
    }

    pub(super) fn args_bytes(&self) -> u64 {
        self.args.data_bytes() as u64
    }

    pub(super) fn lineage_bytes(&self) -> u64 {
        RECORD_BYTES + self.args_bytes()
    }

    /// Uses up one attempt. False: none is left.
    pub(super) fn take_retry(&mut self) -> bool {
        match self.retries_left {
            0 => return false,
            -1 => {}
            _ => self.retries_left -= 1,
        }
        true
    }

    pub(super) fn name(&self) -> String {
        call_name(&self.template.shared)
    }
}

/// The function or "Class.method", for messages.
pub(crate) fn call_name(template: &wire::CallTemplate) -> String {
    let function = template.function.as_ref();
    let function = function.map_or("", |function| function.name.as_str());
    if !template.name.is_empty() {
        template.name.clone()
    } else if template.method.is_empty() {
        function.to_owned()
    } else {
        format!("{function}.{}", template.method)
    }
}
