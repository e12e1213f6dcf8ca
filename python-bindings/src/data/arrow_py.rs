//! Record batches to and from pyarrow through the Arrow C data interface: buffers are shared, not copied.

#![allow(
    unsafe_code,
    reason = "the Arrow C data interface is made of raw structs"
)]

use std::sync::Arc;

use aktis_data::block::alone;
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StructArray, make_array};
use arrow::datatypes::{DataType, IntervalUnit, Schema, SchemaRef};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi_and_data_type, to_ffi};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Whoever holds less than this may hold more than its rows.
const LARGE_BYTES: u64 = 1 << 20;
/// Whatever holds more than this, for each byte of its rows, is a small piece.
const HELD_PER_BYTE: u64 = 4;

fn failed(error: &arrow::error::ArrowError) -> PyErr {
    PyValueError::new_err(format!("pass Arrow data on: {error}"))
}

/// A `pyarrow.RecordBatch` that shares the batch's memory. Each column is passed on by itself, so that its memory goes with it: of a
/// structure that is passed on as one, pyarrow keeps all for whoever keeps one column.
pub(crate) fn batch_to_py<'py>(
    py: Python<'py>,
    batch: &RecordBatch,
) -> PyResult<Bound<'py, PyAny>> {
    let pyarrow = py.import("pyarrow")?;
    let schema = schema_to_py(py, &Schema::new(batch.schema().fields().clone()))?;
    if batch.num_columns() == 0 || has_unknown_column(&batch.schema()) {
        return as_one_to_py(&pyarrow, batch);
    }
    let (class, types) = (pyarrow.getattr("Array")?, schema.getattr("types")?);
    let columns: PyResult<Vec<_>> = batch
        .columns()
        .iter()
        .zip(types.try_iter()?)
        .map(|(column, data_type)| {
            let array = FFI_ArrowArray::new(&column.to_data());
            // pyarrow moves out of the struct and marks it released; what it leaves is dropped here.
            let address = std::ptr::from_ref(&array) as usize;
            class.call_method1("_import_from_c", (address, data_type?))
        })
        .collect();
    let batches = pyarrow.getattr("RecordBatch")?;
    batches.call_method1("from_arrays", (columns?, py.None(), schema))
}

/// A `pyarrow.Array` that shares the memory of the column.
pub(crate) fn array_to_py<'py>(py: Python<'py>, column: &ArrayRef) -> PyResult<Bound<'py, PyAny>> {
    let (array, schema) = to_ffi(&column.to_data()).map_err(|error| failed(&error))?;
    // As above.
    let addresses = (
        std::ptr::from_ref(&array) as usize,
        std::ptr::from_ref(&schema) as usize,
    );
    let class = py.import("pyarrow")?.getattr("Array")?;
    class.call_method1("_import_from_c", addresses)
}

/// pyarrow has no class for such a column, so that it cannot stand by itself; it can be in a batch that nobody looks into.
fn has_unknown_column(schema: &Schema) -> bool {
    let units = [IntervalUnit::YearMonth, IntervalUnit::DayTime];
    let unknown = units.map(DataType::Interval);
    schema
        .fields()
        .iter()
        .any(|field| unknown.contains(field.data_type()))
}

/// The batch as one structure: where pyarrow could not take its columns, or the number of its rows from them.
fn as_one_to_py<'py>(
    pyarrow: &Bound<'py, PyModule>,
    batch: &RecordBatch,
) -> PyResult<Bound<'py, PyAny>> {
    let rows = StructArray::from(batch.clone()).to_data();
    let (array, schema) = to_ffi(&rows).map_err(|error| failed(&error))?;
    // As above.
    let addresses = (
        std::ptr::from_ref(&array) as usize,
        std::ptr::from_ref(&schema) as usize,
    );
    pyarrow
        .getattr("RecordBatch")?
        .call_method1("_import_from_c", addresses)
}

/// The columns of a batch that goes as one structure.
fn columns_as_one(batch: &Bound<'_, PyAny>, schema: &Schema) -> PyResult<Vec<ArrayRef>> {
    let mut array = FFI_ArrowArray::empty();
    batch.call_method1("_export_to_c", (std::ptr::from_mut(&mut array) as usize,))?;
    let data_type = DataType::Struct(schema.fields().clone());
    // SAFETY: pyarrow has just filled the struct with a batch of this schema, as the interface demands; it is moved from only here.
    let data = unsafe { from_ffi_and_data_type(array, data_type) };
    let rows = StructArray::from(data.map_err(|error| failed(&error))?);
    Ok(rows.into_parts().1)
}

/// A record batch that shares the memory of a `pyarrow.RecordBatch`, column by column, for the same reason.
pub(crate) fn batch_from_py(batch: &Bound<'_, PyAny>) -> PyResult<RecordBatch> {
    let schema = schema_from_py(&batch.getattr("schema")?)?;
    let columns = if has_unknown_column(&schema) {
        columns_as_one(batch, &schema)?
    } else {
        columns_one_by_one(batch, &schema)?
    };
    let rows = batch.getattr("num_rows")?.extract()?;
    let schema = Arc::new(Schema::new(schema.fields().clone()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| failed(&error))
}

fn columns_one_by_one(batch: &Bound<'_, PyAny>, schema: &Schema) -> PyResult<Vec<ArrayRef>> {
    let columns = schema
        .fields()
        .iter()
        .zip(batch.getattr("columns")?.try_iter()?)
        .map(|(field, column)| {
            let mut array = FFI_ArrowArray::empty();
            let address = std::ptr::from_mut(&mut array) as usize;
            column?.call_method1("_export_to_c", (address,))?;
            // SAFETY: pyarrow has just filled the struct with an array of this field's type, as the interface demands; it is moved from
            // only here.
            let data = unsafe { from_ffi_and_data_type(array, field.data_type().clone()) };
            Ok(make_array(data.map_err(|error| failed(&error))?))
        });
    columns.collect()
}

/// What a function has returned, which waits in the worker until a block is full: a piece of a large table is copied, so that the table goes.
pub(crate) fn output_from_py(output: &Bound<'_, PyAny>) -> PyResult<RecordBatch> {
    let batch = batch_from_py(output)?;
    let held: u64 = output.call_method0("get_total_buffer_size")?.extract()?;
    if held < LARGE_BYTES || held / HELD_PER_BYTE <= output.getattr("nbytes")?.extract::<u64>()? {
        return Ok(batch);
    }
    alone(&batch).map_err(|error| failed(&error))
}

/// A `pyarrow.Schema`.
pub(crate) fn schema_to_py<'py>(py: Python<'py>, schema: &Schema) -> PyResult<Bound<'py, PyAny>> {
    let schema = FFI_ArrowSchema::try_from(schema).map_err(|error| failed(&error))?;
    let address = std::ptr::from_ref(&schema) as usize;
    py.import("pyarrow")?
        .getattr("Schema")?
        .call_method1("_import_from_c", (address,))
}

/// The schema in a `pyarrow.Schema`.
pub(crate) fn schema_from_py(schema: &Bound<'_, PyAny>) -> PyResult<SchemaRef> {
    let mut exported = FFI_ArrowSchema::empty();
    schema.call_method1(
        "_export_to_c",
        (std::ptr::from_mut(&mut exported) as usize,),
    )?;
    Schema::try_from(&exported)
        .map(Arc::new)
        .map_err(|error| failed(&error))
}
