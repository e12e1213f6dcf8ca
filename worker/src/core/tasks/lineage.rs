//! What is kept of tasks that have ended, and for how long.
//!
//! A task is kept for those of its results that lie in a store, or did and may be made again: they say when that begins and
//! ends ([`Consequence`](crate::core::Consequence)). A generator's items count like results.
//!
//! What it takes stays as well: its own arguments in the record; values that came inline, of this process and of others, in the
//! table of objects, which counts those that nobody else needs. Both together stay within `lineage_bytes`. What lay in a
//! store is made again by the task that made it.

use std::collections::{HashMap, VecDeque};

use aktis_common::ids::{IdBuildHasher, ObjectId, TaskId};

use super::{Dependencies, Place, Target, TaskTable};
use crate::core::Effects;
use crate::core::sparse::shrink_if_sparse;

/// The records that are kept, oldest first.
#[derive(Debug)]
pub(super) struct Lineage {
    /// With some that were dropped since.
    pub(super) tasks: VecDeque<TaskId>,
    pub(super) bytes: u64,
    limit_bytes: u64,
    /// Tasks that were forgotten for want of room, and how many of their results may be missed.
    evicted: HashMap<TaskId, u32, IdBuildHasher>,
}

impl Lineage {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self {
            tasks: VecDeque::new(),
            bytes: 0,
            limit_bytes,
            evicted: HashMap::default(),
        }
    }

    /// A result of a task that was evicted will not be missed.
    fn forget_evicted(&mut self, id: TaskId) {
        if let Some(live_results) = self.evicted.get_mut(&id) {
            *live_results = live_results.saturating_sub(1);
            if *live_results == 0 {
                self.evicted.remove(&id);
            }
        }
    }
}

/// A task that has ended.
pub(in crate::core) struct Retired {
    /// What it does not hold any more.
    pub(in crate::core) dependencies: Dependencies,
    /// It may run again, and pins what it needs.
    pub(in crate::core) is_kept: bool,
    /// Its name, if it ran to make results again.
    pub(in crate::core) rerun: Option<String>,
    /// A result was lost while it ran, and somebody waits for it.
    pub(in crate::core) is_missed: bool,
}

/// Whether a lost result is made again.
pub(in crate::core) enum Remake {
    /// Its task is under way, and may make it; if it does not, it runs again after its end.
    UnderWay,
    /// Its task is queued again. It holds what it needs itself, instead of pinning it.
    Again {
        dependencies: Dependencies,
        num_returns: u32,
    },
    Impossible(String),
}

impl TaskTable {
    /// A result lies in a store: its task is kept as long as somebody may miss it.
    pub(in crate::core) fn result_stored(&mut self, object: ObjectId) {
        if let Some(record) = self.records.get_mut(&object.task()) {
            record.live_results += 1;
        }
    }

    /// The task has ended (`TASK-1`): keeps it as lineage if a result lies in a store, else forgets it. `None`: it has ended
    /// before.
    pub(in crate::core) fn retire(&mut self, id: TaskId, effects: &mut Effects) -> Option<Retired> {
        let record = self.records.get_mut(&id)?;
        if record.place == Place::Lineage {
            return None;
        }
        let rerun = record.is_rerun.then(|| record.name());
        let is_missed = std::mem::take(&mut record.is_missed);
        self.queued_bytes -= record.args_bytes();
        let is_kept = record.live_results > 0 && matches!(record.template.target, Target::Class(_));
        let dependencies = if is_kept {
            record.place = Place::Lineage;
            self.lineage.bytes += record.lineage_bytes();
            self.lineage.tasks.push_back(id);
            record.dependencies.clone()
        } else {
            let record = self.records.remove(&id)?;
            effects.discard_value(record.args);
            shrink_if_sparse(&mut self.records, &mut self.peak);
            record.dependencies
        };
        Some(Retired {
            dependencies,
            is_kept,
            rerun,
            is_missed,
        })
    }

    /// Forgets the oldest task that is kept, if they take too much, with `values_bytes` of others that are kept for them. Returns
    /// what it pinned.
    pub(in crate::core) fn evict(
        &mut self,
        values_bytes: u64,
        effects: &mut Effects,
    ) -> Option<Dependencies> {
        while self.lineage.bytes + values_bytes > self.lineage.limit_bytes {
            let oldest = self.lineage.tasks.pop_front()?;
            let live_results = self.records.get(&oldest).map(|record| record.live_results);
            if let Some(pinned) = self.drop_lineage(oldest, effects) {
                let live_results = live_results.unwrap_or_default();
                self.lineage.evicted.insert(oldest, live_results);
                return Some(pinned);
            }
        }
        // Records that were dropped leave their ids behind; sweep them when they are the majority.
        let (kept, records) = (&mut self.lineage.tasks, &self.records);
        if kept.len() > 1024 && kept.len() > 2 * records.len() {
            kept.retain(|id| {
                let record = records.get(id);
                record.is_some_and(|record| record.place == Place::Lineage)
            });
        }
        None
    }

    /// A result that lay in a store will not be made again. With the last one the task is forgotten (`TASK-4`): returns what it
    /// pinned.
    pub(in crate::core) fn forget_result(
        &mut self,
        object: ObjectId,
        effects: &mut Effects,
    ) -> Option<Dependencies> {
        let id = object.task();
        let Some(record) = self.records.get_mut(&id) else {
            self.lineage.forget_evicted(id);
            return None;
        };
        record.live_results = record.live_results.saturating_sub(1);
        if record.live_results > 0 {
            return None;
        }
        self.drop_lineage(id, effects)
    }

    /// Forgets how to recompute the task's results. `None`: it was forgotten before, or runs.
    fn drop_lineage(&mut self, id: TaskId, effects: &mut Effects) -> Option<Dependencies> {
        if self.place(id) != Some(Place::Lineage) {
            return None;
        }
        let record = self.records.remove(&id)?;
        self.lineage.bytes -= record.lineage_bytes();
        effects.discard_value(record.args);
        Some(record.dependencies)
    }

    /// All copies of a result are gone: runs its task again, or says why that is impossible.
    pub(in crate::core) fn remake(&mut self, object: ObjectId) -> Remake {
        let id = object.task();
        let Some(record) = self.records.get_mut(&id) else {
            return Remake::Impossible(self.why_forgotten(id));
        };
        if record.place != Place::Lineage {
            record.is_missed = true;
            return Remake::UnderWay;
        }
        if !record.take_retry() {
            let name = record.name();
            return Remake::Impossible(format!(
                "task {name} has no retries left; raise max_retries"
            ));
        }
        record.place = Place::Queued;
        record.is_rerun = true;
        self.lineage.bytes -= record.lineage_bytes();
        self.queued_bytes += record.args_bytes();
        Remake::Again {
            dependencies: record.dependencies.clone(),
            num_returns: record.template.shared.num_returns,
        }
    }

    fn why_forgotten(&self, id: TaskId) -> String {
        let limit_bytes = self.lineage.limit_bytes;
        if self.cancelled.contains(&id) {
            "TASK_CANCELLED: the task that made it was cancelled".to_owned()
        } else if self.lineage.evicted.contains_key(&id) {
            format!(
                "the lineage of its task was evicted, with what the task takes, to stay within {limit_bytes} bytes; raise \
                 AKTIS_LINEAGE_BYTES"
            )
        } else {
            "it was made by put() or by an actor, which cannot be run again; compute it in a task instead"
                .to_owned()
        }
    }
}
