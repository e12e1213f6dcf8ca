//! Actors that cannot be reached, although the gcs has not said that they are dead or restarted.
//!
//! Mostly their process has ended, and the news is on its way. But a lane can also fail by itself while the actor lives on (no
//! memory, no descriptor), and then no news comes. So the raylet is asked, every [`ASK_EVERY`], until it has news or a lane is
//! open again. The pause is there for a process that is just dying: as long as the raylet takes it for alive, each new lane
//! would cost the waiting calls a retry.

use std::time::{Duration, Instant};

use aktis_common::ids::ActorId;
use rustc_hash::FxHashMap;

/// Longer than the news of a death takes.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// The actors that are asked about, and when the next time.
#[derive(Debug, Default)]
pub(super) struct AwayActors(FxHashMap<ActorId, Instant>);

impl AwayActors {
    /// Says when `Core::tick` is to be called.
    pub(super) fn add(&mut self, actor: ActorId, now: Instant) -> Instant {
        let ask_at = now + ASK_EVERY;
        self.0.insert(actor, ask_at);
        ask_at
    }

    /// There is news of it.
    pub(super) fn remove(&mut self, actor: ActorId) {
        self.0.remove(&actor);
    }

    /// Those to be asked about now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<ActorId> {
        let due = self.0.iter_mut().filter(|(_, ask_at)| **ask_at <= now);
        due.map(|(actor, ask_at)| {
            *ask_at = now + ASK_EVERY;
            *actor
        })
        .collect()
    }

    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        let left = |ask_at: &Instant| ask_at.saturating_duration_since(now);
        self.0.values().map(left).min()
    }
}
