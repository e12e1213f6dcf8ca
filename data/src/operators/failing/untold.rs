//! Rows of an input that have failed and that the driver does not know of yet.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use super::letters;
use crate::block::data_bytes;
use crate::wire::failing::ToldRows;

/// They are told after so long, block or none: limits are the driver's, and what a worker dies with must be found anew.
pub(crate) const TOLD_AFTER: Duration = Duration::from_millis(200);
/// Or when their letters are so large.
const ENOUGH_BYTES: u64 = 4 << 20;

/// What is to be told.
#[derive(Default)]
pub(super) struct Untold {
    steps: BTreeMap<u32, Found>,
    since: Option<Instant>,
    letter_bytes: u64,
}

/// Rows of a step.
#[derive(Default)]
struct Found {
    rows: Vec<u64>,
    batches: u64,
    letters: Vec<RecordBatch>,
    operator: String,
    last: String,
}

impl Untold {
    /// A row of a step. `is_first`: of its batch.
    pub(super) fn add(
        &mut self,
        (step, operator): (u32, &str),
        row: u64,
        is_first: bool,
        letter: Option<RecordBatch>,
        last: String,
    ) {
        self.since = self.since.or_else(|| Some(Instant::now()));
        self.letter_bytes += letter.as_ref().map_or(0, data_bytes);
        let found = self.steps.entry(step).or_default();
        found.rows.push(row);
        found.batches += u64::from(is_first);
        found.letters.extend(letter);
        operator.clone_into(&mut found.operator);
        found.last = last;
    }

    /// The name of a step that there is one of, and what it failed with.
    pub(super) fn any(&self) -> Option<(String, String)> {
        let found = self.steps.values().next()?;
        Some((found.operator.clone(), found.last.clone()))
    }

    /// Whether it is time to tell.
    pub(super) fn is_due(&self) -> bool {
        self.letter_bytes >= ENOUGH_BYTES
            || self
                .since
                .is_some_and(|since| since.elapsed() >= TOLD_AFTER)
    }

    /// Of each step, once more for each form of letters.
    pub(super) fn into_told(self) -> Result<Vec<ToldRows>, TaskFailure> {
        let mut told = Vec::new();
        for (step, found) in self.steps {
            let mut letters = letters::encode(found.letters)?.into_iter();
            told.push(ToldRows {
                step,
                rows: found.rows,
                batches: found.batches,
                letters: letters.next().unwrap_or_default(),
                last: found.last.clone(),
            });
            told.extend(letters.map(|letters| ToldRows {
                step,
                letters,
                last: found.last.clone(),
                ..ToldRows::default()
            }));
        }
        Ok(told)
    }
}
