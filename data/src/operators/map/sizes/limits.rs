//! Budgets of a batch: which rows still fit into it.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt64Type};

use super::super::shape::Shape;
use crate::block::data_bytes;
use crate::operators::function::SharedFunction;
use crate::operators::relational::index_of;
use crate::plan::Batching;

/// What a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::operators::map) struct RowSize {
    pub(in crate::operators::map) tokens: u64,
    bytes: u64,
}

/// Measures rows as the step asks for.
pub(in crate::operators::map) struct Scale {
    shape: Shape,
    function: SharedFunction,
}

impl Scale {
    pub(in crate::operators::map) fn new(shape: Shape, function: SharedFunction) -> Self {
        Self { shape, function }
    }

    /// The sizes of all rows.
    pub(in crate::operators::map) fn measure(
        &self,
        batch: &RecordBatch,
    ) -> Result<Vec<RowSize>, TaskFailure> {
        let mut sizes = vec![RowSize::default(); batch.num_rows()];
        let batching = &self.shape.step.batching;
        if batching.counts_tokens() {
            for (size, tokens) in sizes.iter_mut().zip(self.tokens(batch)?) {
                size.tokens = tokens;
            }
        }
        if batching.byte_budget.is_some() {
            let given = self.shape.given(batch)?;
            for (row, size) in sizes.iter_mut().enumerate() {
                size.bytes = data_bytes(&given.slice(row, 1));
            }
        }
        Ok(sizes)
    }

    fn tokens(&self, batch: &RecordBatch) -> Result<Vec<u64>, TaskFailure> {
        let name = &self.shape.step.name;
        let Some(column) = &self.shape.step.batching.token_column else {
            let given = self.shape.given(batch)?;
            let tokens = self.function.lock().count_tokens(given)?;
            if tokens.len() == batch.num_rows() {
                return Ok(tokens);
            }
            return Err(wrong(format!(
                "{name}: the function of tokens= got {} rows and returned {} numbers; it must return one for each row",
                batch.num_rows(),
                tokens.len()
            )));
        };
        let index = index_of(name, column, batch.schema_ref())?;
        lengths(batch.column(index)).ok_or_else(|| {
            let found = batch.column(index).data_type();
            wrong(format!(
                "{name}: tokens='{column}' is a column of {found}, and tells no lengths: give a column of whole numbers, of lists \
                 or of texts, or a function of a batch"
            ))
        })
    }
}

fn wrong(message: String) -> TaskFailure {
    TaskFailure::new(ErrorCode::InvalidArgument, message)
}

/// Numbers say themselves how many tokens there are, lists and texts by what they hold; null is none.
fn lengths(column: &ArrayRef) -> Option<Vec<u64>> {
    let of_text = |text: Option<&str>| text.map_or(0, |text| text.chars().count() as u64);
    Some(match column.data_type() {
        kind if kind.is_integer() => {
            let whole = cast(column, &DataType::UInt64).ok()?;
            let whole = whole.as_primitive::<UInt64Type>();
            whole.iter().map(Option::unwrap_or_default).collect()
        }
        DataType::Utf8 => column.as_string::<i32>().iter().map(of_text).collect(),
        DataType::LargeUtf8 => column.as_string::<i64>().iter().map(of_text).collect(),
        DataType::Utf8View => column.as_string_view().iter().map(of_text).collect(),
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let length = |row| {
                if list.is_null(row) {
                    0
                } else {
                    list.value_length(row) as u64
                }
            };
            (0..list.len()).map(length).collect()
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let length = |row| {
                if list.is_null(row) {
                    0
                } else {
                    list.value_length(row) as u64
                }
            };
            (0..list.len()).map(length).collect()
        }
        _ => return None,
    })
}

/// What a batch may hold. One row is a batch however large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::operators::map) struct Limits {
    pub(in crate::operators::map) rows: Option<u64>,
    tokens: Option<u64>,
    bytes: Option<u64>,
}

/// What a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::operators::map) struct Filling {
    pub(in crate::operators::map) rows: u64,
    longest: u64,
    bytes: u64,
}

impl Limits {
    pub(in crate::operators::map) fn new(rows: Option<u64>, batching: &Batching) -> Self {
        Self {
            rows,
            tokens: batching.token_budget,
            bytes: batching.byte_budget,
        }
    }

    /// Puts the row into the batch, if it has room.
    pub(in crate::operators::map) fn take(&self, filling: &mut Filling, row: RowSize) -> bool {
        let more = Filling {
            rows: filling.rows + 1,
            longest: filling.longest.max(row.tokens),
            bytes: filling.bytes.saturating_add(row.bytes),
        };
        let is_within = |most: Option<u64>, used: u64| most.is_none_or(|most| used <= most);
        let fits = is_within(self.rows, more.rows)
            && is_within(self.tokens, more.rows.saturating_mul(more.longest))
            && is_within(self.bytes, more.bytes);
        if fits || filling.rows == 0 {
            *filling = more;
            return true;
        }
        false
    }

    /// Whether it has room for no row at all any more.
    pub(in crate::operators::map) fn are_reached(&self, filling: &Filling) -> bool {
        self.rows.is_some_and(|rows| filling.rows >= rows)
    }

    /// The numbers of rows of batches that rows of these sizes become, one after another.
    pub(in crate::operators::map) fn cut(
        &self,
        sizes: impl Iterator<Item = RowSize>,
    ) -> Vec<usize> {
        let (mut cut, mut filling) = (Vec::new(), Filling::default());
        let rows = |filling: &Filling| usize::try_from(filling.rows).unwrap_or(usize::MAX);
        for size in sizes {
            if !self.take(&mut filling, size) {
                cut.push(rows(&filling));
                filling = Filling::default();
                self.take(&mut filling, size);
            }
        }
        if filling.rows > 0 {
            cut.push(rows(&filling));
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn padding_counts_as_tokens() {
        let limits = Limits {
            tokens: Some(12),
            ..Limits::default()
        };
        let sizes = [3, 4, 4, 1, 6, 6, 20, 1].map(|tokens| RowSize { tokens, bytes: 0 });
        assert_eq!(limits.cut(sizes.into_iter()), [3, 2, 1, 1, 1]);
        // 1 beside 6 and 6 would be three rows of six tokens.
    }

    #[test]
    fn each_limit_holds() {
        let limits = Limits {
            rows: Some(3),
            tokens: Some(100),
            bytes: Some(10),
        };
        let sizes = [1, 1, 1, 1, 9, 2, 30].map(|bytes| RowSize { tokens: 1, bytes });
        assert_eq!(limits.cut(sizes.into_iter()), [3, 2, 1, 1]);
    }

    #[test]
    fn columns_tell_lengths() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(-1)]));
        assert_eq!(lengths(&numbers), Some(vec![7, 0, 0]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("größe"), None]));
        assert_eq!(lengths(&texts), Some(vec![5, 0]));
        let ids = vec![Some(vec![Some(1), Some(2)]), None, Some(vec![])];
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(ids));
        assert_eq!(lengths(&lists), Some(vec![2, 0, 0]));
        let truths: ArrayRef = Arc::new(arrow::array::BooleanArray::from(vec![true]));
        assert_eq!(lengths(&truths), None);
    }
}
