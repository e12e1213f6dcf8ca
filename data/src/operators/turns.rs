//! Time for which calls of this process wait for their turns (`rate_limit=`): it is no time of the calls.
//!
//! Whoever waits says so when it begins and when it has ended. Waits that overlap count once.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

static WAITS: Mutex<Waits> = Mutex::new(Waits {
    waiting: 0,
    since: None,
    total: Duration::ZERO,
});

struct Waits {
    waiting: u32,
    /// Since when somebody waits.
    since: Option<Instant>,
    total: Duration,
}

/// What is known of the waits of this process.
pub(crate) struct Waited {
    /// How long somebody has waited, since the process began.
    pub(crate) total: Duration,
    /// Whether somebody waits now.
    pub(crate) is_waiting: bool,
}

/// A call begins to wait for its turn.
pub fn begin_wait() {
    let mut waits = WAITS.lock();
    waits.waiting += 1;
    waits.since.get_or_insert_with(Instant::now);
}

/// It has its turn, or waits no more.
pub fn end_wait() {
    let mut waits = WAITS.lock();
    waits.waiting = waits.waiting.saturating_sub(1);
    if waits.waiting == 0
        && let Some(since) = waits.since.take()
    {
        waits.total += since.elapsed();
    }
}

/// The waits so far.
pub(crate) fn waited() -> Waited {
    let waits = WAITS.lock();
    Waited {
        total: waits.total + waits.since.map_or(Duration::ZERO, |since| since.elapsed()),
        is_waiting: waits.since.is_some(),
    }
}
