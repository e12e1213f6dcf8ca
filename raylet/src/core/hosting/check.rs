//! What holds in every state of the table.

use aktis_common::checks::Broken;
use aktis_common::holds;
use rustc_hash::FxHashSet;

use super::ActorHosting;

impl ActorHosting {
    /// # Errors
    /// Which invariant does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        let mut workers = FxHashSet::default();
        for (actor, hosted) in &self.hosted {
            holds!(
                workers.insert(hosted.worker),
                "HOST-1",
                "actor {actor} is {hosted:?}, which is another one too"
            );
        }
        let mut waiting = FxHashSet::default();
        for (call, (actor, _)) in &self.waiting {
            holds!(
                waiting.insert(*actor),
                "HOST-2",
                "actor {actor} waits in call {call} and in another one"
            );
            let hosted = self.hosted.get(actor);
            holds!(
                hosted.is_none(),
                "HOST-2",
                "actor {actor} is {hosted:?}, and waits in call {call}"
            );
        }
        Ok(())
    }
}
