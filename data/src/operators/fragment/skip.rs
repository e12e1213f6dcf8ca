//! Rows of an input without some of them.

use std::collections::VecDeque;

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use crate::operators::stream::BatchStream;

/// Leaves out the rows of these ranges: begin and end, begin and end, in order.
pub(crate) fn open(ranges: Vec<u64>, input: Box<dyn BatchStream>) -> Box<dyn BatchStream> {
    Box::new(SkipStream {
        ranges,
        first: 0,
        left: VecDeque::new(),
        input,
    })
}

struct SkipStream {
    ranges: Vec<u64>,
    /// The number of the next row.
    first: u64,
    /// What is left of the last batch.
    left: VecDeque<RecordBatch>,
    input: Box<dyn BatchStream>,
}

impl BatchStream for SkipStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        if let Some(batch) = self.left.pop_front() {
            return Ok(Some(batch));
        }
        let Some(batch) = self.input.next()? else {
            return Ok(None);
        };
        let (mut from, end) = (self.first, self.first + batch.num_rows() as u64);
        for range in self.ranges.chunks_exact(2) {
            self.left.extend(self.part(&batch, from, range[0]));
            from = from.max(range[1]);
        }
        self.left.extend(self.part(&batch, from, end));
        self.first = end;
        // Without any row it still tells the columns.
        Ok(Some(
            self.left.pop_front().unwrap_or_else(|| batch.slice(0, 0)),
        ))
    }
}

impl SkipStream {
    /// Rows of the batch that comes, by their numbers.
    fn part(&self, batch: &RecordBatch, from: u64, to: u64) -> Option<RecordBatch> {
        let rows = batch.num_rows() as u64;
        let number = |place: u64| {
            let place = place.saturating_sub(self.first).min(rows);
            usize::try_from(place).expect("no more than the batch has")
        };
        let (from, to) = (number(from), number(to));
        (from < to).then(|| batch.slice(from, to - from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::stream::Batches;
    use crate::testing::{ids, rows};

    #[test]
    fn rows_of_ranges_are_left_out_wherever_batches_end() {
        for length in 1..8_usize {
            let firsts = (0..24_i64).step_by(length);
            let batches: Vec<RecordBatch> = firsts
                .map(|first| rows(first, (length as i64).min(24 - first)))
                .collect();
            let mut stream = open(
                vec![0, 3, 5, 6, 9, 20, 23, 24],
                Box::new(Batches(batches.into_iter())),
            );
            let mut left = Vec::new();
            while let Some(batch) = stream.next().expect("reads") {
                left.push(batch);
            }
            assert_eq!(
                ids(&left),
                [3, 4, 6, 7, 8, 20, 21, 22],
                "batches of {length}"
            );
        }
    }
}
