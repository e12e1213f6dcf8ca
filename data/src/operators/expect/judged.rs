//! What expectations have found in one input, and what of it was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::block;
use crate::operators::failing::TOLD_AFTER;
use crate::operators::failing::letters::{place_of, row_of, together};
use crate::sources::Position;
use crate::wire::expect::Judged;
use crate::wire::failing::JudgedBefore;

/// Rows of an input that are told as examples, of each expectation.
pub(crate) const EXAMPLES: usize = 5;

/// By step.
#[derive(Default)]
pub(crate) struct Judgements(Mutex<BTreeMap<u32, Tally>>);

#[derive(Default)]
struct Tally {
    rows: u64,
    violations: u64,
    /// Those of them that are noted with rows that have come out.
    noted: (u64, u64),
    /// How many there were so far.
    examples: usize,
    untold: Vec<Example>,
    has_changed: bool,
    /// Nothing more comes.
    is_over: bool,
    /// Since when there is something that may end the job.
    since: Option<Instant>,
}

/// A row that an expectation does not hold for.
pub(super) struct Example {
    number: u64,
    row: RecordBatch,
}

impl Example {
    /// The row at a place of a batch. `number`: among the rows that came to the step from this input; `input_row`: the same, if it
    /// tells which row it is.
    pub(super) fn new(
        (batch, at): (&RecordBatch, usize),
        number: u64,
        position: Option<&Position>,
        input: u64,
        input_row: Option<u64>,
    ) -> Result<Self, TaskFailure> {
        let place: ArrayRef = Arc::new(place_of(position, input, input_row));
        let columns = [("row", row_of(batch, at, number)?), ("position", place)];
        let row = RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, column)| (name, column, true)),
        );
        let row = row.map_err(|error| {
            let text = format!("write down a row that violates an expectation: {error}");
            TaskFailure::new(ErrorCode::Internal, text)
        })?;
        Ok(Self { number, row })
    }
}

impl Judgements {
    /// Of an input of which an earlier run has judged so much, and noted it.
    pub(crate) fn behind(before: &[JudgedBefore]) -> Self {
        let tallies = before.iter().map(|one| {
            let tally = Tally {
                rows: one.rows,
                violations: one.violations,
                noted: (one.rows, one.violations),
                has_changed: true,
                ..Tally::default()
            };
            (one.operator, tally)
        });
        Self(Mutex::new(tallies.collect()))
    }

    /// Of expectations behind this operator: rows, and those that violate them, since this was last asked.
    pub(crate) fn take_unnoted(&self, behind: u32) -> Vec<(u32, u64, u64)> {
        let mut all = self.0.lock();
        let behind = all.iter_mut().filter(|(operator, _)| **operator > behind);
        let news = behind.filter_map(|(&operator, tally)| {
            let now = (tally.rows, tally.violations);
            let before = std::mem::replace(&mut tally.noted, now);
            (now.0 > before.0).then(|| (operator, now.0 - before.0, now.1 - before.1))
        });
        news.collect()
    }

    /// Counts rows that came. `examples` makes as many of them as are wanted, given the number of the first row: what is told has both, also
    /// where another thread ends the job. Gives the violations so far.
    pub(super) fn count(
        &self,
        operator: u32,
        (rows, violations): (u64, u64),
        hurries: bool,
        examples: impl FnOnce(u64, usize) -> Result<Vec<Example>, TaskFailure>,
    ) -> Result<u64, TaskFailure> {
        let mut all = self.0.lock();
        let tally = all.entry(operator).or_default();
        let first = tally.rows;
        tally.rows += rows;
        tally.violations += violations;
        tally.has_changed |= rows > 0;
        if hurries {
            tally.since = tally.since.or_else(|| Some(Instant::now()));
        }
        let new = usize::try_from(violations).unwrap_or(usize::MAX);
        let wanted = new.min(EXAMPLES - tally.examples);
        if wanted > 0 {
            let made = examples(first, wanted)?;
            tally.examples += made.len();
            tally.untold.extend(made);
        }
        Ok(tally.violations)
    }

    /// Nothing more comes to the step.
    pub(super) fn end(&self, operator: u32) {
        let mut all = self.0.lock();
        let tally = all.entry(operator).or_default();
        tally.is_over = true;
        tally.has_changed = true;
    }

    /// Whether it is time to tell.
    pub(crate) fn is_due(&self) -> bool {
        let all = self.0.lock();
        let mut since = all.values().filter_map(|tally| tally.since);
        since.any(|since| since.elapsed() >= TOLD_AFTER)
    }

    /// What has changed since this was last asked.
    pub(crate) fn take_changed(&self) -> Result<Vec<Judged>, TaskFailure> {
        let mut all = self.0.lock();
        let changed = all.iter_mut().filter(|(_, tally)| tally.has_changed);
        changed
            .map(|(&operator, tally)| tally.told(operator))
            .collect()
    }
}

fn encoded(rows: &RecordBatch) -> Result<Bytes, TaskFailure> {
    block::encode(&rows.schema(), std::slice::from_ref(rows)).map_err(|error| {
        let text = format!("write down rows that violate an expectation: {error}");
        TaskFailure::new(ErrorCode::Internal, text)
    })
}

impl Tally {
    fn told(&mut self, operator: u32) -> Result<Judged, TaskFailure> {
        self.has_changed = false;
        self.since = None;
        let untold = std::mem::take(&mut self.untold);
        let (mut numbers, rows): (Vec<u64>, Vec<RecordBatch>) = untold
            .into_iter()
            .map(|example| (example.number, example.row))
            .unzip();
        let first = rows.first().cloned();
        let examples = match (together(rows)?.as_slice(), first) {
            (_, None) => Bytes::new(),
            ([all], _) => encoded(all)?,
            // Their columns do not go together.
            (_, Some(first)) => {
                numbers.truncate(1);
                encoded(&first)?
            }
        };
        Ok(Judged {
            operator,
            rows: self.rows,
            violations: self.violations,
            numbers,
            examples,
            is_over: self.is_over,
        })
    }
}
