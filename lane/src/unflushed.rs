//! Connections with bytes that wait for more that go the same way, and how long they wait.
//!
//! A write costs a system call and the awakening of the other side, which finds its caches cold: dozens of microseconds, most
//! of them there. The more connections wait, the fewer bytes a moment brings to each. So the wait grows with their number,
//! up to where awakenings take the smaller part of the time; but never beyond four times what the burst has lasted, so that
//! nothing that begins is held up for long. A thread that waits for anything writes everything at once.
//!
//! Knows nothing of connections, so that `tests/loom` runs the same code in every order that threads can take.

use std::time::{Duration, Instant};

use crate::sync::now;

/// The shortest wait.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_micros(100);
/// The longest one.
const FLUSH_BEFORE: Duration = Duration::from_millis(20);
/// A burst is over after nothing came for so long. Its thread may have to wait for a processor.
const PAUSE: Duration = Duration::from_millis(4);
/// Of waiting for each connection: some four times what an awakening costs.
const WORTH: Duration = Duration::from_micros(200);

/// How long bytes wait.
#[derive(Debug)]
struct Pace {
    limit: Duration,
    flushed_at: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            limit: FLUSH_AFTER,
            flushed_at: None,
        }
    }
}

impl Pace {
    /// Bytes wait for the first time since the last flush.
    fn begin(&mut self, now: Instant) {
        let is_burst = self
            .flushed_at
            .is_some_and(|flushed_at| now.duration_since(flushed_at) < self.limit.max(PAUSE));
        self.limit = if is_burst {
            (self.limit * 4).min(FLUSH_BEFORE)
        } else {
            FLUSH_AFTER
        };
    }

    fn wait(&self, connections: usize) -> Duration {
        let worth = WORTH.saturating_mul(u32::try_from(connections).unwrap_or(u32::MAX));
        worth.clamp(FLUSH_AFTER, self.limit)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Unflushed<C> {
    connections: Vec<C>,
    /// Of the first of them.
    since: Option<Instant>,
    pace: Pace,
}

impl<C> Default for Unflushed<C> {
    fn default() -> Self {
        Self {
            connections: Vec::new(),
            since: None,
            pace: Pace::default(),
        }
    }
}

impl<C> Unflushed<C> {
    /// True: it is the first one, and [`Self::take_overdue`] is to be called after [`FLUSH_AFTER`].
    pub(crate) fn add(&mut self, connection: C) -> bool {
        self.connections.push(connection);
        let is_first = self.since.is_none();
        if is_first {
            let now = now();
            self.since = Some(now);
            self.pace.begin(now);
        }
        is_first
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// All of them: a thread waits. What comes next is no burst.
    pub(crate) fn take(&mut self) -> Vec<C> {
        self.since = None;
        self.pace = Pace::default();
        std::mem::take(&mut self.connections)
    }

    /// All of them if they have waited long enough, or how long they still have to.
    pub(crate) fn take_overdue(&mut self) -> Result<Vec<C>, Duration> {
        let Some(since) = self.since else {
            return Ok(Vec::new());
        };
        let now = now();
        let left = (since + self.pace.wait(self.connections.len())).saturating_duration_since(now);
        if !left.is_zero() {
            return Err(left);
        }
        self.since = None;
        self.pace.flushed_at = Some(now);
        Ok(std::mem::take(&mut self.connections))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits of a burst in which bytes for `connections` wait again as soon as they are flushed.
    fn waits(connections: usize, flushes: usize) -> Vec<Duration> {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let next = |_| {
            pace.begin(now);
            let wait = pace.wait(connections);
            now += wait;
            pace.flushed_at = Some(now);
            wait
        };
        (0..flushes).map(next).collect()
    }

    #[test]
    fn one_connection_never_waits_for_long() {
        let waits = waits(1, 20);
        assert_eq!(waits[0], FLUSH_AFTER);
        assert_eq!(waits[1..], [WORTH; 19]);
    }

    #[test]
    fn many_connections_wait_longer_the_longer_the_burst() {
        let waits = waits(100, 20);
        assert_eq!(waits[0], FLUSH_AFTER);
        let mut lasted = waits[0];
        for wait in &waits[1..] {
            assert!(*wait <= lasted * 4, "{waits:?}");
            lasted += *wait;
        }
        assert_eq!(waits[19], FLUSH_BEFORE);
    }

    #[test]
    fn burst_ends_in_a_pause() {
        let mut pace = Pace::default();
        let now = Instant::now();
        pace.limit = FLUSH_BEFORE;
        pace.flushed_at = Some(now);
        pace.begin(now + FLUSH_BEFORE.max(PAUSE));
        assert_eq!(pace.wait(100), FLUSH_AFTER);
    }
}
