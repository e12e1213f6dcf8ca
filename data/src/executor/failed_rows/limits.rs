//! How many rows may fail.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use super::{FailedRows, StepState};
use crate::plan::{OnError, share_exceeds};

/// Before so many rows have come to a step, their share says little, where nobody knows how many there will be.
const ROWS_OF_A_SHARE: u64 = 1000;

/// Rows of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) rows_in: u64,
    pub(super) rows: u64,
    pub(super) batches: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.rows_in += other.rows_in;
        self.rows += other.rows;
        self.batches += other.batches;
    }
}

impl Counts {
    /// Those that came have come.
    pub(super) fn forget_failures(&mut self) {
        *self = Self {
            rows_in: self.rows_in,
            ..Self::default()
        };
    }
}

impl FailedRows {
    /// Fails if more rows have failed than may. `is_end`: all rows have come.
    pub(in crate::executor) fn check(&self, is_end: bool) -> Result<(), TaskFailure> {
        for (stage, steps) in self.steps.iter().enumerate() {
            for (number, step) in (0..).zip(steps) {
                if step.policy.loses_rows() {
                    let counts = self.counts(stage, number);
                    step.check(counts, self.rows_expected(counts, is_end))?;
                }
            }
        }
        Ok(())
    }

    /// What the share of failed rows is held against; `None`: too early to tell.
    fn rows_expected(&self, counts: Counts, is_end: bool) -> Option<u64> {
        match self.source_rows {
            _ if is_end => Some(counts.rows_in),
            // It fails when it cannot hold any more, whatever the other rows do.
            Some(rows) => Some(rows.max(counts.rows_in)),
            None => Some(counts.rows_in).filter(|&rows| rows >= ROWS_OF_A_SHARE),
        }
    }

    /// With those of inputs that are not used up.
    pub(super) fn counts(&self, stage: usize, step: u32) -> Counts {
        let mut counts = self.steps[stage][step as usize].counts;
        let of_stage = self.inputs.iter().filter(|((of, _), _)| *of == stage);
        for pending in of_stage.filter_map(|(_, rows)| rows.counts.get(&step)) {
            counts.add(pending);
        }
        counts
    }
}

impl StepState {
    fn check(&self, counts: Counts, expected: Option<u64>) -> Result<(), TaskFailure> {
        let Counts { rows, batches, .. } = counts;
        if let Some(most) = self.policy.max_errors.filter(|&most| rows > most) {
            return Err(self.too_many(counts, &format!("more than max_errors={most}")));
        }
        if let Some(most) = self
            .policy
            .max_errored_batches
            .filter(|&most| batches > most)
        {
            let limit = format!("max_errored_blocks={most}");
            return Err(self.too_many(counts, &format!("in {batches} batches, more than {limit}")));
        }
        let ratio = self.policy.max_error_ratio.map(f64::from_bits);
        let is_beyond = |most: f64| expected.is_some_and(|all| share_exceeds(rows, all, most));
        match ratio {
            Some(most) if is_beyond(most) => {
                Err(self.too_many(counts, &format!("more than max_error_ratio={most}")))
            }
            _ => Ok(()),
        }
    }

    fn too_many(&self, counts: Counts, beyond: &str) -> TaskFailure {
        let Counts { rows_in, rows, .. } = counts;
        let failed = if rows == 1 { "row has" } else { "rows have" };
        let look = match self.policy.on_error() {
            OnError::DeadLetter => "See ds.dead_letters() for the rows that failed so far",
            OnError::Skip | OnError::Raise => {
                "With on_error=\"dead_letter\", ds.dead_letters() would give the rows that failed"
            }
        };
        TaskFailure::new(
            ErrorCode::Application,
            format!(
                "{}: {rows} {failed} failed of the {rows_in} that came so far, {beyond} allows. The last of them: {}. {look}",
                self.name,
                one_line(&self.last)
            ),
        )
    }
}

/// Enough of a message to know it by.
fn one_line(text: &str) -> String {
    const MOST: usize = 300;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= MOST {
        return line.to_owned();
    }
    let begin: String = line.chars().take(MOST).collect();
    format!("{begin}...")
}
