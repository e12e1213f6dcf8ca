//! Rows that go on in the same numbers at once, whatever calls they came of: where workers are of several kinds, whose calls have different
//! numbers of rows, blocks are cut in the same places by all of them (STG-2).

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::partition::failed;

/// Collects rows until there are so many.
pub(crate) struct EvenRows {
    rows: usize,
    held: Vec<RecordBatch>,
    held_rows: usize,
}

impl EvenRows {
    /// `rows` at once.
    pub(crate) fn new(rows: u64) -> Self {
        Self {
            rows: usize::try_from(rows).unwrap_or(usize::MAX).max(1),
            held: Vec::new(),
            held_rows: 0,
        }
    }

    /// Takes rows, and gives those that go on. Where columns change, what there is goes on.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, TaskFailure> {
        let mut even = Vec::new();
        let first = self.held.first().map(RecordBatch::schema);
        if first.is_some_and(|first| first != batch.schema()) {
            even.extend(self.close()?);
        }
        let mut rest = batch;
        while self.held_rows + rest.num_rows() >= self.rows {
            let wanted = self.rows - self.held_rows;
            self.hold(rest.slice(0, wanted));
            rest = rest.slice(wanted, rest.num_rows() - wanted);
            even.extend(self.close()?);
        }
        self.hold(rest);
        Ok(even)
    }

    fn hold(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.held_rows += batch.num_rows();
            self.held.push(batch);
        }
    }

    /// What there is goes on.
    pub(crate) fn close(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        self.held_rows = 0;
        let held = std::mem::take(&mut self.held);
        let Some(schema) = held.first().map(RecordBatch::schema) else {
            return Ok(None);
        };
        if let [one] = held.as_slice() {
            return Ok(Some(one.clone()));
        }
        let whole = concat_batches(&schema, &held);
        whole
            .map(Some)
            .map_err(|error| failed("put rows of different calls together", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ids, rows};

    /// The numbers of rows that go on of calls with so many rows.
    fn evened(calls: &[i64]) -> Vec<usize> {
        let mut even = EvenRows::new(4);
        let (mut first, mut all) = (0, Vec::new());
        for &call in calls {
            all.extend(even.push(rows(first, call)).expect("goes together"));
            first += call;
        }
        all.extend(even.close().expect("goes together"));
        assert_eq!(ids(&all), (0..first).collect::<Vec<_>>());
        all.iter().map(RecordBatch::num_rows).collect()
    }

    /// STG-2 (same-cut-every-time)
    #[test]
    fn rows_go_on_in_the_same_numbers_whatever_calls_they_came_of() {
        for calls in [
            &[10][..],
            &[2, 2, 2, 2, 2],
            &[3, 3, 3, 1],
            &[4, 4, 2],
            &[0, 10],
        ] {
            assert_eq!(evened(calls), [4, 4, 2], "{calls:?}");
        }
        assert_eq!(evened(&[]), [0_usize; 0]);
    }
}
