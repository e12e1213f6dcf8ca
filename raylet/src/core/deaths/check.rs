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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aktis_common::ids::{NodeId, WorkerId};
    use aktis_proto::v1::ReportWorkerDeathRequest;

    use super::*;

    #[test]
    fn death_that_is_awaited_twice_or_for_nobody_is_seen() {
        let mut table = Obituaries::new(NodeId::NIL, Duration::ZERO);
        let of_actor = ReportWorkerDeathRequest {
            is_ending: true,
            actor_id: vec![1; 16].into(),
            ..ReportWorkerDeathRequest::default()
        };
        table.ending.push((WorkerId::NIL, of_actor.clone()));
        assert_eq!(table.check(), Ok(()));
        table.ending.push((WorkerId::NIL, of_actor));
        assert_eq!(table.check().unwrap_err().label, "DEATH-1");
        table.ending.truncate(1);
        table.ending[0].1.actor_id.clear();
        assert_eq!(table.check().unwrap_err().label, "DEATH-1");
    }
}
