//! The size of the batches of a step, in one worker.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::learned::{Learned, Trial};
use crate::wire::sizes::{SizesSpec, TrialSpec};

/// A sizer outlives the inputs of its worker.
pub(crate) type SharedSizer = Arc<Mutex<Sizer>>;

/// What the calls of a step have shown, here and elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Sizer {
    learned: Learned,
    /// What the driver knows.
    told: Learned,
    /// Calls that ran out of memory since it was told.
    out_of_memory: u64,
}

impl Sizer {
    /// Of `left` rows, how many are to be called next.
    pub(super) fn rows_of(&self, left: usize) -> usize {
        let rows = usize::try_from(self.learned.rows()).unwrap_or(usize::MAX);
        if rows >= left || !self.learned.is_settled() {
            return rows.min(left);
        }
        // So that the last batch is not much smaller than the others.
        left.div_ceil(left.div_ceil(rows))
    }

    /// A call with so many rows has ended well.
    pub(crate) fn called(&mut self, rows: usize, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.learned.called(rows as u64, nanos);
    }

    /// A call ran out of memory.
    pub(crate) fn ran_out_of_memory(&mut self) {
        self.out_of_memory += 1;
    }

    /// So many rows did not fit, and their halves did: it was their number, and not one of them.
    pub(crate) fn is_too_large(&mut self, rows: usize) {
        self.learned.ran_out_of_memory(rows as u64);
    }

    /// Takes what others know.
    pub(crate) fn learn(&mut self, learned: &Learned) {
        self.told.learn(learned);
        self.learned.learn(learned);
    }

    /// What the driver does not know yet, if there is anything.
    pub(crate) fn tell(&mut self, step: u32, device: &str) -> Option<SizesSpec> {
        if self.told == self.learned && self.out_of_memory == 0 {
            return None;
        }
        self.told = self.learned.clone();
        Some(SizesSpec {
            out_of_memory: std::mem::take(&mut self.out_of_memory),
            ..SizesSpec::of(step, device, &self.learned)
        })
    }
}

impl SizesSpec {
    /// What is known of a step on one kind of device.
    pub(crate) fn of(step: u32, device: &str, learned: &Learned) -> Self {
        let trial = |(rows, trial): (u64, Trial)| TrialSpec {
            rows,
            calls: trial.calls,
            nanos: trial.nanos,
        };
        Self {
            step,
            device: device.to_owned(),
            trials: learned.trials().map(trial).collect(),
            too_large: learned.too_large(),
            out_of_memory: 0,
        }
    }

    /// The same as it is used.
    pub(crate) fn learned(&self) -> Learned {
        let trial = |spec: &TrialSpec| {
            let TrialSpec { rows, calls, nanos } = *spec;
            (rows, Trial { calls, nanos })
        };
        Learned::new(self.trials.iter().map(trial), self.too_large)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_evenly_when_the_size_is_known() {
        let trial = |nanos| Trial { calls: 3, nanos };
        let sizer = Sizer {
            learned: Learned::new([(8, trial(1000)), (16, trial(2000))], None),
            ..Sizer::default()
        };
        assert!(sizer.learned.is_settled());
        assert_eq!(
            (sizer.rows_of(100), sizer.rows_of(9), sizer.rows_of(8)),
            (8, 5, 8)
        );
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut sizer = Sizer::default();
        assert!(sizer.tell(0, "CPU").is_none());
        sizer.called(8, Duration::from_millis(1));
        let told = sizer.tell(0, "CPU").expect("has learned something");
        assert_eq!(told.learned(), sizer.learned);
        assert!(sizer.tell(0, "CPU").is_none());
        sizer.ran_out_of_memory();
        assert_eq!(sizer.tell(0, "CPU").expect("counts").out_of_memory, 1);
    }
}
