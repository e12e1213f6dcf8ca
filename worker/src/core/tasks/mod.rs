//! Tasks that this process submitted: their arguments, attempts and ends, and what is kept of them as lineage.
//!
//! ```text
//!  Queued ──────────► Pushed ──► ended: forgotten, or Lineage
//!    ▲                  │                               │
//!    └── retry, given back ◄── runs again for lost results
//! ```
//! ```text
//!  record     one task
//!  frames     what is sent of it
//!  templates  what a callee knows of the functions that are called there
//!  lineage    tasks that have ended and whose results may have to be made again
//!  cancel     tasks that are not to be run again
//! ```
//! - `TASK-1 (one-end)`: every submitted task ends exactly once for its results: with values or with a failure.
//! - `TASK-2 (retries-bounded)`: a task is attempted at most `1 + max_retries` times after system failures.
//! - `TASK-3 (cancelled-for-good)`: a cancelled task is never pushed again.
//! - `TASK-4 (kept-for-results)`: a task that has ended is kept no longer than a result may have to be made again.

mod cancel;
mod check;
mod frames;
mod lineage;
mod record;
pub(crate) mod templates;

use std::collections::{HashMap, VecDeque};

use aktis_common::ids::{IdBuildHasher, ObjectId, TaskId};

use self::lineage::Lineage;
use super::objects::ReferenceTable;

pub(in crate::core) use self::cancel::CancelledAt;
pub(crate) use self::cancel::{Cancel, CancelError, cancelled_failure};
pub(crate) use self::frames::INLINED_BYTES;
pub(in crate::core) use self::frames::NotReady;
pub(in crate::core) use self::lineage::Remake;
pub(crate) use self::record::{CallTemplate, Target, TaskRecord, call_name};
pub(in crate::core) use self::record::{Dependencies, Place};

/// All tasks that are not ended, and lineage.
pub(crate) struct TaskTable {
    records: HashMap<TaskId, TaskRecord, IdBuildHasher>,
    /// Bytes of arguments of the tasks that are not ended.
    queued_bytes: u64,
    /// Most records at once since the table was shrunk.
    peak: usize,
    lineage: Lineage,
    /// The tasks that were cancelled last, to explain why their results cannot be made again.
    cancelled: VecDeque<TaskId>,
}

/// Whether a task is attempted once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::core) enum Retry {
    /// It is queued again.
    Again(Target),
    NoneLeft,
}

impl TaskTable {
    pub(super) fn new(lineage_limit_bytes: u64) -> Self {
        Self {
            records: HashMap::default(),
            queued_bytes: 0,
            peak: 0,
            lineage: Lineage::new(lineage_limit_bytes),
            cancelled: VecDeque::new(),
        }
    }

    /// Bytes of arguments of the tasks that are not ended.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// A new task. Handles on its arguments are counted.
    pub(super) fn insert(&mut self, record: TaskRecord) {
        self.queued_bytes += record.args_bytes();
        self.records.insert(record.id, record);
    }

    pub(super) fn target(&self, id: TaskId) -> Option<Target> {
        Some(self.records.get(&id)?.template.target)
    }

    /// The function or "Class.method", for people.
    pub(super) fn name(&self, id: TaskId) -> Option<String> {
        Some(self.records.get(&id)?.name())
    }

    pub(super) fn place(&self, id: TaskId) -> Option<Place> {
        Some(self.records.get(&id)?.place)
    }

    /// Its position among the calls of its actor.
    pub(super) fn sequence(&self, id: TaskId) -> Option<u64> {
        Some(self.records.get(&id)?.sequence)
    }

    /// The concurrency group of a call.
    pub(super) fn group(&self, id: TaskId) -> Option<&str> {
        Some(self.records.get(&id)?.group())
    }

    /// Attempts that it had to begin with, besides the first.
    pub(super) fn retries_given(&self, id: TaskId) -> Option<i32> {
        Some(self.records.get(&id)?.template.retries)
    }

    /// It waits, and is to be run.
    pub(super) fn is_queued(&self, id: TaskId) -> bool {
        let record = self.records.get(&id);
        record.is_some_and(|record| record.place == Place::Queued && !record.is_cancelled)
    }

    /// Nothing is missing to send it; a task that has ended misses nothing.
    pub(super) fn has_arguments(&self, id: TaskId) -> bool {
        let record = self.records.get(&id);
        record.is_none_or(|record| record.unresolved == 0)
    }

    /// Whether any task has not ended.
    pub(super) fn has_pending(&self) -> bool {
        let mut records = self.records.values();
        records.any(|record| record.place != Place::Lineage)
    }

    /// Whether a task that was sent has references inside of its arguments.
    pub(super) fn have_taken_references(&self) -> bool {
        let mut records = self.records.values();
        records.any(|record| {
            matches!(record.place, Place::Pushed(_)) && !record.args.contained.is_empty()
        })
    }

    /// Tasks that have not ended.
    pub(super) fn pending(&self) -> Vec<TaskId> {
        let records = self.records.values();
        records
            .filter(|record| record.place != Place::Lineage)
            .map(|record| record.id)
            .collect()
    }

    /// The task waits for those of its arguments that are not ready: it is to be told when they are.
    pub(super) fn await_arguments(
        &mut self,
        id: TaskId,
        objects: &ReferenceTable,
    ) -> Option<Vec<ObjectId>> {
        let record = self.records.get_mut(&id)?;
        let given = record.dependencies.iter().map(|(object, _)| *object);
        let missing: Vec<ObjectId> = given.filter(|object| !objects.is_ready(*object)).collect();
        record.unresolved = u32::try_from(missing.len()).expect("dependencies fit a frame");
        Some(missing)
    }

    /// An argument that the task waits for is there. True: it was the last one.
    pub(super) fn argument_ready(&mut self, id: TaskId) -> bool {
        let Some(record) = self.records.get_mut(&id) else {
            return false;
        };
        record.unresolved = record.unresolved.saturating_sub(1);
        record.unresolved == 0
    }

    /// How many results it has at least, and whether it ran before: then others may be waited for. `None`: it has ended.
    pub(super) fn results(&self, id: TaskId) -> Option<(u32, bool)> {
        let record = self.records.get(&id);
        let record = record.filter(|record| record.place != Place::Lineage)?;
        Some((record.template.shared.num_returns.max(1), record.is_rerun))
    }

    /// The attempt has failed (`TASK-2`). `None`: it is not known any more.
    pub(super) fn retry(&mut self, id: TaskId) -> Option<Retry> {
        let record = self.records.get_mut(&id)?;
        if !record.take_retry() {
            return Some(Retry::NoneLeft);
        }
        record.place = Place::Queued;
        Some(Retry::Again(record.template.target))
    }

    /// The callee gives it back and has not begun. False: it was not there.
    pub(super) fn given_back(&mut self, id: TaskId) -> bool {
        let record = self.records.get_mut(&id);
        let Some(record) = record.filter(|record| matches!(record.place, Place::Pushed(_))) else {
            return false;
        };
        record.place = Place::Queued;
        true
    }

    #[cfg(test)]
    pub(super) fn ids(&self) -> impl Iterator<Item = TaskId> {
        self.records.keys().copied()
    }

    #[cfg(test)]
    pub(super) fn template(&self, id: TaskId) -> &std::sync::Arc<CallTemplate> {
        &self.records[&id].template
    }
}
