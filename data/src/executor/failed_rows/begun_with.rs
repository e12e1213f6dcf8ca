//! How many rows calls had at most in the attempts that inputs were begun with.
//!
//! Kept for all inputs of a job, as blocks of any may have to be made again. Neighbours are begun with the same limits, as a rule: what
//! is kept are the places where these change, and each set of limits once.

use std::collections::{BTreeMap, HashMap};

use super::InputKey;
use crate::wire::failing::MostRows;

/// The limits that inputs were begun with.
#[derive(Default)]
pub(super) struct BegunWith {
    /// All that there have been.
    limits: Vec<Vec<MostRows>>,
    /// Of each stage: from this input on up to the next one that is named, which of them; `None`: none.
    runs: HashMap<usize, BTreeMap<u64, Option<usize>>>,
}

impl BegunWith {
    /// Those of an input.
    pub(super) fn get(&self, (stage, sequence): InputKey) -> &[MostRows] {
        let run = self.run_at(stage, Some(sequence));
        run.map_or(&[], |number| &self.limits[number])
    }

    /// The input is begun with these, and not with those that it was begun with before.
    pub(super) fn set(&mut self, (stage, sequence): InputKey, limits: &[MostRows]) {
        let number = self.number_of(limits);
        if self.run_at(stage, Some(sequence)) == number {
            return;
        }
        let before = self.run_at(stage, sequence.checked_sub(1));
        let behind = self.run_at(stage, sequence.checked_add(1));
        let runs = self.runs.entry(stage).or_default();
        let mut begins = |at: u64, number, before| {
            if number == before {
                runs.remove(&at);
            } else {
                runs.insert(at, number);
            }
        };
        begins(sequence, number, before);
        if let Some(next) = sequence.checked_add(1) {
            begins(next, behind, number);
        }
    }

    fn run_at(&self, stage: usize, sequence: Option<u64>) -> Option<usize> {
        let (_, number) = self.runs.get(&stage)?.range(..=sequence?).next_back()?;
        *number
    }

    fn number_of(&mut self, limits: &[MostRows]) -> Option<usize> {
        if limits.is_empty() {
            return None;
        }
        // Limits only become smaller: the same ones are the last.
        let known = self.limits.iter().rposition(|known| known == limits);
        Some(known.unwrap_or_else(|| {
            self.limits.push(limits.to_vec());
            self.limits.len() - 1
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(rows: u64) -> Vec<MostRows> {
        match rows {
            0 => Vec::new(),
            rows => vec![MostRows { step: 0, rows }],
        }
    }

    #[test]
    fn inputs_one_after_another_take_no_more_than_a_few() {
        let mut begun = BegunWith::default();
        for sequence in 0..100_000 {
            begun.set((1, sequence), &of(1 + u64::from(sequence < 1000)));
        }
        assert_eq!(begun.get((1, 999)), of(2));
        assert_eq!(begun.get((1, 1000)), of(1));
        assert_eq!(begun.get((1, 100_000)), [], "nobody has begun it");
        assert_eq!(begun.get((0, 7)), [], "of another stage");
        assert_eq!(begun.limits.len(), 2);
        assert_eq!(begun.runs[&1].len(), 3);
    }

    proptest! {
        #[test]
        fn each_input_has_what_it_was_begun_with_last(begins in prop::collection::vec((0u64..20, 0u64..4), 0..60)) {
            let mut begun = BegunWith::default();
            let mut each = HashMap::new();
            for (sequence, rows) in begins {
                begun.set((0, sequence), &of(rows));
                each.insert(sequence, rows);
                for sequence in 0..22 {
                    let rows = each.get(&sequence).copied().unwrap_or(0);
                    prop_assert_eq!(begun.get((0, sequence)), of(rows));
                }
            }
            let runs = begun.runs.get(&0).map(|runs| runs.values().collect::<Vec<_>>()).unwrap_or_default();
            prop_assert!(runs.windows(2).all(|pair| pair[0] != pair[1]), "no run is cut in vain");
        }
    }
}
