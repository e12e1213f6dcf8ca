//! Rows of a batch that a function is called with, and the numbers that they have.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;

/// Rows of a batch.
#[derive(Debug, Clone)]
pub(crate) struct CallPiece {
    pub(crate) batch: RecordBatch,
    rows: RowNumbers,
    /// Calls with these rows that failed.
    pub(crate) attempts: u32,
    /// How many of these were with one row alone.
    pub(crate) tries: u32,
    /// The batch that they came in.
    pub(crate) batch_number: u64,
    /// A sign of the rows that steps before have lost.
    pub(crate) lost_before: u64,
    /// The batch that it is half of, if that did not fit into memory.
    pub(crate) halved: Option<Halved>,
}

/// A batch that did not fit into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Halved {
    /// Among those of its stream.
    pub(crate) number: u64,
    /// How many rows it had.
    pub(crate) rows: usize,
}

#[derive(Debug, Clone)]
enum RowNumbers {
    /// One after another, from this one on.
    Run(u64),
    /// These.
    Picked(Vec<u64>),
}

impl CallPiece {
    /// A whole batch.
    pub(crate) fn new(batch: RecordBatch, first: u64, batch_number: u64) -> Self {
        Self {
            batch,
            rows: RowNumbers::Run(first),
            attempts: 0,
            tries: 0,
            batch_number,
            lost_before: 0,
            halved: None,
        }
    }

    /// How many rows.
    pub(crate) fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The number of a row.
    pub(crate) fn row(&self, position: usize) -> u64 {
        match &self.rows {
            RowNumbers::Run(first) => first + position as u64,
            RowNumbers::Picked(rows) => rows[position],
        }
    }

    /// The same without the rows whose numbers are not wanted.
    pub(crate) fn without(self, is_unwanted: impl Fn(u64) -> bool) -> Result<Self, TaskFailure> {
        let positions = (0..self.num_rows()).filter(|&position| !is_unwanted(self.row(position)));
        let positions: Vec<usize> = positions.collect();
        if positions.len() == self.num_rows() {
            return Ok(self);
        }
        self.picked(&positions)
    }

    /// These rows, by their positions, in this order.
    pub(crate) fn picked(self, positions: &[usize]) -> Result<Self, TaskFailure> {
        let indices = UInt64Array::from_iter_values(positions.iter().map(|&at| at as u64));
        let batch = take_record_batch(&self.batch, &indices).map_err(|error| {
            TaskFailure::new(
                ErrorCode::Internal,
                format!("take rows of a batch: {error}"),
            )
        })?;
        let rows = positions.iter().map(|&at| self.row(at)).collect();
        Ok(Self {
            batch,
            rows: RowNumbers::Picked(rows),
            ..self
        })
    }

    /// The first rows, and the others if there are any.
    pub(crate) fn split(self, rows: usize) -> (Self, Option<Self>) {
        let all = self.num_rows();
        if rows >= all {
            return (self, None);
        }
        let rest = self.slice(rows, all - rows);
        (self.slice(0, rows), Some(rest))
    }

    /// The least and the greatest number of its rows, of which there are some.
    pub(crate) fn bounds(&self) -> (u64, u64) {
        match &self.rows {
            RowNumbers::Run(first) => (*first, first + self.num_rows() as u64 - 1),
            RowNumbers::Picked(rows) => {
                let least = rows.iter().min().copied().unwrap_or_default();
                (least, rows.iter().max().copied().unwrap_or_default())
            }
        }
    }

    fn slice(&self, first: usize, rows: usize) -> Self {
        Self {
            batch: self.batch.slice(first, rows),
            rows: match &self.rows {
                RowNumbers::Run(start) => RowNumbers::Run(start + first as u64),
                RowNumbers::Picked(all) => RowNumbers::Picked(all[first..first + rows].to_vec()),
            },
            ..*self
        }
    }

    /// Its halves, of at least two rows.
    pub(crate) fn halves(&self) -> [Self; 2] {
        let half = self.num_rows() / 2;
        let halves = [
            self.slice(0, half),
            self.slice(half, self.num_rows() - half),
        ];
        // They are no halves of what this is half of.
        halves.map(|half| Self {
            halved: None,
            ..half
        })
    }

    /// The same in pieces of at most so many rows.
    pub(crate) fn in_parts_of(self, most: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut rest = Some(self);
        while let Some(piece) = rest {
            let (part, others) = piece.split(most.max(1));
            parts.push(part);
            rest = others;
        }
        parts
    }

    /// The same in pieces of whole groups, which end behind these rows: of at most so many rows, or of one group.
    pub(crate) fn in_groups(self, ends: &[usize], most: usize) -> Vec<Self> {
        let mut pieces = Vec::new();
        let (mut first, mut last) = (0, 0);
        for &end in ends {
            if end - first > most && last > first {
                pieces.push(self.slice(first, last - first));
                first = last;
            }
            last = end;
        }
        if last > first {
            pieces.push(self.slice(first, last - first));
        }
        pieces
    }

    /// The same in pieces, each of which begins with one of these rows, given in order; none without rows.
    pub(crate) fn cut_before(self, cuts: impl Iterator<Item = u64>) -> Vec<Self> {
        let (all, mut first) = (self.num_rows(), 0);
        let mut pieces = Vec::new();
        for cut in cuts {
            let mut at = first;
            while at < all && self.row(at) < cut {
                at += 1;
            }
            if at > first {
                pieces.push(self.slice(first, at - first));
                first = at;
            }
        }
        if first == 0 && all > 0 {
            return vec![self];
        }
        if first < all {
            pieces.push(self.slice(first, all - first));
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ids, rows};

    #[test]
    fn pieces_have_whole_groups_however_large_one_is() {
        let cut = |most| -> Vec<usize> {
            let whole = CallPiece::new(rows(0, 10), 100, 0);
            let pieces = whole.in_groups(&[1, 3, 8, 9, 10], most);
            pieces.iter().map(CallPiece::num_rows).collect()
        };
        assert_eq!(cut(usize::MAX), [10]);
        assert_eq!(cut(4), [3, 5, 2]);
        assert_eq!(cut(1), [1, 2, 5, 1, 1]);
        assert!(
            CallPiece::new(rows(0, 0), 0, 0)
                .in_groups(&[], 3)
                .is_empty()
        );
    }

    fn numbers(piece: &CallPiece) -> Vec<u64> {
        (0..piece.num_rows()).map(|at| piece.row(at)).collect()
    }

    #[test]
    fn rows_keep_their_numbers_however_a_batch_is_cut() {
        let whole = CallPiece::new(rows(0, 10), 100, 0);
        let left = whole
            .without(|row| row == 103 || row == 108)
            .expect("takes");
        assert_eq!(numbers(&left), [100, 101, 102, 104, 105, 106, 107, 109]);
        let pieces = left.cut_before([100, 104, 108, 109, 110].into_iter());
        let cut: Vec<Vec<u64>> = pieces.iter().map(numbers).collect();
        assert_eq!(
            cut,
            [vec![100, 101, 102], vec![104, 105, 106, 107], vec![109]]
        );
        for piece in &pieces {
            let own: Vec<i64> = numbers(piece).iter().map(|&row| row as i64 - 100).collect();
            assert_eq!(ids(std::slice::from_ref(&piece.batch)), own);
        }
        let parts = pieces[1].clone().in_parts_of(3);
        let cut: Vec<Vec<u64>> = parts.iter().map(numbers).collect();
        assert_eq!(cut, [vec![104, 105, 106], vec![107]]);
        let [one, other] = pieces[0].halves();
        assert_eq!(
            (numbers(&one), numbers(&other)),
            (vec![100], vec![101, 102])
        );
    }
}
