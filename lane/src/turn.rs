//! Whose turn it is to poll: leader and followers.
//!
//! A synchronous call costs two context switches only if the thread that waits for the answer reads the socket itself.
//! So the thread that waits takes the *turn* and polls (leader); further waiting threads park (followers) and get the
//! turn when the leader is done. When nobody waits, the lane thread polls, but only after [`GRACE`]: in a sequence of
//! synchronous calls it sleeps through, instead of being woken for every answer.
//!
//! ```text
//!            wait                      done, no follower
//!   Free ───────────► Thread ─────────────────────────► Free(since)
//!    │ lane thread, GRACE over          done, follower: Thread stays, follower promoted
//!    └──────────────► Lane ──── a thread waits: kicked ─► Thread (promoted) or Free
//! ```
//!
//! The lane thread sleeps on an [`Alarm`]. Who frees the turn sets it, and who takes the turn again unsets it when about to
//! sleep itself: a process that works now and then does not wake its lane thread at all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::{Alarm, AtomicBool, AtomicUsize, Mutex, Ordering, Thread, current_thread, now};

/// How long the lane thread leaves a free turn alone.
pub(crate) const GRACE: Duration = Duration::from_millis(1);

/// Makes the thread that polls look around.
#[derive(Clone)]
pub(crate) struct Kick(Arc<dyn Fn() + Send + Sync>);

impl Kick {
    pub(crate) fn new(kick: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(kick))
    }

    pub(crate) fn kick(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Kick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kick")
    }
}

/// A thread that waits until `remaining` things have happened.
#[derive(Debug)]
pub struct Waiter {
    remaining: AtomicUsize,
    thread: Thread,
    is_promoted: AtomicBool,
    /// Set while the thread polls, when unparking it would not wake it.
    leading: Mutex<Option<Kick>>,
}

impl Waiter {
    /// A waiter of the calling thread.
    pub fn new(remaining: usize) -> Arc<Self> {
        Arc::new(Self {
            remaining: AtomicUsize::new(remaining),
            thread: current_thread(),
            is_promoted: AtomicBool::new(false),
            leading: Mutex::new(None),
        })
    }

    /// Whether all has happened.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.remaining.load(Ordering::Acquire) == 0
    }

    /// One of the awaited things has happened. More often than awaited is harmless.
    pub fn count_down(&self) {
        let counted = self
            .remaining
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                left.checked_sub(1)
            });
        if counted != Ok(1) || current_thread().id() == self.thread.id() {
            return;
        }
        match &*self.leading.lock() {
            Some(kick) => kick.kick(),
            None => self.thread.unpark(),
        }
    }

    /// The waiter's thread begins to poll, or stops.
    pub(crate) fn set_leading(&self, kick: Option<&Kick>) {
        *self.leading.lock() = kick.cloned();
    }

    fn promote(&self) {
        self.is_promoted.store(true, Ordering::Release);
        self.thread.unpark();
    }

    pub(crate) fn is_promoted(&self) -> bool {
        self.is_promoted.load(Ordering::Acquire)
    }
}

/// Who polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    Thread,
    Lane,
}

#[derive(Debug)]
struct State {
    holder: Holder,
    free_since: Instant,
    followers: VecDeque<Arc<Waiter>>,
    /// When the lane thread takes the turn if it is free then. Always set while nobody has it and the lane thread sleeps.
    handover_at: Option<Instant>,
    /// When the lane thread has something else to do.
    errands_at: Option<Instant>,
    /// What the alarm is set to: the earlier of the two.
    rings_at: Option<Instant>,
}

/// The outcome of asking for the turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Poll, then [`Turn::pass`].
    Lead,
    /// Park until done or promoted; the lane thread polls and must be kicked.
    FollowLane,
    /// Park until done or promoted.
    Follow,
}

/// What the lane thread is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LaneStep {
    /// It has the turn: poll until kicked, or this long for the next errand, then [`Turn::pass`].
    Poll(Option<Duration>),
    /// Sleep until the alarm rings.
    Sleep,
}

/// The turn of one reactor.
#[derive(Debug)]
pub(crate) struct Turn {
    state: Mutex<State>,
    alarm: Alarm,
}

impl Turn {
    /// A free turn, and the alarm on which the lane thread will sleep.
    pub(crate) fn new(alarm: Alarm) -> Self {
        Self {
            state: Mutex::new(State {
                holder: Holder::Nobody,
                free_since: now(),
                followers: VecDeque::new(),
                handover_at: None,
                errands_at: None,
                rings_at: None,
            }),
            alarm,
        }
    }

    fn set_alarm(&self, state: &mut State) {
        let rings_at = state.handover_at.into_iter().chain(state.errands_at).min();
        if rings_at != state.rings_at {
            state.rings_at = rings_at;
            self.alarm
                .set(rings_at.map(|at| at.saturating_duration_since(now())));
        }
    }

    /// The waiter's thread asks to poll.
    pub(crate) fn ask(&self, waiter: &Arc<Waiter>) -> Asked {
        let mut state = self.state.lock();
        match state.holder {
            Holder::Nobody => {
                state.holder = Holder::Thread;
                Asked::Lead
            }
            holder => {
                // It may have waited before, and been promoted then.
                waiter.is_promoted.store(false, Ordering::Release);
                state.followers.push_back(Arc::clone(waiter));
                if holder == Holder::Lane {
                    Asked::FollowLane
                } else {
                    Asked::Follow
                }
            }
        }
    }

    /// The holder stops polling: a follower gets the turn, or nobody.
    pub(crate) fn pass(&self) {
        let mut state = self.state.lock();
        while let Some(follower) = state.followers.pop_front() {
            if !follower.is_done() {
                state.holder = Holder::Thread;
                follower.promote();
                return;
            }
        }
        state.holder = Holder::Nobody;
        state.free_since = now();
        if state.handover_at.is_none() {
            state.handover_at = Some(state.free_since + GRACE);
            self.set_alarm(&mut state);
        }
    }

    /// The holder is about to sleep while it polls: the lane thread need not look after the turn.
    pub(crate) fn settle(&self) {
        let mut state = self.state.lock();
        if state.handover_at.take().is_some() {
            self.set_alarm(&mut state);
        }
    }

    /// A follower stops waiting (done, timed out, interrupted). True: it holds the turn and must pass it.
    pub(crate) fn leave(&self, waiter: &Arc<Waiter>) -> bool {
        let mut state = self.state.lock();
        state
            .followers
            .retain(|follower| !Arc::ptr_eq(follower, waiter));
        waiter.is_promoted()
    }

    /// Whether a thread waits for the turn that the lane thread holds.
    pub(crate) fn has_followers(&self) -> bool {
        !self.state.lock().followers.is_empty()
    }

    /// The lane thread is awake and about to run its errands.
    pub(crate) fn lane_wakes(&self) {
        let mut state = self.state.lock();
        state.errands_at = None;
        state.rings_at = None;
    }

    /// The lane thread has run its errands and asks what to do; the next errand is due after `next`.
    pub(crate) fn lane_step(&self, next: Option<Duration>) -> LaneStep {
        let mut state = self.state.lock();
        let now = now();
        // Others may have asked for it meanwhile.
        let errands_at = next
            .map(|left| now + left)
            .into_iter()
            .chain(state.errands_at)
            .min();
        state.errands_at = errands_at;
        state.handover_at = None;
        if state.holder == Holder::Nobody {
            let handover_at = state.free_since + GRACE;
            if handover_at <= now {
                state.holder = Holder::Lane;
                return LaneStep::Poll(errands_at.map(|at| at.saturating_duration_since(now)));
            }
            state.handover_at = Some(handover_at);
        }
        self.set_alarm(&mut state);
        LaneStep::Sleep
    }

    /// Sleeps until the alarm rings. For the lane thread.
    pub(crate) fn sleep(&self) {
        self.alarm.wait();
    }

    /// Has the lane thread run its errands (flush, timers) after `delay`. False: it polls and must be kicked instead.
    pub(crate) fn call_lane(&self, delay: Duration) -> bool {
        let mut state = self.state.lock();
        if state.holder == Holder::Lane {
            return false;
        }
        let at = now() + delay;
        if state.errands_at.is_none_or(|known| at < known) {
            state.errands_at = Some(at);
            self.set_alarm(&mut state);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_turn() -> Turn {
        Turn::new(Alarm::new().expect("a timer"))
    }

    #[test]
    fn second_waiter_follows_and_is_promoted_when_the_first_is_done() {
        let turn = new_turn();
        let (first, second) = (Waiter::new(1), Waiter::new(1));
        assert_eq!(turn.ask(&first), Asked::Lead);
        assert_eq!(turn.ask(&second), Asked::Follow);
        first.count_down();
        turn.pass();
        assert!(second.is_promoted());
    }

    #[test]
    fn waiter_that_was_promoted_once_follows_again() {
        let turn = new_turn();
        let (other, again) = (Waiter::new(1), Waiter::new(1));
        assert_eq!(turn.ask(&other), Asked::Lead);
        assert_eq!(turn.ask(&again), Asked::Follow);
        turn.pass();
        assert!(turn.leave(&again));
        // Its slice of time is over, and another thread is faster.
        turn.pass();
        assert_eq!(turn.ask(&other), Asked::Lead);
        assert_eq!(turn.ask(&again), Asked::Follow);
        assert!(!turn.leave(&again), "LANE-1: two threads would poll");
    }

    #[test]
    fn done_followers_are_not_promoted() {
        let turn = new_turn();
        let (first, second, third) = (Waiter::new(1), Waiter::new(1), Waiter::new(1));
        assert_eq!(turn.ask(&first), Asked::Lead);
        turn.ask(&second);
        turn.ask(&third);
        second.count_down();
        turn.pass();
        assert!(!second.is_promoted());
        assert!(third.is_promoted());
    }

    #[test]
    fn leaving_while_promoted_hands_the_duty_to_pass_on() {
        let turn = new_turn();
        let (first, second) = (Waiter::new(1), Waiter::new(1));
        turn.ask(&first);
        turn.ask(&second);
        turn.pass();
        assert!(turn.leave(&second));
        turn.pass();
        assert_eq!(turn.ask(&Waiter::new(1)), Asked::Lead);
    }

    fn alarm_of(turn: &Turn) -> Option<Instant> {
        turn.state.lock().rings_at
    }

    #[test]
    fn lane_thread_leaves_a_fresh_turn_alone() {
        let turn = new_turn();
        turn.ask(&Waiter::new(1));
        turn.pass();
        assert_eq!(turn.lane_step(None), LaneStep::Sleep);
        assert!(alarm_of(&turn).is_some());
    }

    #[test]
    fn lane_thread_takes_a_turn_that_stays_free() {
        let turn = new_turn();
        turn.lane_wakes();
        assert_eq!(turn.lane_step(None), LaneStep::Sleep);
        turn.sleep();
        turn.lane_wakes();
        assert_eq!(turn.lane_step(None), LaneStep::Poll(None));
    }

    #[test]
    fn thread_that_sleeps_with_the_turn_lets_the_lane_thread_sleep() {
        let turn = new_turn();
        turn.ask(&Waiter::new(1));
        turn.pass();
        assert!(alarm_of(&turn).is_some());
        turn.ask(&Waiter::new(1));
        turn.settle();
        assert!(alarm_of(&turn).is_none());
    }

    #[test]
    fn errand_asked_for_while_the_lane_thread_runs_others_is_not_forgotten() {
        let turn = new_turn();
        turn.ask(&Waiter::new(1));
        turn.lane_wakes();
        assert!(turn.call_lane(Duration::ZERO));
        assert_eq!(
            turn.lane_step(Some(Duration::from_secs(3600))),
            LaneStep::Sleep
        );
        turn.sleep();
    }
}
