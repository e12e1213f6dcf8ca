//! Numbers as ranges: what is done of a job takes the memory of the gaps in it.

use std::collections::BTreeMap;

/// Ranges that neither overlap nor touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DoneRanges(BTreeMap<u64, u64>);

impl DoneRanges {
    /// Adds `begin..end`.
    pub(crate) fn add(&mut self, begin: u64, end: u64) {
        if begin >= end {
            return;
        }
        let (mut begin, mut end) = (begin, end);
        // Those that begin before its end and end behind its begin, or touch it.
        while let Some((&other, &other_end)) = self.0.range(..=end).next_back() {
            if other_end < begin {
                break;
            }
            self.0.remove(&other);
            begin = begin.min(other);
            end = end.max(other_end);
        }
        self.0.insert(begin, end);
    }

    /// Takes one number out.
    pub(crate) fn remove(&mut self, number: u64) {
        let before = self.0.range(..=number).next_back();
        let Some((begin, end)) = before.map(|(&begin, &end)| (begin, end)) else {
            return;
        };
        if number < end {
            self.0.remove(&begin);
            self.add(begin, number);
            self.add(number + 1, end);
        }
    }

    /// Whether the number is in one of them.
    pub(crate) fn contains(&self, number: u64) -> bool {
        let before = self.0.range(..=number).next_back();
        before.is_some_and(|(_, &end)| number < end)
    }

    /// Whether a number of `begin..end` is in one of them.
    pub(crate) fn overlaps(&self, begin: u64, end: u64) -> bool {
        let before_end = self.0.range(..end).next_back();
        begin < end && before_end.is_some_and(|(_, &other_end)| other_end > begin)
    }

    /// Whether all numbers are.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.get(&0) == Some(&u64::MAX)
    }

    /// How many numbers there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|(begin, end)| end - begin).sum()
    }

    /// Begin and end of each, in order.
    pub(crate) fn flat(&self) -> Vec<u64> {
        self.0
            .iter()
            .flat_map(|(&begin, &end)| [begin, end])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_have_the_numbers_that_were_added_and_touch_nowhere(added in prop::collection::vec((0u64..60, 0u64..9), 0..40)) {
            let mut ranges = DoneRanges::default();
            let mut numbers = BTreeSet::new();
            for (begin, length) in added {
                ranges.add(begin, begin + length);
                numbers.extend(begin..begin + length);
            }
            let has: BTreeSet<u64> = (0..80).filter(|&number| ranges.contains(number)).collect();
            prop_assert_eq!(&has, &numbers);
            prop_assert_eq!(ranges.count(), numbers.len() as u64);
            for number in 0..80 {
                prop_assert_eq!(ranges.overlaps(number, number + 2), has.contains(&number) || has.contains(&(number + 1)));
            }
            let flat = ranges.flat();
            prop_assert!(flat.windows(2).all(|pair| pair[0] < pair[1]));
            for number in numbers {
                ranges.remove(number);
                prop_assert!(!ranges.contains(number));
            }
            prop_assert_eq!(ranges.count(), 0);
        }
    }
}
