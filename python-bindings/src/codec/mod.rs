//! Python objects to values and back.
//!
//! ```text
//!  plain data ............ PlainEncoder            Format::Plain        arrays of numbers read in place
//!  bytes ................. as they are             Format::Bytes, large ones Format::BytesBuffer
//!  anything else ......... pickle protocol 5       Format::Pickle       buffers read in place
//!  blocks of aktis.data .. Arrow IPC stream        Format::ArrowStream  read in place
//! ```

mod args;
mod buffers;
mod loose;
mod pickle;
mod plain;

use aktis_worker::{Format, Inband, Value};
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use thin_vec::{ThinVec, thin_vec};

pub(crate) use args::{PyArgs, decode_args, encode_args};
pub(crate) use buffers::{SharedBuffer, borrow_buffer};
pub(crate) use loose::{reduce_loose, restore_loose_reference, unpin};
pub(crate) use pickle::{Dependency, restore_dependency, restore_reference, scope_reference};

use plain::{PlainDecoder, PlainEncoder};

/// Bytes above this are kept as a buffer of their own, read in place.
const LARGE_BYTES: usize = 64 << 10;

/// Serialises an object. The value may borrow the object's memory: see [`Value::own_buffers`].
pub(crate) fn to_value(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return bytes_value(bytes);
    }
    let mut encoder = PlainEncoder::default();
    if encoder.encode(object, 0).is_some() {
        return Ok(encoder.into_value());
    }
    pickle::dump(object)
}

fn bytes_value(bytes: &Bound<'_, PyBytes>) -> PyResult<Value> {
    if bytes.as_bytes().len() <= LARGE_BYTES {
        return Ok(Value::inband(Format::Bytes, bytes.as_bytes()));
    }
    let buffer = borrow_buffer(bytes.as_any())?;
    Ok(Value {
        format: Format::BytesBuffer,
        inband: Inband::default(),
        buffers: thin_vec![buffer],
        contained: ThinVec::new(),
    })
}

/// Rebuilds the object. Arrays and tables read the value's memory in place and keep it alive.
pub(crate) fn from_value<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value.format {
        Format::Plain => PlainDecoder::new(py, value, 0, &[]).decode(),
        Format::Bytes | Format::Native => Ok(PyBytes::new(py, &value.inband).into_any()),
        Format::BytesBuffer => Ok(PyBytes::new(py, first_buffer(value)?).into_any()),
        Format::ArrowStream => {
            let buffer = Bound::new(py, SharedBuffer::new(first_buffer(value)?.clone()))?;
            serialization(py)?.call_method1("restore_arrow", (buffer,))
        }
        Format::Pickle => pickle::load(py, value, Vec::new()),
        Format::Placed => Err(PyValueError::new_err(
            "cannot decode a value: it stands for a result in the store",
        )),
    }
}

/// What bytes of plain data mean. For tests: nobody but a peer sends ones that [`to_value`] has not written.
#[pyfunction]
#[pyo3(name = "_decode_plain")]
pub(crate) fn decode_plain<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    from_value(py, &Value::inband(Format::Plain, bytes))
}

fn first_buffer(value: &Value) -> PyResult<&Bytes> {
    value
        .buffers
        .first()
        .ok_or_else(|| PyValueError::new_err("cannot decode a value: its buffer is missing"))
}

/// The Python half of serialisation.
fn serialization(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import(pyo3::intern!(py, "aktis._values.serialization"))
}
