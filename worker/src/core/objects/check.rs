//! What holds for objects between two events.

use aktis_common::ids::ObjectId;

use super::{ObjectEntry, ObjectState, ObjectTable};

impl ObjectTable {
    /// The broken invariant, if one is.
    pub(in crate::core) fn check(&self) -> Result<(), String> {
        for (id, entry) in &self.entries {
            let has_value = matches!(entry.state, ObjectState::Inline(_) | ObjectState::Stored(_));
            if !entry.is_referenced() && (entry.lineage_pins == 0 || has_value) {
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
