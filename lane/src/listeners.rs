//! Listeners that take no connections for a while.
//!
//! A connection that cannot be accepted stays in the listener's queue, and the listener readable: whoever polls would be woken
//! by it at once, again and again, as long as no descriptor is free. So such a listener is looked at no more until [`PAUSE`] is
//! over.

use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long a listener is left alone.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct PausedListeners {
    ids: Vec<u64>,
    until: Option<Instant>,
    is_told: bool,
}

impl PausedListeners {
    /// True: nobody was told yet.
    pub(super) fn add(&mut self, id: u64, now: Instant) -> bool {
        self.ids.push(id);
        self.until.get_or_insert(now + PAUSE);
        !std::mem::replace(&mut self.is_told, true)
    }

    /// Those to be looked at again, or when there will be some.
    pub(super) fn take_due(&mut self, now: Instant) -> Result<Vec<u64>, Duration> {
        let Some(until) = self.until else {
            return Ok(Vec::new());
        };
        let left = until.saturating_duration_since(now);
        if !left.is_zero() {
            return Err(left);
        }
        self.until = None;
        Ok(std::mem::take(&mut self.ids))
    }
}

/// Whether it is this process or the system that lacks something, rather than the connection that is gone.
pub(super) fn is_shortage(error: Errno) -> bool {
    matches!(
        error,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_is_looked_at_again_after_the_pause() {
        let (mut paused, now) = (PausedListeners::default(), Instant::now());
        assert_eq!(paused.take_due(now), Ok(Vec::new()));
        assert!(paused.add(7, now));
        assert_eq!(paused.take_due(now), Err(PAUSE));
        assert_eq!(paused.take_due(now + PAUSE), Ok(vec![7]));
        assert_eq!(paused.take_due(now + PAUSE), Ok(Vec::new()));
        assert!(!paused.add(7, now), "told once");
    }
}
