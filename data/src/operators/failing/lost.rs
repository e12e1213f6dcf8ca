//! Which rows steps have lost, as short signs: rows behind them have the numbers that they had if the signs are the same.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::Mutex;

/// A sign by step: of the rows that were left out of the batches that it has handed on. It does not depend on the order in which
/// they were found.
#[derive(Default)]
pub(super) struct Lost(Mutex<BTreeMap<u32, u64>>);

/// By batch, a sign of the rows that a step has left out.
#[derive(Default)]
pub(super) struct LostOfStep(BTreeMap<u64, u64>);

impl Lost {
    /// Of all steps before this one.
    pub(super) fn before(&self, step: u32) -> u64 {
        let lost = self.0.lock();
        let of_step = |(step, sign): (&u32, &u64)| {
            if *sign == 0 {
                0
            } else {
                sign_of(&(step, sign))
            }
        };
        lost.range(..step).map(of_step).fold(0, u64::wrapping_add)
    }

    /// The step has handed on what is left of batches, of which these rows are lost.
    pub(super) fn add(&self, step: u32, sign: u64) {
        let mut lost = self.0.lock();
        let all = lost.entry(step).or_default();
        *all = all.wrapping_add(sign);
    }
}

impl LostOfStep {
    pub(super) fn add(&mut self, batch: u64, row: u64) {
        let sign = self.0.entry(batch).or_default();
        *sign = sign.wrapping_add(sign_of(&row));
    }

    /// Those of batches up to this one.
    pub(super) fn take(&mut self, batch: u64) -> u64 {
        let later = self.0.split_off(&(batch + 1));
        let earlier = std::mem::replace(&mut self.0, later);
        earlier.into_values().fold(0, u64::wrapping_add)
    }
}

fn sign_of(thing: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    thing.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found at once, or told by an earlier attempt while a batch before it was under way.
    #[test]
    fn the_same_rows_give_the_same_sign_in_whatever_order_they_are_lost() {
        let (found, told) = (Lost::default(), Lost::default());
        let mut of_step = LostOfStep::default();
        of_step.add(0, 3);
        found.add(1, of_step.take(0));
        of_step.add(1, 20);
        of_step.add(1, 18);
        found.add(1, of_step.take(1));
        for row in [18, 20] {
            of_step.add(1, row);
        }
        of_step.add(0, 3);
        told.add(1, of_step.take(0));
        assert_ne!(told.before(2), found.before(2), "a batch is not handed on");
        told.add(1, of_step.take(1));
        assert_eq!(told.before(2), found.before(2));
        assert_eq!((told.before(1), told.before(0)), (0, 0));
        told.add(1, sign_of(&21u64));
        assert_ne!(told.before(2), found.before(2));
    }
}
