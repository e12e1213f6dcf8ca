//! What steps have left out of batches that they have handed on: what goes into a journal with the rows that are left.

use std::collections::BTreeMap;

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use parking_lot::Mutex;

use super::letters;
use crate::ledger::LeftOutByStep;

/// By step.
#[derive(Default)]
pub(super) struct HandedOn(Mutex<BTreeMap<u32, StepFound>>);

/// Of one step, by batch: what was found of those that were not handed on yet.
#[derive(Default)]
pub(super) struct FoundOfStep(BTreeMap<u64, StepFound>);

#[derive(Default)]
struct StepFound {
    rows_in: u64,
    rows: u64,
    batches: u64,
    last: String,
    letters: Vec<RecordBatch>,
}

impl FoundOfStep {
    /// A batch has come.
    pub(super) fn came(&mut self, batch: u64, rows: u64) {
        self.0.entry(batch).or_default().rows_in += rows;
    }

    /// A row of it is left out. `is_first`: of its batch.
    pub(super) fn add(
        &mut self,
        batch: u64,
        is_first: bool,
        letter: Option<RecordBatch>,
        last: &str,
    ) {
        let found = self.0.entry(batch).or_default();
        found.rows += 1;
        found.batches += u64::from(is_first);
        found.letters.extend(letter);
        last.clone_into(&mut found.last);
    }

    /// All that was found of batches up to this one.
    fn take(&mut self, batch: u64) -> impl Iterator<Item = StepFound> {
        let later = self.0.split_off(&(batch + 1));
        std::mem::replace(&mut self.0, later).into_values()
    }
}

impl HandedOn {
    /// The step has handed on what is left of batches up to this one.
    pub(super) fn add(&self, step: u32, found: &mut FoundOfStep, batch: u64) {
        let mut all = self.0.lock();
        let known = all.entry(step).or_default();
        for more in found.take(batch) {
            known.rows_in += more.rows_in;
            known.rows += more.rows;
            known.batches += more.batches;
            known.letters.extend(more.letters);
            if more.rows > 0 {
                known.last = more.last;
            }
        }
    }

    /// What has been handed on since this was last asked. `before`: so many steps are in stages before.
    pub(super) fn take(&self, before: u32) -> Result<Vec<LeftOutByStep>, TaskFailure> {
        let all = std::mem::take(&mut *self.0.lock());
        let told = all.into_iter().map(|(step, found)| {
            Ok(LeftOutByStep {
                step: before + step,
                rows_in: found.rows_in,
                rows: found.rows,
                batches: found.batches,
                last: found.last,
                letters: letters::encode(found.letters)?,
            })
        });
        told.collect()
    }
}
