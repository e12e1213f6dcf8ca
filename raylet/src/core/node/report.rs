//! When the node reports of itself.

use std::time::{Duration, Instant};

/// When the state of the node is reported: at once after quiet, else bundled.
#[derive(Debug)]
pub(super) struct ReportSchedule {
    gap: Duration,
    is_wanted: bool,
    last: Option<Instant>,
}

impl ReportSchedule {
    pub(super) fn new(gap: Duration) -> Self {
        Self {
            gap,
            is_wanted: false,
            last: None,
        }
    }

    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Whether a report is due; the caller makes it.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.is_wanted && self.last.is_none_or(|last| now >= last + self.gap);
        if is_due {
            self.is_wanted = false;
            self.last = Some(now);
        }
        is_due
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.last
            .filter(|_| self.is_wanted)
            .map(|last| last + self.gap)
    }
}
