//! What is known of the rows of an input that is not used up, of those that an earlier run has noted, too.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::blame::Blame;
use super::limits::Counts;
use super::{FailedRows, InputKey, StepState};
use crate::ledger::{FoundInRows, LeftOutByStep};
use crate::wire::failing::{CameBefore, FailingSpec, JudgedBefore, StepRow, ToldRows};

/// What is known of the rows of one input.
#[derive(Default)]
pub(super) struct InputRows {
    pub(super) told: BTreeSet<StepRow>,
    pub(super) blame: Blame,
    /// Of attempts that died, and of the one that is under way: they count when the input is used up. Rows that came to a step are
    /// those of the attempt that came furthest.
    pub(super) counts: HashMap<u32, Counts>,
    pub(super) letters: Vec<(u32, Bytes)>,
    /// By step: what an earlier run has left out of rows that it noted, which is counted above.
    noted: Vec<(u32, LeftOutByStep)>,
    /// What expectations had found in such rows.
    judged_before: Vec<JudgedBefore>,
}

impl FailedRows {
    /// What an earlier run has found in rows of the input that it noted counts with what is found of the others.
    pub(in crate::executor) fn take_noted(&mut self, input: InputKey, noted: FoundInRows) {
        if noted.is_empty() || self.inputs.contains_key(&input) {
            return;
        }
        let before = u32::try_from(self.steps_before(input.0)).unwrap_or(u32::MAX);
        let rows = self.inputs.entry(input).or_default();
        for judged in noted.judged {
            rows.judged_before
                .extend(
                    judged
                        .operator
                        .checked_sub(before)
                        .map(|operator| JudgedBefore {
                            operator,
                            rows: judged.rows,
                            violations: judged.violations,
                        }),
                );
        }
        for left_out in noted.left_out {
            let step = left_out.step.checked_sub(before);
            let known = step.and_then(|step| self.steps[input.0].get_mut(step as usize));
            let Some((step, known)) = step.zip(known) else {
                continue;
            };
            if !left_out.last.is_empty() {
                known.last.clone_from(&left_out.last);
            }
            rows.noted.push((step, left_out));
        }
        rows.count_noted(0);
    }
}

impl InputRows {
    /// What was told of steps behind this one: their rows may have other numbers in another attempt, which finds them again.
    pub(super) fn forget_behind(&mut self, first: u32) {
        self.told.retain(|row| row.step <= first);
        let behind = self.counts.iter_mut().filter(|(step, _)| **step > first);
        behind.for_each(|(_, counts)| counts.forget_failures());
        self.letters.retain(|&(step, _)| step <= first);
        self.count_noted(first + 1);
    }

    /// What an attempt must know of rows that are noted, which do not come to it.
    pub(super) fn tell_noted(&self, spec: &mut FailingSpec) {
        let came = self.noted.iter().map(|(step, noted)| CameBefore {
            step: *step,
            rows: noted.rows_in,
        });
        spec.came = came.collect();
        spec.judged_before.clone_from(&self.judged_before);
    }

    /// Counts what is noted of this step and those behind.
    fn count_noted(&mut self, first: u32) {
        for (step, noted) in self.noted.iter().filter(|(step, _)| *step >= first) {
            let counts = self.counts.entry(*step).or_default();
            counts.rows_in = counts.rows_in.max(noted.rows_in);
            counts.rows += noted.rows;
            counts.batches += noted.batches;
            let letters = noted.letters.iter().map(|stream| (*step, stream.clone()));
            self.letters.extend(letters);
        }
    }

    /// What is kept of steps that may lose rows, of which so many come before this stage.
    pub(super) fn left_out(&self, steps: &[StepState], before: usize) -> Vec<LeftOutByStep> {
        let losing = (0..)
            .zip(steps)
            .filter(|(_, step)| step.policy.loses_rows());
        let of_step = |(number, step): (u32, &StepState)| {
            let counts = self.counts.get(&number).copied().unwrap_or_default();
            let letters = self.letters.iter().filter(|(step, _)| *step == number);
            LeftOutByStep {
                step: u32::try_from(before).unwrap_or(u32::MAX) + number,
                rows_in: counts.rows_in,
                rows: counts.rows,
                batches: counts.batches,
                last: if counts.rows > 0 {
                    step.last.clone()
                } else {
                    String::new()
                },
                letters: letters.map(|(_, stream)| stream.clone()).collect(),
            }
        };
        losing.map(of_step).collect()
    }

    pub(super) fn hear(&mut self, told: &ToldRows) {
        let step = told.step;
        self.told
            .extend(told.rows.iter().map(|&row| StepRow { step, row }));
        let counts = self.counts.entry(step).or_default();
        counts.rows += told.rows.len() as u64;
        counts.batches += told.batches;
        if !told.letters.is_empty() {
            self.letters.push((step, told.letters.clone()));
        }
    }
}
