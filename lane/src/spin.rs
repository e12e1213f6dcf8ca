//! Whether a waiting thread polls for a moment before it sleeps.
//!
//! Waking a sleeping thread costs 20-60 µs where the processor has gone idle (most of all in a virtual machine), several
//! times what a short call takes. So a thread that waits polls for [`SPIN`] first, as long as that pays: each wait that
//! ended while it polled earns credit, each that did not costs some. Without credit only one wait in [`TRIAL_EVERY`] is
//! tried, so that a process whose peers are slow, or idle, polls for nothing in particular less than 1 % of the time.

use std::time::Duration;

/// How long one wait polls without sleeping: about as long as two processes take to be woken. With half of that, calls of a
/// hundred actors in turn, each woken for one call, were answered just after their callers had gone to sleep.
pub(super) const SPIN: Duration = Duration::from_micros(100);
const MAX_CREDIT: u32 = 8;
const TRIAL_EVERY: u32 = 64;

/// Remembers whether polling paid.
#[derive(Debug)]
pub(super) struct SpinGauge {
    credit: u32,
    slept: u32,
    is_allowed: bool,
}

impl SpinGauge {
    /// `cpus`: with a single one, polling only keeps the awaited process from running.
    pub(super) fn new(cpus: u32) -> Self {
        Self {
            credit: MAX_CREDIT / 2,
            slept: 0,
            is_allowed: cpus > 1,
        }
    }

    /// Whether the wait that begins is to poll.
    pub(super) fn is_worth_it(&mut self) -> bool {
        if !self.is_allowed || self.credit > 0 {
            return self.is_allowed;
        }
        self.slept += 1;
        self.slept.is_multiple_of(TRIAL_EVERY)
    }

    /// A wait has polled. `has_paid`: what it waited for happened meanwhile.
    pub(super) fn learn(&mut self, has_paid: bool) {
        self.credit = if has_paid {
            MAX_CREDIT
        } else {
            self.credit.saturating_sub(1)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polls_of(gauge: &mut SpinGauge, waits: u32, pays: bool) -> u32 {
        let mut polls = 0;
        for _ in 0..waits {
            if gauge.is_worth_it() {
                polls += 1;
                gauge.learn(pays);
            }
        }
        polls
    }

    #[test]
    fn polling_that_never_pays_is_given_up_but_tried_now_and_then() {
        let mut gauge = SpinGauge::new(2);
        polls_of(&mut gauge, 100, false);
        assert_eq!(polls_of(&mut gauge, 10 * TRIAL_EVERY, false), 10);
    }

    #[test]
    fn polling_that_pays_again_is_taken_up_again() {
        let mut gauge = SpinGauge::new(2);
        polls_of(&mut gauge, 1000, false);
        polls_of(&mut gauge, TRIAL_EVERY, true);
        assert_eq!(polls_of(&mut gauge, 100, true), 100);
    }

    #[test]
    fn a_few_slow_answers_among_quick_ones_do_not_end_polling() {
        let mut gauge = SpinGauge::new(2);
        for _ in 0..100 {
            assert_eq!(polls_of(&mut gauge, 3, false), 3);
            assert_eq!(polls_of(&mut gauge, 10, true), 10);
        }
    }

    #[test]
    fn single_processor_never_polls() {
        assert_eq!(polls_of(&mut SpinGauge::new(1), 1000, true), 0);
    }
}
