//! Record batches to and from pyarrow through the Arrow C data interface: buffers are shared, not copied.

#![allow(
    unsafe_code,
    reason = "the Arrow C data interface is made of raw structs"
)]

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions, StructArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi, to_ffi};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

fn failed(error: &arrow::error::ArrowError) -> PyErr {
    PyValueError::new_err(format!("pass Arrow data on: {error}"))
}

/// A `pyarrow.RecordBatch` that shares the batch's memory.
pub(crate) fn batch_to_py<'py>(
    py: Python<'py>,
    batch: &RecordBatch,
) -> PyResult<Bound<'py, PyAny>> {
    let (array, schema) =
        to_ffi(&StructArray::from(batch.clone()).to_data()).map_err(|error| failed(&error))?;
    // pyarrow moves out of both structs and marks them released; what it leaves is dropped here.
    let addresses = (
        std::ptr::from_ref(&array) as usize,
        std::ptr::from_ref(&schema) as usize,
    );
    py.import("pyarrow")?
        .getattr("RecordBatch")?
        .call_method1("_import_from_c", addresses)
}

/// A record batch that shares the memory of a `pyarrow.RecordBatch`.
pub(crate) fn batch_from_py(batch: &Bound<'_, PyAny>) -> PyResult<RecordBatch> {
    let mut array = FFI_ArrowArray::empty();
    let mut schema = FFI_ArrowSchema::empty();
    let addresses = (
        std::ptr::from_mut(&mut array) as usize,
        std::ptr::from_mut(&mut schema) as usize,
    );
    batch.call_method1("_export_to_c", addresses)?;
    // SAFETY: pyarrow has just filled both structs with an exported record batch, as the interface demands; they are
    // moved from only here.
    let data = unsafe { from_ffi(array, &schema) }.map_err(|error| failed(&error))?;
    let rows = data.len();
    let columns = StructArray::from(data);
    let schema = Arc::new(Schema::new(columns.fields().clone()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let (_, columns, _) = columns.into_parts();
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| failed(&error))
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
