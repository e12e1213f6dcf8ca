//! What holds for tasks between two events.

use aktis_common::ids::{ObjectId, TaskId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Place, Target, TaskTable};
use crate::core::objects::ReferenceTable;

impl TaskTable {
    /// The broken invariant, if one is.
    pub(in crate::core) fn check(&self) -> Result<(), String> {
        let kept: FxHashSet<TaskId> = self.lineage.tasks.iter().copied().collect();
        let (mut queued_bytes, mut lineage_bytes) = (0, 0);
        for (id, record) in &self.records {
            match record.place {
                Place::Lineage if !kept.contains(id) => {
                    return Err(format!("TASK-1: task {id} has ended, and never goes"));
                }
                Place::Lineage => lineage_bytes += record.lineage_bytes(),
                Place::Queued if record.is_cancelled => {
                    return Err(format!("TASK-3: task {id} was cancelled, and is to be run"));
                }
                Place::Pushed(_) if record.unresolved > 0 => {
                    return Err(format!("TASK-1: task {id} was sent without arguments"));
                }
                Place::Queued | Place::Pushed(_) => queued_bytes += record.args_bytes(),
            }
            let (left, given) = (record.retries_left, record.template.retries);
            if given >= 0 && !(0..=given).contains(&left) {
                return Err(format!(
                    "TASK-2: {left} of {given} retries of task {id} are left"
                ));
            }
        }
        let counted = (self.queued_bytes, self.lineage.bytes);
        if counted != (queued_bytes, lineage_bytes) {
            return Err(format!(
                "TASK-1: {queued_bytes} bytes wait and {lineage_bytes} are kept, not {counted:?}"
            ));
        }
        Ok(())
    }

    /// Whether objects know how often tasks hold and pin them (`REF-1`).
    pub(in crate::core) fn check_arguments(&self, objects: &ReferenceTable) -> Result<(), String> {
        let mut counts: FxHashMap<ObjectId, (u32, u32)> = FxHashMap::default();
        for record in self.records.values() {
            for (object, _) in &record.dependencies {
                let (held, pinned) = counts.entry(*object).or_default();
                match record.place {
                    Place::Lineage => *pinned += 1,
                    Place::Queued | Place::Pushed(_) => *held += 1,
                }
            }
        }
        for (object, (held, pinned)) in counts {
            let (handles, pins) = objects.counts(object);
            if held > handles || pinned != pins {
                return Err(format!(
                    "REF-1: tasks hold object {object} {held} times and pin it {pinned} times, not {handles} and {pins}"
                ));
            }
        }
        Ok(())
    }

    /// Whether tasks know how many results they are kept for, and are not kept for none (`TASK-4`).
    pub(in crate::core) fn check_results(&self, objects: &ReferenceTable) -> Result<(), String> {
        let mut claims: FxHashMap<TaskId, u32> = FxHashMap::default();
        for object in objects.claims() {
            *claims.entry(object.task()).or_default() += 1;
        }
        for (id, record) in &self.records {
            let (live, claims) = (record.live_results, claims.get(id).copied().unwrap_or(0));
            if live != claims || (live == 0 && record.place == Place::Lineage) {
                let place = record.place;
                return Err(format!(
                    "TASK-4: task {id}, which is {place:?}, is kept for {live} results, not {claims}"
                ));
            }
        }
        Ok(())
    }

    /// Tasks with all their arguments that wait for somebody to run them.
    pub(in crate::core) fn waiting(&self) -> impl Iterator<Item = (TaskId, Target)> {
        let is_waiting =
            |record: &&super::TaskRecord| record.place == Place::Queued && record.unresolved == 0;
        let waiting = self.records.values().filter(is_waiting);
        waiting.map(|record| (record.id, record.template.target))
    }
}
