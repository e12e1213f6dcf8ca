//! How many rows a batch should have, as the calls so far have shown.
//!
//! ```text
//!  8 ─► 16 ─► 32 ─► ...   doubles as long as larger batches pay
//!             │
//!             └─ out of memory ─► between what fitted and what did not, in halves
//! ```
//! What is known only grows, each part in one direction: the fastest call of a size, the smallest size that was too large. So
//! workers and the driver may tell each other in any order, and as often as they like, and all of them choose the same.

use std::collections::BTreeMap;

/// Rows of the first batches.
const FIRST_ROWS: u64 = 8;
/// More rows than these are never tried: what they give waits in memory until all of them are done.
pub(crate) const MOST_ROWS: u64 = 8192;
/// Larger batches pay if they are expected to make rows cheaper by at least this factor.
const PAYS: f64 = 1.05;
/// Of sizes that differ by less than this factor the smaller is as good, and needs less memory.
const ALIKE: f64 = 1.03;
/// Between what fits and what does not, a size is looked for until they are so near: an eighth.
const NEAR: u64 = 8;
/// Calls that show what a size costs: what else the machine does makes single calls slow, and the first call of all.
const CALLS: u64 = 3;
/// Calls that take so long are less disturbed.
const LONG_CALLS: u64 = 2;
const LONG_NANOS: u64 = 50_000_000;
/// One call will do if it makes rows cheaper by this factor than the size before: it can only have been slower than it need be.
const CLEAR: f64 = 1.3;

/// Calls with batches of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Trial {
    pub(crate) calls: u64,
    /// Of the fastest.
    pub(crate) nanos: u64,
}

impl Trial {
    fn is_done(self) -> bool {
        self.calls >= CALLS || (self.calls >= LONG_CALLS && self.nanos >= LONG_NANOS)
    }

    /// Nanoseconds for each of so many rows.
    fn of_row(self, rows: u64) -> f64 {
        as_f64(self.nanos) / as_f64(rows)
    }
}

/// What is known about batches of one function on one kind of device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Learned {
    /// By rows.
    trials: BTreeMap<u64, Trial>,
    /// Batches of so many rows did not fit into memory.
    too_large: Option<u64>,
}

impl Learned {
    /// Known trials and the smallest size that did not fit.
    pub(crate) fn new(
        trials: impl IntoIterator<Item = (u64, Trial)>,
        too_large: Option<u64>,
    ) -> Self {
        Self {
            trials: trials.into_iter().collect(),
            too_large,
        }
    }

    pub(crate) fn trials(&self) -> impl Iterator<Item = (u64, Trial)> {
        self.trials.iter().map(|(&rows, &trial)| (rows, trial))
    }

    pub(crate) fn too_large(&self) -> Option<u64> {
        self.too_large
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.trials.is_empty() && self.too_large.is_none()
    }

    /// A call with so many rows took so long. Only sizes that are being tried count.
    pub(crate) fn called(&mut self, rows: u64, nanos: u64) {
        if rows != self.rows() || self.is_settled() {
            return;
        }
        let trial = self.trials.entry(rows).or_default();
        trial.nanos = match trial.calls {
            0 => nanos,
            _ => trial.nanos.min(nanos),
        };
        trial.calls += 1;
    }

    /// A batch of so many rows did not fit, and its halves did.
    pub(crate) fn ran_out_of_memory(&mut self, rows: u64) {
        let too_large = self.too_large.map_or(rows, |known| known.min(rows));
        self.too_large = Some(too_large);
        self.trials.retain(|&rows, _| rows < too_large);
    }

    /// Takes what another one knows.
    pub(crate) fn learn(&mut self, other: &Self) {
        for (rows, trial) in other.trials() {
            match self.trials.get_mut(&rows) {
                Some(own) => {
                    own.calls = own.calls.max(trial.calls);
                    own.nanos = own.nanos.min(trial.nanos);
                }
                None => {
                    self.trials.insert(rows, trial);
                }
            }
        }
        for too_large in other.too_large.into_iter().chain(self.too_large) {
            self.ran_out_of_memory(too_large);
        }
    }

    /// Rows that the next batch should have.
    pub(crate) fn rows(&self) -> u64 {
        self.tried().unwrap_or_else(|| self.best())
    }

    /// Whether no other size is looked for.
    pub(crate) fn is_settled(&self) -> bool {
        self.tried().is_none()
    }

    /// The size to try next; `None`: what is known is enough.
    fn tried(&self) -> Option<u64> {
        let most = self
            .too_large
            .map_or(MOST_ROWS, |rows| (rows - 1).min(MOST_ROWS));
        let Some((top, trial)) = self.done().next_back() else {
            return Some(FIRST_ROWS.min(most.div_ceil(2)).max(1));
        };
        let more = if top * 2 <= most {
            top * 2
        } else {
            top + (most - top).div_ceil(2)
        };
        let is_near = most - top <= top / NEAR && self.too_large.is_some();
        (more > top && !is_near && self.is_worth(top, trial, most.min(top * 2))).then_some(more)
    }

    /// Whether `more` rows are expected to be cheaper than `top`. A call is thought to cost something by itself and something for each
    /// row, which two sizes show.
    fn is_worth(&self, top: u64, trial: Trial, more: u64) -> bool {
        let Some((below, smaller)) = self
            .done()
            .rev()
            .find(|(rows, _)| rows * 2 <= top)
            .or_else(|| self.done().next().filter(|(rows, _)| *rows < top))
        else {
            return true;
        };
        let [top, more, below] = [top, more, below].map(as_f64);
        let [cost, less] = [trial.nanos, smaller.nanos].map(as_f64);
        let of_row = ((cost - less) / (top - below)).max(0.0);
        let fixed = (cost - of_row * top).max(0.0);
        let expected = fixed + of_row * more;
        expected <= 0.0 || cost / top >= PAYS * expected / more
    }

    /// The smallest of the sizes at which rows are cheap.
    fn best(&self) -> u64 {
        let of_row = |(rows, trial): (u64, Trial)| trial.of_row(rows);
        let cheapest = self.done().map(of_row).fold(f64::INFINITY, f64::min);
        let mut good = self.done().filter(|&size| of_row(size) <= ALIKE * cheapest);
        good.next().map_or(FIRST_ROWS, |(rows, _)| rows)
    }

    /// The sizes of which enough is known, the smallest first: of the first size one call, as none is smaller to choose.
    fn done(&self) -> impl DoubleEndedIterator<Item = (u64, Trial)> {
        let mut before: Option<f64> = None;
        let mut done = Vec::new();
        for (rows, trial) in self.trials() {
            let of_row = trial.of_row(rows);
            let is_clear = before.is_none_or(|before| of_row * CLEAR <= before);
            before = Some(before.map_or(of_row, |before| before.min(of_row)));
            if is_clear || trial.is_done() {
                done.push((rows, trial));
            }
        }
        done.into_iter()
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sizes that are tried at most: each doubles the rows, or halves what is left between two bounds.
    const MOST_STEPS: u64 = 32;

    /// Calls until nothing else is tried; batches above `fits` run out of memory.
    fn settled(mut learned: Learned, cost: impl Fn(u64) -> u64, fits: u64) -> Learned {
        for _ in 0..MOST_STEPS * (CALLS + 1) {
            if learned.is_settled() {
                return learned;
            }
            let rows = learned.rows();
            if rows > fits {
                learned.ran_out_of_memory(rows);
            } else {
                learned.called(rows, cost(rows));
            }
        }
        panic!("goes on for ever: {learned:?}");
    }

    /// What the size that is chosen makes of the time that the best one would take; batches above `fits` do not fit.
    fn share_of_best(fixed: u64, of_row: u64, fits: u64) -> f64 {
        let cost = |rows: u64| fixed + of_row * rows;
        let rows = settled(Learned::default(), cost, fits).rows();
        assert!(rows <= fits);
        let best = fits.min(MOST_ROWS);
        (as_f64(cost(best)) / as_f64(best)) / (as_f64(cost(rows)) / as_f64(rows))
    }

    /// Where calls cost nearly the same whatever they have: sizes just below what does not fit.
    #[test]
    fn size_is_looked_for_until_an_eighth_is_left() {
        for fits in 1..200 {
            let share = share_of_best(4_000_000, 1, fits);
            assert!(share >= 0.85, "of {fits}: {share}");
        }
    }

    proptest! {
        /// The goal: at least 85 % of the best fixed size.
        #[test]
        fn chosen_size_is_nearly_as_good_as_the_best(fixed in 0u64..10_000_000, of_row in 1u64..100_000, fits in 1u64..20_000) {
            let share = share_of_best(fixed, of_row, fits);
            prop_assert!(share >= 0.85, "{share}");
        }

        #[test]
        fn whoever_hears_what_two_know_chooses_alike(one in 1u64..4000, other in 1u64..4000, fixed in 0u64..1_000_000) {
            let cost = |rows: u64| fixed + 1000 * rows;
            let (one, other) = (settled(Learned::default(), cost, one), settled(Learned::default(), cost, other));
            let mut both = one.clone();
            both.learn(&other);
            let mut turned = other.clone();
            turned.learn(&one);
            turned.learn(&other);
            prop_assert_eq!(both, turned);
        }
    }

    #[test]
    fn batches_grow_only_while_that_pays() {
        // A device that computes 64 rows at once: no call is cheaper, and more rows are no quicker.
        let learned = settled(Learned::default(), |rows| 1000 * rows.div_ceil(64), 100_000);
        assert_eq!(learned.rows(), 64);
    }

    #[test]
    fn size_that_did_not_fit_is_not_tried_again() {
        let mut learned = settled(Learned::default(), |_| 1000, 1000);
        assert!((889..=1000).contains(&learned.rows()), "{learned:?}");
        learned.ran_out_of_memory(learned.rows());
        let rows = learned.rows();
        assert!(rows < learned.too_large().expect("known"), "{learned:?}");
    }

    #[test]
    fn first_batch_may_be_too_large_too() {
        let learned = settled(Learned::default(), |rows| 1000 + rows, 1);
        assert_eq!(learned.rows(), 1);
    }

    #[test]
    fn call_that_was_disturbed_says_nothing() {
        let mut calls = 0;
        let mut learned = Learned::default();
        while !learned.is_settled() {
            calls += 1;
            let cost = 100_000 + 1000 * learned.rows();
            learned.called(learned.rows(), if calls % 3 == 0 { cost * 5 } else { cost });
        }
        assert!(learned.rows() >= 512, "{learned:?}");
    }
}
