//! Where groups end in rows that are sorted by their keys, so that a batch can have whole groups and no more than needed of a partition.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{concat, partition};
use arrow::error::ArrowError;

use crate::operators::comparable::comparable;

/// Looks at rows as they come.
pub(super) struct GroupEnds {
    keys: Vec<String>,
    /// The keys of the last row.
    last: Option<Vec<ArrayRef>>,
    /// Rows that wait, of groups that have come to their end.
    whole_rows: usize,
}

impl GroupEnds {
    /// Of groups of rows with equal values in these columns.
    pub(super) fn new(keys: Vec<String>) -> Self {
        Self {
            keys,
            last: None,
            whole_rows: 0,
        }
    }

    /// Rows that wait, from the first one on, of groups that have come to their end.
    pub(super) fn whole_rows(&self) -> usize {
        self.whole_rows
    }

    /// More rows, behind so many that wait.
    pub(super) fn add(&mut self, batch: &RecordBatch, waiting: usize) -> Result<(), ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let columns = key_columns(batch, &self.keys);
        let begun = last_group(&columns)?;
        if begun > 0 || self.is_other(&columns)? {
            self.whole_rows = waiting + begun;
        }
        let end = batch.num_rows() - 1;
        self.last = Some(columns.iter().map(|keys| keys.slice(end, 1)).collect());
        Ok(())
    }

    /// Whether the first of these rows belongs to another group than the last one that came before.
    fn is_other(&self, columns: &[ArrayRef]) -> Result<bool, ArrowError> {
        let Some(last) = &self.last else {
            return Ok(false);
        };
        let both = last.iter().zip(columns).map(|(last, next)| {
            let next = next.slice(0, 1);
            concat(&[last.as_ref(), next.as_ref()])
        });
        Ok(last_group(&both.collect::<Result<Vec<ArrayRef>, _>>()?)? > 0)
    }

    /// The same; they are taken.
    pub(super) fn take(&mut self) -> usize {
        std::mem::take(&mut self.whole_rows)
    }
}

/// Behind which rows the groups of this batch end.
pub(crate) fn group_ends(batch: &RecordBatch, keys: &[String]) -> Result<Vec<usize>, ArrowError> {
    let columns = key_columns(batch, keys);
    if columns.is_empty() {
        return Ok(vec![batch.num_rows()]);
    }
    let ranges = partition(&columns)?.ranges();
    Ok(ranges.into_iter().map(|range| range.end).collect())
}

fn key_columns(batch: &RecordBatch, keys: &[String]) -> Vec<ArrayRef> {
    let columns = keys.iter().filter_map(|key| batch.column_by_name(key));
    columns.map(comparable).collect()
}

/// Where the last group begins; one that has no keys is all rows.
fn last_group(columns: &[ArrayRef]) -> Result<usize, ArrowError> {
    if columns.is_empty() {
        return Ok(0);
    }
    let ranges = partition(columns)?.ranges();
    Ok(ranges.last().map_or(0, |range| range.start))
}
