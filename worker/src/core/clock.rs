//! The time of the event being handled, and when the core wants to be asked next: it has no clock of its own.

use std::time::{Duration, Instant};

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Clock {
    now: Option<Instant>,
    /// When [`super::Core::tick`] is to be called at the latest.
    tick_at: Option<Instant>,
    is_tick_news: bool,
}

impl Clock {
    /// An event is to be handled.
    pub(crate) fn set(&mut self, now: Instant) {
        self.now = Some(now);
    }

    pub(super) fn now(&self) -> Instant {
        self.now
            .unwrap_or_else(|| unreachable!("every entry point sets the time"))
    }

    /// Something is due then.
    pub(super) fn tick_by(&mut self, at: Instant) {
        if self.tick_at.is_none_or(|known| at < known) {
            self.tick_at = Some(at);
            self.is_tick_news = true;
        }
    }

    /// What was due is done. `left`: until the next time that is known.
    pub(super) fn ticked(&mut self, left: Option<Duration>) {
        let now = self.now();
        self.tick_at = left.map(|left| now + left);
    }

    /// After how long [`super::Core::tick`] is to be called, if that is earlier than was said before.
    pub(super) fn take_tick_wish(&mut self) -> Option<Duration> {
        if !std::mem::take(&mut self.is_tick_news) {
            return None;
        }
        let at = self.tick_at?;
        Some(at.saturating_duration_since(self.now()))
    }
}
