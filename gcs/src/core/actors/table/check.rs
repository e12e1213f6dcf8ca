//! What holds in every state of the table.

use std::collections::BTreeMap;

use aktis_common::checks::Broken;
use aktis_common::holds;

use super::{ActorRecord, ActorTable, DEAD_KEPT};

impl ActorTable {
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        self.check_dead()?;
        self.check_names()?;
        let mut processes = BTreeMap::new();
        for record in self.actors.values() {
            check_restarts(record)?;
            if let Some(worker) = record.phase.worker() {
                let other = processes.insert(worker, record.id);
                holds!(
                    other.is_none(),
                    "ACT-3",
                    "process {worker} is actor {} and actor {other:?}",
                    record.id
                );
            }
        }
        Ok(())
    }

    /// ACT-1 (dead-is-final): the list of the dead is that of all dead actors, each once, and each says why.
    fn check_dead(&self) -> Result<(), Broken> {
        let dead = self.actors.values().filter(|record| record.is_dead());
        let count = dead.count();
        holds!(
            count == self.dead.len() && count <= DEAD_KEPT,
            "ACT-1",
            "{count} actors are dead, {} on the list of the dead",
            self.dead.len()
        );
        for id in &self.dead {
            let record = self.actors.get(id);
            holds!(
                record.is_some_and(|record| record.is_dead() && record.failure.is_some()),
                "ACT-1",
                "on the list of the dead: {record:?}"
            );
        }
        Ok(())
    }

    /// ACT-2 (one-name-one-actor).
    fn check_names(&self) -> Result<(), Broken> {
        let living = self.actors.values().filter(|record| !record.is_dead());
        let mut named = 0;
        for record in living {
            let Some(name) = record.full_name() else {
                continue;
            };
            named += 1;
            let leads_to = self.names.get(&name);
            holds!(
                leads_to == Some(&record.id),
                "ACT-2",
                "{name:?} is actor {}, and leads to {leads_to:?}",
                record.id
            );
        }
        holds!(
            named == self.names.len(),
            "ACT-2",
            "{named} living actors have names, {} names are taken",
            self.names.len()
        );
        Ok(())
    }
}

/// ACT-4 (restarts-are-bounded).
fn check_restarts(record: &ActorRecord) -> Result<(), Broken> {
    let limit = u32::try_from(record.options.max_restarts);
    holds!(
        limit.is_err() || limit.is_ok_and(|limit| record.restarts <= limit),
        "ACT-4",
        "actor {} has begun anew {} times of {limit:?}",
        record.id,
        record.restarts
    );
    Ok(())
}
