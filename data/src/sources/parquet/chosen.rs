//! Rows that a predicate has left of batches, as batches that are worth the work: a few of each would cost every step as much as many.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{BatchCoalescer, filter_record_batch};
use arrow::error::ArrowError;

/// Those of one run.
pub(super) struct ChosenRows {
    batch_rows: usize,
    /// `None`: there were no rows yet.
    waiting: Option<BatchCoalescer>,
    /// A batch without columns, which is nothing but its number of rows.
    counted: Option<RecordBatch>,
}

impl ChosenRows {
    /// None yet. `batch_rows`: how many a batch shall have. `row_limit`: more are not needed, and with so many nobody waits for others.
    pub(super) fn new(batch_rows: u64, row_limit: Option<usize>) -> Self {
        let batch_rows = usize::try_from(batch_rows).unwrap_or(usize::MAX);
        Self {
            batch_rows: batch_rows.min(row_limit.unwrap_or(usize::MAX)).max(1),
            waiting: None,
            counted: None,
        }
    }

    /// Adds the rows of a batch for which the mask is true.
    pub(super) fn add(
        &mut self,
        batch: RecordBatch,
        mask: &BooleanArray,
    ) -> Result<(), TaskFailure> {
        if batch.num_columns() == 0 {
            let chosen = filter_record_batch(&batch, mask).map_err(|error| failure(&error))?;
            self.counted = Some(chosen);
            return Ok(());
        }
        let rows = self.batch_rows;
        let waiting = self.waiting.get_or_insert_with(|| {
            // A batch of which nothing is left out is not copied.
            BatchCoalescer::new(batch.schema(), rows)
                .with_biggest_coalesce_batch_size(Some(rows / 2))
        });
        waiting
            .push_batch_with_filter(batch, mask)
            .map_err(|error| failure(&error))
    }

    /// A batch that is full.
    pub(super) fn next(&mut self) -> Option<RecordBatch> {
        self.counted
            .take()
            .or_else(|| self.waiting.as_mut()?.next_completed_batch())
    }

    /// What is left, when no more rows come.
    pub(super) fn rest(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        let Some(mut waiting) = self.waiting.take() else {
            return Ok(None);
        };
        waiting
            .finish_buffered_batch()
            .map_err(|error| failure(&error))?;
        Ok(waiting.next_completed_batch())
    }
}

fn failure(error: &ArrowError) -> TaskFailure {
    let text = format!("leave rows out of a batch: {error}");
    TaskFailure::new(ErrorCode::Internal, text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn numbers(first: i64) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + 100));
        RecordBatch::try_from_iter([("id", ids)]).expect("is one column")
    }

    /// True for one row of a hundred, and unknown for another one.
    fn mask() -> BooleanArray {
        let is_chosen = |row| match row {
            7 => Some(true),
            8 => None,
            _ => Some(false),
        };
        (0..100).map(is_chosen).collect()
    }

    fn ids(batch: &RecordBatch) -> Vec<i64> {
        crate::testing::ids(std::slice::from_ref(batch))
    }

    #[test]
    fn few_rows_of_many_batches_come_together_in_their_order() {
        let mut chosen = ChosenRows::new(3, None);
        for batch in 0..4 {
            assert!(chosen.next().is_none());
            chosen.add(numbers(batch * 100), &mask()).expect("is one");
            if batch == 2 {
                assert_eq!(ids(&chosen.next().expect("is full")), [7, 107, 207]);
            }
        }
        assert!(chosen.next().is_none());
        let rest = chosen.rest().expect("is one").expect("one is left");
        assert_eq!(ids(&rest), [307]);
        assert!(chosen.rest().expect("is one").is_none());
    }

    #[test]
    fn nobody_waits_for_rows_that_are_not_needed() {
        let mut chosen = ChosenRows::new(1000, Some(1));
        chosen.add(numbers(0), &mask()).expect("is one");
        assert_eq!(ids(&chosen.next().expect("is enough")), [7]);
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let mut chosen = ChosenRows::new(1000, None);
        let batch = numbers(0).project(&[]).expect("has none");
        chosen.add(batch, &mask()).expect("is one");
        assert_eq!(chosen.next().expect("is there").num_rows(), 1);
        assert!(chosen.next().is_none());
        assert!(chosen.rest().expect("is one").is_none());
    }
}
