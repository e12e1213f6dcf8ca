//! Batches of the size that a function wants.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::sizes::{Filling, Limits, RowSize, Scale};
use crate::block::data_bytes;
use crate::operators::stream::BatchStream;

/// With no batch size asked for, rows of a slow function wait so long at most for others that come to the next with them.
const PATIENCE: Duration = Duration::from_millis(20);
/// With no batch size asked for, smaller batches than this are put together.
const SMALL_BATCH_BYTES: u64 = 1 << 20;

/// Puts batches together and cuts them, without copying where one batch serves.
pub(super) struct Rebatch {
    input: Box<dyn BatchStream>,
    /// How long rows are held at most, if that matters.
    patience: Option<Duration>,
    waits_since: Option<Instant>,
    rows: Option<usize>,
    /// Budgets of a batch, if there are any.
    budget: Option<Budget>,
    enough_bytes: u64,
    held: VecDeque<RecordBatch>,
    held_rows: usize,
    is_over: bool,
}

/// Cuts batches where they are full.
struct Budget {
    limits: Limits,
    scale: Scale,
    /// Of the rows that are held.
    sizes: VecDeque<RowSize>,
    /// The first of these, as far as they were looked at.
    filling: Filling,
    is_full: bool,
}

impl Budget {
    fn add(&mut self, batch: &RecordBatch) -> Result<(), TaskFailure> {
        self.sizes.extend(self.scale.measure(batch)?);
        self.fill();
        Ok(())
    }

    fn fill(&mut self) {
        while !self.is_full
            && let Some(&size) = self.sizes.get(self.rows())
        {
            self.is_full = !self.limits.take(&mut self.filling, size);
        }
        self.is_full |= self.limits.are_reached(&self.filling);
    }

    /// Rows of the next batch.
    fn rows(&self) -> usize {
        usize::try_from(self.filling.rows).unwrap_or(usize::MAX)
    }

    fn taken(&mut self, rows: usize) {
        self.sizes.drain(..rows);
        self.filling = Filling::default();
        self.is_full = false;
        self.fill();
    }
}

impl Rebatch {
    /// Batches of `rows` rows of `input`; `None`: of whatever size there is. `is_patient`: then rows are not held for long.
    pub(super) fn new(
        input: Box<dyn BatchStream>,
        rows: Option<u64>,
        block_bytes: u64,
        is_patient: bool,
    ) -> Self {
        let rows = rows.map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
        Self {
            input,
            patience: is_patient.then_some(PATIENCE),
            waits_since: None,
            rows: rows.filter(|&rows| rows > 0),
            budget: None,
            enough_bytes: SMALL_BATCH_BYTES.min(block_bytes),
            held: VecDeque::new(),
            held_rows: 0,
            is_over: false,
        }
    }

    /// The same with batches that are cut where they have reached a limit.
    pub(super) fn within(self, limits: Limits, scale: Scale) -> Self {
        let budget = Budget {
            limits,
            scale,
            sizes: VecDeque::new(),
            filling: Filling::default(),
            is_full: false,
        };
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// The next batch; `None`: there are no more rows.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        while !self.is_over && !self.is_enough() {
            match self.input.next()? {
                // Other columns than before end a batch, see `take`.
                Some(batch) => {
                    if let Some(budget) = &mut self.budget {
                        budget.add(&batch)?;
                    }
                    self.waits_since = self.waits_since.or_else(|| Some(Instant::now()));
                    self.held_rows += batch.num_rows();
                    self.held.push_back(batch);
                }
                None => self.is_over = true,
            }
        }
        self.take()
    }

    fn is_enough(&self) -> bool {
        let is_mixed = match (self.held.front(), self.held.back()) {
            (Some(first), Some(last)) => first.schema() != last.schema(),
            _ => false,
        };
        is_mixed
            || match (&self.budget, self.rows) {
                (Some(budget), _) => budget.is_full,
                (None, Some(rows)) => self.held_rows >= rows,
                (None, None) => {
                    self.held.iter().map(data_bytes).sum::<u64>() >= self.enough_bytes
                        || self.has_waited()
                }
            }
    }

    fn has_waited(&self) -> bool {
        match (self.patience, self.waits_since) {
            (Some(patience), Some(since)) => since.elapsed() >= patience,
            _ => false,
        }
    }

    /// As its input's, if it holds no rows.
    pub(super) fn position(&self) -> Option<u64> {
        self.held.is_empty().then(|| self.input.position())?
    }

    fn take(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        self.waits_since = None;
        let Some(first) = self.held.front() else {
            return Ok(None);
        };
        let schema = first.schema();
        let wanted = match &self.budget {
            Some(budget) if self.held_rows > 0 => budget.rows(),
            _ => self.rows.unwrap_or(usize::MAX),
        };
        let mut parts = Vec::new();
        let mut rows = 0;
        while rows < wanted
            && let Some(batch) = self.held.pop_front()
        {
            if batch.schema() != schema {
                self.held.push_front(batch);
                break;
            }
            let length = batch.num_rows().min(wanted - rows);
            if length < batch.num_rows() {
                self.held
                    .push_front(batch.slice(length, batch.num_rows() - length));
            }
            rows += length;
            parts.push(batch.slice(0, length));
        }
        self.held_rows -= rows;
        if let Some(budget) = &mut self.budget {
            budget.taken(rows);
        }
        if parts.len() == 1 {
            return Ok(parts.pop());
        }
        concat_batches(&schema, &parts).map(Some).map_err(|error| {
            TaskFailure::new(
                ErrorCode::Internal,
                format!("put batches together: {error}"),
            )
        })
    }
}
