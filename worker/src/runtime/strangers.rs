//! Lanes whose callers have not said who they are.
//!
//! `LANE-6 (few-strangers)`: at most 256 incoming lanes are kept whose callers have not said hello, or a quarter of the
//! descriptors if that is less. A caller that says hello within ten seconds is never one of those that give way.
//!
//! Each costs a descriptor and a buffer, so few are kept. A caller says hello as soon as it is connected, unless
//! it is stopped or very slow just then: so a stranger has [`PATIENCE`] before it gives way to another, and while all of
//! them are younger the next connection waits in the listener's queue, where it costs this process nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aktis_lane::ConnectionId;
use rustix::process::{Resource, getrlimit};

/// Most strangers, and less where descriptors are few: a quarter of them.
const LIMIT: usize = 256;
/// How long a stranger may be silent when its place is wanted.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the [module](self).
pub(super) struct Strangers {
    limit: usize,
    /// Since when each of them is here; the oldest first.
    waiting: VecDeque<(ConnectionId, Instant)>,
}

/// Whether there is room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// This one has been silent for too long, and is to go.
    InPlaceOf(ConnectionId),
    Full,
}

impl Default for Strangers {
    fn default() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let quarter = usize::try_from(descriptors / 4).unwrap_or(LIMIT);
        Self::limited_to(quarter.clamp(1, LIMIT))
    }
}

impl Strangers {
    fn limited_to(limit: usize) -> Self {
        Self {
            limit,
            waiting: VecDeque::new(),
        }
    }

    /// Looks for room, and takes the place of one that has to go (`LANE-6`).
    pub(super) fn make_room(&mut self, now: Instant) -> Room {
        if self.waiting.len() < self.limit {
            return Room::Free;
        }
        match self.waiting.front() {
            Some((oldest, since)) if now.duration_since(*since) >= PATIENCE => {
                let oldest = *oldest;
                self.waiting.pop_front();
                Room::InPlaceOf(oldest)
            }
            _ => Room::Full,
        }
    }

    pub(super) fn add(&mut self, lane: ConnectionId, now: Instant) {
        self.waiting.push_back((lane, now));
    }

    /// It has said hello, or is gone.
    pub(super) fn remove(&mut self, lane: ConnectionId) {
        self.waiting.retain(|(waiting, _)| *waiting != lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stranger_gives_way_when_it_was_silent_for_long_and_not_before() {
        let (mut strangers, began) = (Strangers::limited_to(2), Instant::now());
        for lane in [1, 2] {
            assert_eq!(strangers.make_room(began), Room::Free);
            strangers.add(ConnectionId(lane), began);
        }
        let later = began + PATIENCE;
        assert_eq!(
            strangers.make_room(later - Duration::from_millis(1)),
            Room::Full
        );
        assert_eq!(strangers.make_room(later), Room::InPlaceOf(ConnectionId(1)));
        strangers.add(ConnectionId(3), later);
        assert_eq!(strangers.make_room(later), Room::InPlaceOf(ConnectionId(2)));
    }

    #[test]
    fn caller_that_has_said_hello_is_no_stranger_any_more() {
        let (mut strangers, now) = (Strangers::limited_to(1), Instant::now());
        strangers.add(ConnectionId(1), now);
        assert_eq!(strangers.make_room(now), Room::Full);
        strangers.remove(ConnectionId(1));
        assert_eq!(strangers.make_room(now), Room::Free);
    }
}
