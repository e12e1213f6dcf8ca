//! What holds in every state of the table.

use aktis_common::checks::Broken;
use aktis_common::holds;
use rustc_hash::FxHashSet;

use super::Obituaries;

impl Obituaries {
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        let mut dead = FxHashSet::default();
        let waiting = self.waiting.iter().map(|obituary| obituary.worker);
        for worker in waiting.chain(self.ending.iter().map(|(worker, _)| *worker)) {
            holds!(
                dead.insert(worker),
                "DEATH-1",
                "the death of {worker} is awaited twice: {self:?}"
            );
        }
        for (worker, report) in &self.ending {
            // Only an actor begins anew.
            holds!(
                report.is_ending && !report.actor_id.is_empty(),
                "DEATH-1",
                "the end of {worker} is awaited for nobody: {report:?}"
            );
        }
        Ok(())
    }
}
