//! Memory shared between Python and the runtime, in both directions.
#![allow(unsafe_code, reason = "the buffer protocol is a C interface")]

use std::ffi::c_int;

use bytes::Bytes;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

/// Python memory seen by the runtime. Holds the exporter, which keeps the memory in place.
struct Borrowed {
    buffer: PyUntypedBuffer,
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the view is contiguous (checked where it was borrowed) and stays exported, hence in place, while `buffer`
        // lives. Writes by Python code meanwhile are the caller's responsibility: values that outlive the call copy.
        unsafe { std::slice::from_raw_parts(self.buffer.buf_ptr().cast(), self.buffer.len_bytes()) }
    }
}

/// The memory of an object that exports a contiguous buffer.
pub(crate) fn borrow_buffer(object: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    // Any item type will do: only the bytes are read.
    let view = object
        .py()
        .import(pyo3::intern!(object.py(), "builtins"))?
        .getattr(pyo3::intern!(object.py(), "memoryview"))?
        .call1((object,))?
        .call_method1(pyo3::intern!(object.py(), "cast"), ("B",))?;
    let buffer = PyUntypedBuffer::get(&view)?;
    if !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err("the buffer is not contiguous"));
    }
    if buffer.len_bytes() == 0 {
        return Ok(Bytes::new());
    }
    Ok(Bytes::from_owner(Borrowed { buffer }))
}

/// An array of numbers, seen through the buffer protocol.
pub(super) struct NumberArray {
    /// As in the `struct` module; numpy understands it too.
    pub(super) type_code: u8,
    pub(super) shape: Vec<usize>,
    pub(super) memory: Bytes,
}

impl NumberArray {
    /// `None` unless the object is nothing but numbers in a row.
    pub(super) fn borrow(object: &Bound<'_, PyAny>) -> Option<Self> {
        const NUMBERS: &[u8] = b"?bBhHiIlLqQefd";
        let buffer = PyUntypedBuffer::get(object).ok()?;
        let &[type_code] = buffer.format().to_bytes() else {
            return None;
        };
        if !NUMBERS.contains(&type_code) || !buffer.is_c_contiguous() || buffer.len_bytes() == 0 {
            return None;
        }
        Some(Self {
            type_code,
            shape: buffer.shape().to_vec(),
            memory: Bytes::from_owner(Borrowed { buffer }),
        })
    }
}

/// Whether the object is an `ndarray` of numpy, and not of a subclass.
pub(super) fn is_ndarray(object: &Bound<'_, PyAny>) -> bool {
    static NDARRAY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let (py, found) = (object.py(), object.get_type());
    if let Some(ndarray) = NDARRAY.get(py) {
        return found.is(ndarray);
    }
    let is_named = |name: PyResult<Bound<'_, PyString>>, wanted: &str| {
        name.is_ok_and(|name| name.to_str().is_ok_and(|name| name == wanted))
    };
    let is_numpy = is_named(found.name(), "ndarray") && is_named(found.module(), "numpy");
    if is_numpy {
        // Fails only if another thread was first, with the same type.
        let _ = NDARRAY.set(py, found.unbind());
    }
    is_numpy
}

/// Memory of the runtime (often of the object store) seen by Python. Read-only.
#[pyclass(module = "aktis._aktis", frozen)]
pub(crate) struct SharedBuffer {
    bytes: Bytes,
}

impl SharedBuffer {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }
}

#[pymethods]
impl SharedBuffer {
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let bytes = &slf.get().bytes;
        let length =
            isize::try_from(bytes.len()).map_err(|_| PyBufferError::new_err("buffer too large"))?;
        let pointer = bytes.as_ptr().cast_mut().cast();
        // SAFETY: `view` comes from the interpreter; the memory lives as long as `slf`, of which the view takes a
        // reference; it is exported read-only.
        let result =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), pointer, length, 1, flags) };
        if result == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }

    fn __len__(&self) -> usize {
        self.bytes.len()
    }
}
