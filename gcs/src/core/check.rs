//! What holds between the tables of the head.
//!
//! - `GCS-5 (queued-is-waiting)`: exactly the actors without a place wait for one, or until all nodes were heard; and only what
//!   waits, for a place or for an answer, has a reason to.
//! - `GCS-6 (nobody-on-a-dead-node)`: an actor with a place is on a living node, unless its job waits for its driver there.
//! - `GCS-7 (starts-are-answered)`: only an actor that is being started has a start without an answer.

use std::collections::BTreeSet;

use aktis_common::checks::Broken;
use aktis_common::holds;
use aktis_common::ids::ActorId;

use super::GcsCore;
use super::actors::table::{ActorRecord, Phase};

impl GcsCore {
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        self.nodes.check()?;
        self.jobs.check()?;
        self.actors.check()?;
        self.departed.check()?;
        self.check_waiting()?;
        self.check_unanswered()?;
        for record in self.actors.iter().filter(|record| !record.is_dead()) {
            self.check_place(record)?;
            self.check_maker(record)?;
        }
        self.check_keys()
    }

    /// GCS-5 (queued-is-waiting).
    fn check_waiting(&self) -> Result<(), Broken> {
        let waiting: BTreeSet<ActorId> = self.waiting.iter().map(|(actor, _)| *actor).collect();
        holds!(
            waiting.len() == self.waiting.len(),
            "GCS-5",
            "{} actors wait in {} places",
            waiting.len(),
            self.waiting.len()
        );
        for record in self.actors.iter() {
            let id = record.id;
            holds!(
                record.phase != Phase::Queued
                    || waiting.contains(&id)
                    || self.withheld.contains(&id),
                "GCS-5",
                "actor {id} has no place, and does not wait for one"
            );
        }
        holds!(
            self.withheld.is_empty() || self.nodes.has_unheard(),
            "GCS-5",
            "{:?} wait for nodes to be heard, and all were",
            self.withheld
        );
        for actor in &waiting {
            let phase = self.actors.get(*actor).map(|record| record.phase);
            holds!(
                phase == Some(Phase::Queued),
                "GCS-5",
                "actor {actor} waits for a place, and is {phase:?}"
            );
        }
        for (actor, reason) in &self.reasons {
            let phase = self.actors.get(*actor).map(|record| record.phase);
            let is_starting = matches!(phase, Some(Phase::Starting { .. }));
            holds!(
                matches!(phase, Some(Phase::Queued | Phase::Ending { .. }))
                    || is_starting && self.unanswered.contains_key(actor),
                "GCS-5",
                "actor {actor} is {phase:?}, and waits because {reason}"
            );
        }
        Ok(())
    }

    /// GCS-7 (starts-are-answered).
    fn check_unanswered(&self) -> Result<(), Broken> {
        for actor in self.unanswered.keys() {
            let phase = self.actors.get(*actor).map(|record| record.phase);
            holds!(
                matches!(phase, Some(Phase::Starting { .. })),
                "GCS-7",
                "actor {actor} is {phase:?}, and the answer to its start is awaited"
            );
        }
        Ok(())
    }

    /// GCS-6 (nobody-on-a-dead-node).
    fn check_place(&self, record: &ActorRecord) -> Result<(), Broken> {
        let Some(node) = record.phase.node() else {
            return Ok(());
        };
        let may_be_there = self.nodes.living(node).is_some() || self.jobs.is_away(record.job, node);
        holds!(
            may_be_there,
            "GCS-6",
            "actor {} is {:?}, and the node is not among the living",
            record.id,
            record.phase
        );
        Ok(())
    }

    /// ACT-5 (ends-with-its-maker).
    fn check_maker(&self, record: &ActorRecord) -> Result<(), Broken> {
        if record.options.is_detached {
            return Ok(());
        }
        let maker = record.maker().map(|(_, worker)| worker);
        let departure = maker.and_then(|maker| self.departed.get(maker));
        holds!(
            departure.is_none(),
            "ACT-5",
            "actor {} is {:?}, and its maker is gone: {departure:?}",
            record.id,
            record.phase
        );
        holds!(
            !self.jobs.is_over(record.job),
            "ACT-5",
            "actor {} is {:?}, and its job {} is over",
            record.id,
            record.phase,
            record.job
        );
        Ok(())
    }

    /// KV-1 (rows-end-with-their-jobs).
    fn check_keys(&self) -> Result<(), Broken> {
        for job in self.kv.jobs() {
            let is_needed = !self.jobs.is_over(job)
                || self
                    .actors
                    .iter()
                    .any(|record| record.job == job && !record.is_dead());
            holds!(
                is_needed,
                "KV-1",
                "job {job} is over, has no actors, and has keys"
            );
        }
        Ok(())
    }
}
