//! What holds for objects between two events.

use aktis_common::ids::ObjectId;

use super::{ObjectEntry, ObjectState, ReferenceTable};

impl ReferenceTable {
    /// The broken invariant, if one is.
    pub(in crate::core) fn check(&self) -> Result<(), String> {
        for (id, entry) in &self.entries {
            let is_stored = matches!(entry.state, ObjectState::Stored(_));
            if !entry.is_referenced() && (entry.lineage_pins == 0 || is_stored) {
                return Err(format!("REF-1: nobody holds object {id}, which is kept"));
            }
            if let ObjectState::Stored(stored) = &entry.state
                && stored.nodes.is_empty()
            {
                return Err(format!("REF-1: object {id} is stored nowhere"));
            }
            if entry.state.is_ready() && !entry.watchers.is_empty() {
                return Err(format!(
                    "TASK-1: somebody waits for object {id}, which is ready"
                ));
            }
        }
        let kept: u64 = self.entries.values().filter_map(kept_bytes).sum();
        if kept != self.kept_bytes {
            let counted = self.kept_bytes;
            return Err(format!(
                "TASK-4: {kept} bytes are kept for lineage, not {counted}"
            ));
        }
        let lent = self.entries.values().filter(|entry| entry.is_lent());
        let (lent, counted) = (lent.count(), self.lent);
        if lent != counted {
            return Err(format!("LEND-1: {lent} objects are lent, not {counted}"));
        }
        if !self.lending.agrees_with(lent > 0) {
            return Err(format!("LEND-1: {lent} are lent, and {:?}", self.lending));
        }
        Ok(())
    }

    /// Results that their tasks are kept for.
    pub(in crate::core) fn claims(&self) -> impl Iterator<Item = ObjectId> {
        let claiming = self.entries.iter().filter(|(_, entry)| entry.claims_task());
        claiming.map(|(id, _)| *id)
    }

    /// Handles of this process on an object, and results kept as lineage that need it.
    pub(in crate::core) fn counts(&self, id: ObjectId) -> (u32, u32) {
        let counts = |entry: &ObjectEntry| (entry.handles, entry.lineage_pins);
        self.get(id).map_or((0, 0), counts)
    }
}

/// Of a value that nobody refers to, and that a task takes which may run again.
fn kept_bytes(entry: &ObjectEntry) -> Option<u64> {
    match &entry.state {
        ObjectState::Inline(value) if entry.lineage_pins > 0 && !entry.is_referenced() => {
            Some(value.data_bytes() as u64)
        }
        _ => None,
    }
}
