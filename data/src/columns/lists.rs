//! Lists of all layouts: their items and where each row begins and ends.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, OffsetSizeTrait, UInt64Array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;

/// The numbers of all lists, one behind the other, and their bytes.
pub(crate) fn numbers_of(lists: &FixedSizeListArray) -> (ArrayRef, Buffer) {
    let size = usize::try_from(lists.value_length()).unwrap_or(0);
    let numbers = lists.values().slice(0, lists.len() * size);
    let data = numbers.to_data();
    let width = data.data_type().primitive_width().unwrap_or(1);
    let bytes = data.buffers()[0].slice_with_length(data.offset() * width, numbers.len() * width);
    (numbers, bytes)
}

/// A list column taken apart.
pub(super) struct Runs {
    pub(super) values: ArrayRef,
    /// Where each row begins in `values`, and the end of the last; starts at 0.
    offsets: Vec<usize>,
    nulls: Option<NullBuffer>,
}

impl Runs {
    /// Only the items that belong to rows of `array`: others were never looked at, and may be anything.
    pub(super) fn of(array: &ArrayRef) -> Result<Self, ArrowError> {
        match array.data_type() {
            DataType::List(_) => Ok(Self::of_list(array.as_list::<i32>())),
            DataType::LargeList(_) => Ok(Self::of_list(array.as_list::<i64>())),
            DataType::FixedSizeList(_, size) => {
                let list = array.as_fixed_size_list();
                let size = usize::try_from(*size).unwrap_or(0);
                Ok(Self {
                    values: Arc::clone(list.values()),
                    offsets: (0..=list.len()).map(|row| row * size).collect(),
                    nulls: list.nulls().cloned(),
                })
            }
            DataType::ListView(item) | DataType::LargeListView(item) => {
                let list = cast(array, &DataType::LargeList(Arc::clone(item)))?;
                Ok(Self::of_list(list.as_list::<i64>()))
            }
            other => Err(ArrowError::InvalidArgumentError(format!(
                "{other} is no list"
            ))),
        }
    }

    fn of_list<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> Self {
        let offsets: Vec<usize> = list
            .offsets()
            .iter()
            .map(|offset| offset.as_usize())
            .collect();
        let first = offsets.first().copied().unwrap_or(0);
        let last = offsets.last().copied().unwrap_or(0);
        Self {
            values: list.values().slice(first, last - first),
            offsets: offsets.into_iter().map(|offset| offset - first).collect(),
            nulls: list.nulls().cloned(),
        }
    }

    /// The same rows with other items, as many as before.
    pub(super) fn with_values(self, values: ArrayRef) -> Self {
        Self { values, ..self }
    }

    fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    fn length(&self, row: usize) -> usize {
        self.offsets[row + 1] - self.offsets[row]
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }
}

/// A column of type `kind`, whose items are `item`.
pub(super) fn rebuild(runs: &Runs, item: &FieldRef, kind: &DataType) -> Result<ArrayRef, String> {
    match kind {
        DataType::LargeList(_) => list::<i64>(runs, item),
        DataType::List(_) => list::<i32>(runs, item),
        DataType::FixedSizeList(_, size) => fixed(runs, item, *size),
        DataType::ListView(_) | DataType::LargeListView(_) => {
            cast(&list::<i64>(runs, item)?, kind).map_err(|error| error.to_string())
        }
        other => Err(format!("{other} is no list")),
    }
}

fn list<O: OffsetSizeTrait>(runs: &Runs, item: &Field) -> Result<ArrayRef, String> {
    let offsets: Option<Vec<O>> = runs
        .offsets
        .iter()
        .map(|&offset| O::from_usize(offset))
        .collect();
    let offsets =
        offsets.ok_or_else(|| "it has more items than its offsets can count".to_owned())?;
    GenericListArray::<O>::try_new(
        Arc::new(item.clone()),
        OffsetBuffer::new(ScalarBuffer::from(offsets)),
        Arc::clone(&runs.values),
        runs.nulls.clone(),
    )
    .map(|array| Arc::new(array) as ArrayRef)
    .map_err(|error| error.to_string())
}

/// Rows that all have `size` items; those of null rows are null.
fn fixed(runs: &Runs, item: &FieldRef, size: i32) -> Result<ArrayRef, String> {
    let wanted = usize::try_from(size).unwrap_or(0);
    let mut indices: Vec<Option<u64>> = Vec::with_capacity(runs.rows() * wanted);
    for row in 0..runs.rows() {
        if runs.is_null(row) {
            indices.extend(std::iter::repeat_n(None, wanted));
        } else if runs.length(row) == wanted {
            let first = runs.offsets[row];
            indices.extend((first..first + wanted).map(|index| Some(index as u64)));
        } else {
            return Err(format!("a row has {} items", runs.length(row)));
        }
    }
    let values =
        take(&runs.values, &UInt64Array::from(indices), None).map_err(|error| error.to_string())?;
    FixedSizeListArray::try_new_with_length(
        Arc::clone(item),
        size,
        values,
        runs.nulls.clone(),
        runs.rows(),
    )
    .map(|array| Arc::new(array) as ArrayRef)
    .map_err(|error| error.to_string())
}
