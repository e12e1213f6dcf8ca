//! Expectations: every row that comes is judged, and goes on as it is.
//!
//! ```text
//!  batch ─► is it true? ─► counted, some of the others kept as examples ─► told with the next report
//!     └──────────────────► batch
//! ```
//! What is told counts from the beginning of the attempt at the input. So the attempt that uses the input up tells all, and whoever
//! hears it forgets what those before it have told: each row is judged once, whatever dies.

mod judged;

pub(crate) use judged::{EXAMPLES, Judgements};

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;

use super::failing::{FailingInput, passes_pauses};
use super::relational::{BoundExpression, bind_condition};
use super::stream::{BatchStream, is_pause, pause};
use crate::graph::Operator;
use crate::plan::{Expectation, MostViolations};
use crate::sources::Places;
use judged::Example;

/// Judges the rows that come to one step.
pub(crate) struct Judge {
    input: Arc<FailingInput>,
    /// The step, by its place among those of reports.
    operator: u32,
    expectation: Expectation,
    places: Option<Arc<Places>>,
    /// Whether the rows of the input come in order, so that their numbers tell which they are.
    is_ordered: bool,
    /// Streams that its rows come along and that have not come to their end.
    open_streams: Mutex<usize>,
    /// Whether whoever pulls can be given a pause.
    may_pause: bool,
}

impl Judge {
    /// The judge of a step. `places`: where the rows that come to it lie, if that is known. `behind`: the steps behind it.
    pub(crate) fn new(
        input: &Arc<FailingInput>,
        operator: usize,
        expectation: &Expectation,
        places: Option<Arc<Places>>,
        behind: &[Operator],
    ) -> Self {
        Self {
            input: Arc::clone(input),
            operator: u32::try_from(operator).unwrap_or(u32::MAX),
            expectation: expectation.clone(),
            places,
            is_ordered: true,
            open_streams: Mutex::new(1),
            may_pause: behind.iter().all(passes_pauses),
        }
    }

    /// The same, where rows come from several threads, along so many streams.
    pub(crate) fn in_any_order(self, streams: usize) -> Self {
        Self {
            is_ordered: false,
            open_streams: Mutex::new(streams),
            may_pause: false,
            ..self
        }
    }

    /// What is expected, over batches with these columns.
    pub(crate) fn bind(&self, schema: &SchemaRef) -> Result<BoundExpression, TaskFailure> {
        bind_condition("expect()", &self.expectation.expression, schema)
    }

    /// Judges a batch. `first_row`: the number of its first row, as expressions know it. Fails if too many rows of this input alone
    /// violate the expectation.
    pub(crate) fn judge(
        &self,
        batch: &RecordBatch,
        bound: &BoundExpression,
        first_row: i64,
    ) -> Result<(), TaskFailure> {
        let held = bound.evaluate(batch, first_row)?;
        let held = held.as_boolean_opt().ok_or_else(|| {
            TaskFailure::new(ErrorCode::Internal, "an expectation gave no boolean column")
        })?;
        let rows = batch.num_rows() as u64;
        let violations = rows - held.true_count() as u64;
        let hurries = violations > 0 && !self.expectation.only_warns;
        let examples = |first: u64, wanted: usize| {
            let violating = (0..held.len()).filter(|&at| !is_true(held, at));
            violating
                .take(wanted)
                .map(|at| self.example(batch, at, first + at as u64))
                .collect()
        };
        let judgements = &self.input.judgements;
        let counted = judgements.count(self.operator, (rows, violations), hurries, examples)?;
        self.check(counted)
    }

    /// A stream that rows come along has come to its end. Where none does, because nobody asks for the rest, it is not known what would
    /// have come.
    pub(crate) fn ended(&self) {
        let mut open = self.open_streams.lock();
        let is_last = *open == 1;
        *open = open.saturating_sub(1);
        if is_last {
            self.input.judgements.end(self.operator);
        }
    }

    fn example(&self, batch: &RecordBatch, at: usize, number: u64) -> Result<Example, TaskFailure> {
        let position = self.places.as_ref().and_then(|places| places.at(number));
        let input_row = self.is_ordered.then_some(number);
        Example::new(
            (batch, at),
            number,
            position.as_ref(),
            self.input.sequence,
            input_row,
        )
    }

    /// More of this input alone than may be in the whole job end it at once. The driver, to which they are told, says so.
    fn check(&self, violations: u64) -> Result<(), TaskFailure> {
        let is_over = match self.expectation.most {
            MostViolations::Rows(most) => violations > most,
            MostViolations::Share(_) => false,
        };
        if !is_over || self.expectation.only_warns || self.input.is_rerun {
            return Ok(());
        }
        let text = format!("{}: more rows than may violate it", self.expectation.name);
        Err(self
            .input
            .end_by(TaskFailure::new(ErrorCode::Application, text)))
    }
}

fn is_true(held: &BooleanArray, at: usize) -> bool {
    held.is_valid(at) && held.value(at)
}

/// Judges the rows of a stream. `first_row`: the number of the first one, as expressions know it.
pub(crate) fn open(
    judge: Judge,
    input: Box<dyn BatchStream>,
    first_row: i64,
) -> Box<dyn BatchStream> {
    Box::new(ExpectStream {
        judge,
        input,
        next_row: first_row,
        bound: None,
    })
}

struct ExpectStream {
    judge: Judge,
    input: Box<dyn BatchStream>,
    next_row: i64,
    bound: Option<(SchemaRef, BoundExpression)>,
}

impl BatchStream for ExpectStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        if self.judge.may_pause && self.judge.input.is_due() {
            return Ok(Some(pause()));
        }
        let Some(batch) = self.input.next()? else {
            self.judge.ended();
            return Ok(None);
        };
        if is_pause(&batch) {
            return Ok(Some(batch));
        }
        let schema = batch.schema();
        let bound = match self.bound.take() {
            Some((known, bound)) if known == schema => bound,
            _ => self.judge.bind(&schema)?,
        };
        self.judge.judge(&batch, &bound, self.next_row)?;
        self.next_row += i64::try_from(batch.num_rows()).unwrap_or(0);
        self.bound = Some((schema, bound));
        Ok(Some(batch))
    }

    fn passes_on(&self) -> Option<&dyn BatchStream> {
        Some(&*self.input)
    }
}

#[cfg(test)]
mod tests;
