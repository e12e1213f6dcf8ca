//! What holds in every state of the table.

use aktis_common::checks::Broken;
use aktis_common::holds;
use rustc_hash::FxHashSet;

use super::{ActorHosting, Waiting};

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
        for (call, Waiting { actor, .. }) in &self.waiting {
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use aktis_common::ids::{ActorId, NodeId, WorkerId};

    use super::*;
    use crate::core::hosting::Hosted;
    use crate::core::keys::CallId;

    const ACTOR: ActorId = ActorId::new([3; 16]);
    const WORKER: Hosted = Hosted {
        worker: WorkerId::new([4; 16]),
        pid: 1,
        restarts: 0,
    };

    fn table() -> ActorHosting {
        let mut table = ActorHosting::new(NodeId::NIL, Duration::ZERO, Duration::ZERO);
        table.hosted.insert(ACTOR, WORKER);
        assert_eq!(table.check(), Ok(()));
        table
    }

    fn waiting() -> Waiting {
        let now = Instant::now();
        Waiting {
            actor: ACTOR,
            until: now,
            at_most: now,
        }
    }

    #[test]
    fn worker_that_is_two_actors_is_seen() {
        let mut table = table();
        table.hosted.insert(ActorId::new([5; 16]), WORKER);
        assert_eq!(table.check().unwrap_err().label, "HOST-1");
    }

    #[test]
    fn actor_that_is_here_and_waits_to_be_is_seen() {
        let mut table = table();
        table.waiting.insert(CallId(1), waiting());
        assert_eq!(table.check().unwrap_err().label, "HOST-2");
    }

    #[test]
    fn actor_that_waits_twice_is_seen() {
        let mut table = table();
        table.hosted.clear();
        for call in [CallId(1), CallId(2)] {
            table.waiting.insert(call, waiting());
        }
        assert_eq!(table.check().unwrap_err().label, "HOST-2");
    }
}
