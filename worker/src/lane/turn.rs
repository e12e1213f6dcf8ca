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

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering, Thread, current_thread, now};

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
pub(crate) struct Waiter {
    remaining: AtomicUsize,
    thread: Thread,
    is_promoted: AtomicBool,
    /// Set while the thread polls, when unparking it would not wake it.
    leading: Mutex<Option<Kick>>,
}

impl Waiter {
    /// A waiter of the calling thread.
    pub(crate) fn new(remaining: usize) -> Arc<Self> {
        Arc::new(Self {
            remaining: AtomicUsize::new(remaining),
            thread: current_thread(),
            is_promoted: AtomicBool::new(false),
            leading: Mutex::new(None),
        })
    }

    /// Whether all has happened.
    pub(crate) fn is_done(&self) -> bool {
        self.remaining.load(Ordering::Acquire) == 0
    }

    /// One of the awaited things has happened. More often than awaited is harmless.
    pub(crate) fn count_down(&self) {
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
    /// The lane thread sleeps until it is unparked, and must be when the turn becomes free.
    is_lane_asleep: bool,
    lane_thread: Option<Thread>,
    /// Grows with every change of the turn, so that the lane thread sees whether anything goes on.
    changes: u64,
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
    /// It has the turn: poll until kicked, then [`Turn::pass`].
    Poll,
    /// Sleep this long, or until unparked.
    Sleep(Option<Duration>),
}

/// The turn of one reactor.
#[derive(Debug)]
pub(crate) struct Turn {
    state: Mutex<State>,
}

impl Turn {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                holder: Holder::Nobody,
                free_since: now(),
                followers: VecDeque::new(),
                is_lane_asleep: false,
                lane_thread: None,
                changes: 0,
            }),
        }
    }

    /// The calling thread becomes the lane thread.
    pub(crate) fn become_lane_thread(&self) {
        self.state.lock().lane_thread = Some(current_thread());
    }

    /// The waiter's thread asks to poll.
    pub(crate) fn ask(&self, waiter: &Arc<Waiter>) -> Asked {
        let mut state = self.state.lock();
        match state.holder {
            Holder::Nobody => {
                state.holder = Holder::Thread;
                state.changes += 1;
                Asked::Lead
            }
            holder => {
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
        state.changes += 1;
        while let Some(follower) = state.followers.pop_front() {
            if !follower.is_done() {
                state.holder = Holder::Thread;
                follower.promote();
                return;
            }
        }
        state.holder = Holder::Nobody;
        state.free_since = now();
        if state.is_lane_asleep {
            state.is_lane_asleep = false;
            if let Some(thread) = &state.lane_thread {
                thread.unpark();
            }
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

    /// The lane thread asks what to do. `seen` is its memory of [`State::changes`] and of idle rounds.
    pub(crate) fn lane_step(&self, seen: &mut (u64, u32)) -> LaneStep {
        const IDLE_ROUNDS: u32 = 2;
        let mut state = self.state.lock();
        if state.holder == Holder::Nobody {
            let free = now().duration_since(state.free_since);
            if free >= GRACE {
                state.holder = Holder::Lane;
                state.changes += 1;
                return LaneStep::Poll;
            }
            return LaneStep::Sleep(Some(GRACE - free));
        }
        *seen = if seen.0 == state.changes {
            (seen.0, seen.1 + 1)
        } else {
            (state.changes, 0)
        };
        if seen.1 < IDLE_ROUNDS {
            return LaneStep::Sleep(Some(GRACE));
        }
        state.is_lane_asleep = true;
        LaneStep::Sleep(None)
    }

    /// Makes the lane thread look around (flush, timers) if it sleeps. False: it polls and must be kicked instead.
    pub(crate) fn rouse_lane(&self) -> bool {
        let mut state = self.state.lock();
        if state.holder == Holder::Lane {
            return false;
        }
        state.is_lane_asleep = false;
        if let Some(thread) = &state.lane_thread {
            thread.unpark();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_waiter_follows_and_is_promoted_when_the_first_is_done() {
        let turn = Turn::new();
        let (first, second) = (Waiter::new(1), Waiter::new(1));
        assert_eq!(turn.ask(&first), Asked::Lead);
        assert_eq!(turn.ask(&second), Asked::Follow);
        first.count_down();
        turn.pass();
        assert!(second.is_promoted());
    }

    #[test]
    fn done_followers_are_not_promoted() {
        let turn = Turn::new();
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
        let turn = Turn::new();
        let (first, second) = (Waiter::new(1), Waiter::new(1));
        turn.ask(&first);
        turn.ask(&second);
        turn.pass();
        assert!(turn.leave(&second));
        turn.pass();
        assert_eq!(turn.ask(&Waiter::new(1)), Asked::Lead);
    }

    #[test]
    fn lane_thread_leaves_a_fresh_turn_alone() {
        let turn = Turn::new();
        let waiter = Waiter::new(1);
        turn.ask(&waiter);
        turn.pass();
        assert!(matches!(
            turn.lane_step(&mut (0, 0)),
            LaneStep::Sleep(Some(_))
        ));
    }
}
