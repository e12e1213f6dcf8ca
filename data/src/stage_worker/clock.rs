//! How long a worker has been there, and what it has taken.

use std::time::{Duration, Instant};

use crate::wire::time::{PullTime, ReadyReport};

/// The clock of a worker, from the moment it is made.
pub(super) struct WorkerClock {
    made: Instant,
    /// For how long its node had held its room by then.
    held_before: Duration,
    /// Of the process, when it was last told.
    told_cpu_nanos: u64,
}

impl WorkerClock {
    /// Begins.
    pub(super) fn new() -> Self {
        Self {
            made: Instant::now(),
            held_before: Duration::ZERO,
            told_cpu_nanos: process_cpu_nanos(),
        }
    }

    /// Its node had held its room for so long when it was made.
    pub(super) fn held_before(&mut self, held: Duration) {
        self.held_before = held;
    }

    /// The worker is ready; `loading`: what that took.
    pub(super) fn ready(&mut self, loading: Duration) -> ReadyReport {
        ReadyReport {
            held_nanos: nanos(self.held_before + self.made.elapsed()),
            loading_nanos: nanos(loading),
            cpu_nanos: self.take_cpu(),
            ..ReadyReport::default()
        }
    }

    /// A pull has ended that began then.
    pub(super) fn pulled(&mut self, began: Instant) -> PullTime {
        PullTime {
            wall_nanos: nanos(began.elapsed()),
            cpu_nanos: self.take_cpu(),
        }
    }

    fn take_cpu(&mut self) -> u64 {
        let now = process_cpu_nanos();
        now.saturating_sub(std::mem::replace(&mut self.told_cpu_nanos, now))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn process_cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_tells_how_long_it_had_its_room_and_what_it_takes() {
        let mut clock = WorkerClock::new();
        clock.held_before(Duration::from_secs(3));
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let ready = clock.ready(Duration::ZERO);
        assert!(ready.held_nanos >= 3_050_000_000 && ready.cpu_nanos > 0);
    }
}
