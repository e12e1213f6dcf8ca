//! Memory shared between Python and the runtime, in both directions.
#![allow(unsafe_code, reason = "the buffer protocol is a C interface")]

use std::ffi::c_int;

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Python memory seen by the runtime. Holds the exporter, which keeps the memory in place.
struct Borrowed {
    buffer: PyBuffer<u8>,
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the view is contiguous (checked in `borrow_buffer`) and stays exported, hence in place, while `buffer`
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
    let buffer = PyBuffer::<u8>::get(&view)?;
    if !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err("the buffer is not contiguous"));
    }
    if buffer.len_bytes() == 0 {
        return Ok(Bytes::new());
    }
    Ok(Bytes::from_owner(Borrowed { buffer }))
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
