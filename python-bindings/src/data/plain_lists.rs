//! `_aktis.data.column_of_list`: lists of plain Python values as columns, as pyarrow makes them.
//!
//! pyarrow imports pandas for it, to know its missing values when it sees them: a quarter of a second and 40 MB in every process.

use std::cell::Cell;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, ListArray, NullArray,
    StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Field;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString};

use super::arrow_py::array_to_py;

/// Offsets of text, bytes and lists have 32 bits.
const MOST_ITEMS: usize = i32::MAX as usize;
/// So deep lists in lists are followed.
const MOST_LEVELS: usize = 16;

/// The values as a column, if all that are not None are of one plain type: text, bytes, bool, a float, a whole number of 64 bits, or lists of
/// such; `None`: they are not.
#[pyfunction]
pub(crate) fn column_of_list<'py>(
    py: Python<'py>,
    values: &Bound<'py, PyList>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let values: Vec<_> = values.iter().collect();
    let column = column_of(&values, MOST_LEVELS);
    column.map(|column| array_to_py(py, &column)).transpose()
}

fn column_of(values: &[Bound<'_, PyAny>], levels: usize) -> Option<ArrayRef> {
    let Some(first) = values.iter().find(|value| !value.is_none()) else {
        return Some(Arc::new(NullArray::new(values.len())));
    };
    let room = Room::default();
    // Of just these types: what derives from them may have its own ideas of what it is.
    if first.is_exact_instance_of::<PyString>() {
        each::<_, StringArray>(values, |value| {
            // Halves of characters are no text.
            let text = value.cast_exact::<PyString>().ok()?.to_str().ok()?;
            room.take(text.len()).then_some(text)
        })
    } else if first.is_exact_instance_of::<PyBytes>() {
        each::<_, BinaryArray>(values, |value| {
            let bytes = value.cast_exact::<PyBytes>().ok()?.as_bytes();
            room.take(bytes.len()).then_some(bytes)
        })
    } else if first.is_exact_instance_of::<PyBool>() {
        each::<_, BooleanArray>(values, |value| {
            Some(value.cast_exact::<PyBool>().ok()?.is_true())
        })
    } else if first.is_exact_instance_of::<PyInt>() {
        each::<_, Int64Array>(values, |value| {
            value.cast_exact::<PyInt>().ok()?.extract().ok()
        })
    } else if first.is_exact_instance_of::<PyFloat>() {
        each::<_, Float64Array>(values, |value| {
            Some(value.cast_exact::<PyFloat>().ok()?.value())
        })
    } else {
        lists(values, levels.checked_sub(1)?)
    }
}

/// A column of what is read of each value that is not None, unless one is something else.
fn each<'a, 'py, T, A>(
    values: &'a [Bound<'py, PyAny>],
    read: impl Fn(&'a Bound<'py, PyAny>) -> Option<T>,
) -> Option<ArrayRef>
where
    A: Array + FromIterator<Option<T>> + 'static,
{
    let read = |value: &'a Bound<'py, PyAny>| match value.is_none() {
        true => Some(None),
        false => read(value).map(Some),
    };
    let column: A = values.iter().map(read).collect::<Option<A>>()?;
    Some(Arc::new(column))
}

fn lists(values: &[Bound<'_, PyAny>], levels: usize) -> Option<ArrayRef> {
    let (mut items, mut lengths) = (Vec::new(), Vec::with_capacity(values.len()));
    for value in values {
        let before = items.len();
        if !value.is_none() {
            items.extend(value.cast_exact::<PyList>().ok()?.iter());
        }
        lengths.push(items.len() - before);
    }
    if items.len() > MOST_ITEMS {
        return None;
    }
    let items = column_of(&items, levels)?;
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let valid = NullBuffer::from_iter(values.iter().map(|value| !value.is_none()));
    let valid = Some(valid).filter(|valid| valid.null_count() > 0);
    let offsets = OffsetBuffer::from_lengths(lengths);
    Some(Arc::new(ListArray::new(field, offsets, items, valid)))
}

/// How much has a place behind the offsets.
#[derive(Default)]
struct Room(Cell<usize>);

impl Room {
    /// Whether there is room for so much more.
    fn take(&self, size: usize) -> bool {
        self.0.set(self.0.get().saturating_add(size));
        self.0.get() <= MOST_ITEMS
    }
}
