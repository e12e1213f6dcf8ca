//! The one way to the core's state.
//!
//! ```text
//!  look       reads
//!  note       a change of which nothing follows: nobody waits for it, nothing is to be sent
//!  with_core  an event: it has a time, and what follows from it is carried out
//! ```

use std::time::{Duration, Instant};

use aktis_lane::Connection;
use parking_lot::Mutex;

use super::Runtime;
use crate::core::{Core, Effects};

/// From when a table has shrunk until freed memory is given back.
const TRIM_AFTER: Duration = Duration::from_millis(100);

/// The core behind its lock. Values and references must not be dropped inside: they come here, too.
pub(super) struct CoreGate(Mutex<Core>);

impl CoreGate {
    pub(super) fn new(core: Core) -> Self {
        Self(Mutex::new(core))
    }

    pub(super) fn look<R>(&self, look: impl FnOnce(&Core) -> R) -> R {
        look(&self.0.lock())
    }

    pub(super) fn note<R>(&self, change: impl FnOnce(&mut Core) -> R) -> R {
        change(&mut self.0.lock())
    }
}

impl Runtime {
    /// Runs `event` on the core and carries out its effects.
    pub(super) fn with_core<R>(&self, event: impl FnOnce(&mut Core, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let (result, due, end) = {
            let mut core = self.0.core.0.lock();
            core.begin(Instant::now());
            let result = event(&mut core, &mut effects);
            let end = core.end(&mut effects);
            // While the core is locked, so that frames lie in the outboxes in the order of events (ACTOR-1).
            (result, self.enqueue_sends(&mut effects), end)
        };
        if end.has_shrunk {
            *self.0.trim_at.lock() = Some(Instant::now() + TRIM_AFTER);
        }
        let trim = end.has_shrunk.then_some(TRIM_AFTER);
        if let Some(delay) = end.tick_wish.into_iter().chain(trim).min() {
            self.reactor().call_lane(delay);
        }
        due.iter().for_each(Connection::flush);
        for effect in std::mem::take(&mut effects.list) {
            self.carry_out(effect);
        }
        for callback in std::mem::take(&mut effects.callbacks) {
            callback();
        }
        result
    }

    /// Gives freed memory back to the system if it is time. Says when it will be.
    pub(super) fn trim_if_due(&self, now: Instant) -> Option<Duration> {
        let mut trim_at = self.0.trim_at.lock();
        let left = trim_at.as_ref()?.saturating_duration_since(now);
        if !left.is_zero() {
            return Some(left);
        }
        *trim_at = None;
        drop(trim_at);
        crate::trim::trim();
        None
    }
}
