//! How a thread waits: by polling when it has the turn, by parking when another thread polls.
//!
//! Written against [`Poller`] and the primitives of `crate::sync`, so that `tests/loom` runs the same code in every order
//! that threads can take (`LANE-2`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::turn::{Asked, Kick, LaneStep, Turn, Waiter};
use crate::sync::{now, park, park_timeout};

/// How long a thread waits at most before it looks for signals. One that reaches the thread while it sleeps in the kernel wakes
/// it at once; one that comes while it polls without sleeping, or parks behind another thread, waits for the end of the slice.
pub const SIGNAL_SLICE: Duration = Duration::from_millis(50);

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitEnd {
    /// What was awaited has happened.
    Done,
    /// The time is over.
    DeadlinePassed,
    /// A signal may have come, or a slice of time is over: look for signals and wait again.
    Interrupted,
}

/// A signal came while polling.
#[derive(Debug)]
pub(crate) struct Interrupted;

/// What the holder of the turn does.
pub(crate) trait Poller {
    /// Sleeps until something happens, and handles it. Only the holder of the turn calls this (`LANE-1`).
    fn poll(&self, timeout: Option<Duration>) -> Result<(), Interrupted>;
    /// Polls without sleeping for a moment, if that is worth it. True: the waiter is done.
    fn poll_briefly(&self, waiter: &Waiter) -> bool;
    /// Makes [`Self::poll`] return.
    fn kick(&self) -> &Kick;
}

/// When a wait ends at the latest.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) deadline: Option<Instant>,
    /// Ends with [`WaitEnd::Interrupted`].
    pub(crate) slice_end: Option<Instant>,
}

impl Limits {
    fn time_left(self) -> Result<Option<Duration>, WaitEnd> {
        let (end, reason) = match (self.deadline, self.slice_end) {
            (None, None) => return Ok(None),
            (Some(deadline), Some(slice)) if slice < deadline => (slice, WaitEnd::Interrupted),
            (Some(deadline), _) => (deadline, WaitEnd::DeadlinePassed),
            (None, Some(slice)) => (slice, WaitEnd::Interrupted),
        };
        let left = end.saturating_duration_since(now());
        if left.is_zero() {
            Err(reason)
        } else {
            Ok(Some(left))
        }
    }
}

/// The turn in the hands of a thread. Dropping it passes it on, however the polling ends: a handler that panics must not take
/// the turn along, or nobody would ever poll again.
struct HeldTurn<'a> {
    turn: &'a Turn,
    /// Whose thread it is, unless the lane thread.
    leader: Option<&'a Waiter>,
}

impl Drop for HeldTurn<'_> {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            leader.set_leading(None);
        }
        self.turn.pass();
    }
}

impl Turn {
    /// Waits until `waiter` is done. Polls itself when it can, and parks only as a follower that is known to the turn (`LANE-2`).
    pub(crate) fn wait(
        &self,
        poller: &impl Poller,
        waiter: &Arc<Waiter>,
        limits: Limits,
    ) -> WaitEnd {
        match self.ask(waiter) {
            Asked::Lead => {}
            asked => {
                if asked == Asked::FollowLane {
                    poller.kick().kick();
                }
                let end = follow(waiter, limits);
                if !self.leave(waiter) {
                    return end.unwrap_or(WaitEnd::Done);
                }
                if let Some(end) = end {
                    self.pass();
                    return end;
                }
            }
        }
        let _held = HeldTurn {
            turn: self,
            leader: Some(waiter),
        };
        waiter.set_leading(Some(poller.kick()));
        self.lead(poller, waiter, limits)
    }

    fn lead(&self, poller: &impl Poller, waiter: &Waiter, limits: Limits) -> WaitEnd {
        let mut has_polled = false;
        loop {
            if waiter.is_done() {
                return WaitEnd::Done;
            }
            let left = match limits.time_left() {
                Ok(left) => left,
                Err(end) => return end,
            };
            if !std::mem::replace(&mut has_polled, true) {
                if poller.poll_briefly(waiter) {
                    return WaitEnd::Done;
                }
                self.settle();
            }
            if poller.poll(left).is_err() && !waiter.is_done() {
                return WaitEnd::Interrupted;
            }
        }
    }

    /// One round of the lane thread: runs errands, then polls until a thread waits for the turn or `is_over`, or sleeps.
    /// `errands` says when it is to be called again.
    pub(crate) fn lane_round(
        &self,
        poller: &impl Poller,
        errands: &dyn Fn() -> Option<Duration>,
        is_over: &dyn Fn() -> bool,
    ) {
        self.lane_wakes();
        match self.lane_step(errands()) {
            LaneStep::Poll(mut next) => {
                let _held = HeldTurn {
                    turn: self,
                    leader: None,
                };
                let is_wanted = || !self.has_followers() && !is_over();
                while is_wanted() {
                    // Signals are blocked in this thread; an interruption only means to poll again.
                    let _ = poller.poll(next);
                    // Errands may take milliseconds. A thread that waits gets the turn first; the next round begins with them.
                    if is_wanted() {
                        next = errands();
                    }
                }
            }
            LaneStep::Sleep => self.sleep(),
        }
    }
}

/// Parks until done (or promoted: `None`), or until the time is over.
fn follow(waiter: &Waiter, limits: Limits) -> Option<WaitEnd> {
    loop {
        if waiter.is_done() {
            return Some(WaitEnd::Done);
        }
        if waiter.is_promoted() {
            return None;
        }
        match limits.time_left() {
            Ok(Some(left)) => park_timeout(left),
            Ok(None) => park(),
            Err(end) => return Some(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::sync::Alarm;

    /// Does what the test says whenever it is polled.
    struct Scripted<F> {
        poll: F,
        kick: Kick,
    }

    impl<F: Fn()> Scripted<F> {
        fn new(poll: F) -> Self {
            let kick = Kick::new(|| {});
            Self { poll, kick }
        }
    }

    impl<F: Fn()> Poller for Scripted<F> {
        fn poll(&self, _timeout: Option<Duration>) -> Result<(), Interrupted> {
            (self.poll)();
            Ok(())
        }

        fn poll_briefly(&self, _waiter: &Waiter) -> bool {
            false
        }

        fn kick(&self) -> &Kick {
            &self.kick
        }
    }

    fn new_turn() -> Turn {
        Turn::new(Alarm::new().expect("a timer"))
    }

    #[test]
    fn thread_that_waits_gets_the_turn_before_the_lane_thread_runs_errands() {
        let turn = new_turn();
        let follower = Waiter::new(1);
        // The follower comes while the lane thread polls, and kicks it.
        let poller = Scripted::new(|| assert_eq!(turn.ask(&follower), Asked::FollowLane));
        let errands = || {
            assert!(!turn.has_followers());
            None
        };
        while !follower.is_promoted() {
            turn.lane_round(&poller, &errands, &|| false);
        }
    }

    #[test]
    fn handler_that_panics_leaves_the_turn_to_others() {
        let turn = new_turn();
        let poller = Scripted::new(|| panic!("a handler"));
        let waiter = Waiter::new(1);
        let waiting = || turn.wait(&poller, &waiter, Limits::default());
        assert!(catch_unwind(AssertUnwindSafe(waiting)).is_err());
        assert_eq!(turn.ask(&Waiter::new(1)), Asked::Lead);
        turn.pass();
        // The lane thread sleeps until the turn was free for long enough.
        let lane = || loop {
            turn.lane_round(&poller, &|| None, &|| false);
        };
        assert!(catch_unwind(AssertUnwindSafe(lane)).is_err());
        assert_eq!(turn.ask(&Waiter::new(1)), Asked::Lead);
    }
}
