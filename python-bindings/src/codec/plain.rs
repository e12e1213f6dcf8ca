//! The compact encoding of plain data: None, bool, int, float, str, bytes, arrays of numbers, and tuples, lists, dicts of
//! these.
//!
//! Most calls carry nothing else, and writing a tag and the bytes costs a tenth of what a pickler costs. Anything else
//! (big integers, subclasses, shared or cyclic containers, deep nesting) is left to pickle.
//!
//! ```text
//! tag | content        lengths and counts are u32 LE, int i64 LE, float f64 LE
//! array                type code | count of dimensions | u64 LE per dimension | count: which buffer
//! ```

use aktis_worker::{Format, ObjectRef, Value};
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use thin_vec::ThinVec;

use super::buffers::{NumberArray, SharedBuffer, is_ndarray};
use crate::object_ref::PyObjectRef;

const NONE: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const STR: u8 = 5;
const BYTES: u8 = 6;
const TUPLE: u8 = 7;
const LIST: u8 = 8;
const DICT: u8 = 9;
const REFERENCE: u8 = 10;
const DEPENDENCY: u8 = 11;
const ARRAY: u8 = 12;

/// Of containers in containers.
const MAX_DEPTH: u32 = 16;
/// Containers beyond this many are left to pickle, which finds shared ones faster.
const MAX_CONTAINERS: usize = 32;

/// Items that memory is reserved for before they were read.
const MOST_RESERVED: usize = 4096;

/// Encodes plain data, and collects the references on the way.
pub(crate) struct PlainEncoder {
    pub(crate) out: Vec<u8>,
    /// References in the inside of the value.
    pub(crate) contained: ThinVec<ObjectRef>,
    /// Top-level references of a call, to be resolved before it runs.
    pub(crate) dependencies: Vec<ObjectRef>,
    /// Memory of arrays, borrowed from them.
    pub(crate) buffers: ThinVec<Bytes>,
    containers: Vec<usize>,
}

impl Default for PlainEncoder {
    fn default() -> Self {
        Self {
            out: Vec::with_capacity(64),
            contained: ThinVec::new(),
            dependencies: Vec::new(),
            buffers: ThinVec::new(),
            containers: Vec::new(),
        }
    }
}

impl PlainEncoder {
    /// Appends a count.
    pub(crate) fn count(&mut self, count: usize) -> Option<()> {
        self.out
            .extend_from_slice(&u32::try_from(count).ok()?.to_le_bytes());
        Some(())
    }

    /// Appends an argument of a call: a reference becomes a dependency.
    pub(crate) fn argument(&mut self, object: &Bound<'_, PyAny>) -> Option<()> {
        if let Ok(reference) = object.cast_exact::<PyObjectRef>() {
            self.out.push(DEPENDENCY);
            self.count(self.dependencies.len())?;
            self.dependencies.push(reference.get().reference().clone());
            return Some(());
        }
        self.encode(object, 0)
    }

    /// Appends a value. `None`: it is not plain data.
    pub(crate) fn encode(&mut self, object: &Bound<'_, PyAny>, depth: u32) -> Option<()> {
        if object.is_none() {
            self.out.push(NONE);
        } else if let Ok(text) = object.cast_exact::<PyString>() {
            let text = text.to_str().ok()?;
            self.bytes(STR, text.as_bytes())?;
        } else if object.is_exact_instance_of::<PyInt>() {
            let number: i64 = object.extract().ok()?;
            self.out.push(INT);
            self.out.extend_from_slice(&number.to_le_bytes());
        } else if let Ok(flag) = object.cast_exact::<PyBool>() {
            self.out.push(if flag.is_true() { TRUE } else { FALSE });
        } else if let Ok(number) = object.cast_exact::<PyFloat>() {
            self.out.push(FLOAT);
            self.out.extend_from_slice(&number.value().to_le_bytes());
        } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            self.bytes(BYTES, bytes.as_bytes())?;
        } else if let Ok(reference) = object.cast_exact::<PyObjectRef>() {
            self.out.push(REFERENCE);
            self.count(self.contained.len())?;
            self.contained.push(reference.get().reference().clone());
        } else if is_ndarray(object) {
            self.array(object)?;
        } else {
            self.container(object, depth + 1)?;
        }
        Some(())
    }

    /// The value that was encoded.
    pub(crate) fn into_value(self) -> Value {
        Value {
            format: Format::Plain,
            inband: self.out.into(),
            buffers: self.buffers,
            contained: self.contained,
        }
    }

    /// Notes a container or an array. `None`: it is met again, or there are too many.
    fn note(&mut self, object: &Bound<'_, PyAny>) -> Option<()> {
        let address = object.as_ptr() as usize;
        if self.containers.len() >= MAX_CONTAINERS || self.containers.contains(&address) {
            return None;
        }
        self.containers.push(address);
        Some(())
    }

    fn array(&mut self, object: &Bound<'_, PyAny>) -> Option<()> {
        self.note(object)?;
        let array = NumberArray::borrow(object)?;
        self.out.extend_from_slice(&[ARRAY, array.type_code]);
        self.count(array.shape.len())?;
        for length in &array.shape {
            self.out.extend_from_slice(&(*length as u64).to_le_bytes());
        }
        self.count(self.buffers.len())?;
        self.buffers.push(array.memory);
        Some(())
    }

    fn container(&mut self, object: &Bound<'_, PyAny>, depth: u32) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            self.out.push(TUPLE);
            self.count(tuple.len())?;
            return tuple
                .iter_borrowed()
                .try_for_each(|item| self.encode(&item, depth));
        }
        self.note(object)?;
        if let Ok(list) = object.cast_exact::<PyList>() {
            self.out.push(LIST);
            self.count(list.len())?;
            list.iter().try_for_each(|item| self.encode(&item, depth))
        } else if let Ok(dict) = object.cast_exact::<PyDict>() {
            self.out.push(DICT);
            self.count(dict.len())?;
            dict.iter().try_for_each(|(key, value)| {
                self.encode(&key, depth)?;
                self.encode(&value, depth)
            })
        } else {
            None
        }
    }

    fn bytes(&mut self, tag: u8, bytes: &[u8]) -> Option<()> {
        self.out.push(tag);
        self.count(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Some(())
    }
}

/// Decodes what [`PlainEncoder`] wrote.
pub(crate) struct PlainDecoder<'a, 'py> {
    py: Python<'py>,
    input: &'a [u8],
    contained: &'a [ObjectRef],
    dependencies: &'a [Py<PyAny>],
    buffers: &'a [Bytes],
    /// Containers that are open.
    depth: u32,
}

impl<'a, 'py> PlainDecoder<'a, 'py> {
    /// `skip`: bytes of the in-band part that belong to somebody else.
    pub(crate) fn new(
        py: Python<'py>,
        value: &'a Value,
        skip: usize,
        dependencies: &'a [Py<PyAny>],
    ) -> Self {
        Self {
            py,
            input: value.inband.get(skip..).unwrap_or_default(),
            contained: &value.contained,
            dependencies,
            buffers: &value.buffers,
            depth: 0,
        }
    }

    fn take(&mut self, count: usize) -> PyResult<&'a [u8]> {
        let (taken, rest) = self
            .input
            .split_at_checked(count)
            .ok_or_else(|| broken("it is shorter than it says"))?;
        self.input = rest;
        Ok(taken)
    }

    /// The next count.
    pub(crate) fn count(&mut self) -> PyResult<usize> {
        let bytes = self.take(4)?.try_into().expect("four bytes were taken");
        Ok(u32::from_le_bytes(bytes) as usize)
    }

    fn eight(&mut self) -> PyResult<[u8; 8]> {
        Ok(self.take(8)?.try_into().expect("eight bytes were taken"))
    }

    /// The next value.
    pub(crate) fn decode(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let tag = self.take(1)?[0];
        Ok(match tag {
            NONE => py.None().into_bound(py),
            TRUE | FALSE => PyBool::new(py, tag == TRUE).to_owned().into_any(),
            INT => i64::from_le_bytes(self.eight()?)
                .into_pyobject(py)?
                .into_any(),
            FLOAT => PyFloat::new(py, f64::from_le_bytes(self.eight()?)).into_any(),
            STR => {
                let count = self.count()?;
                let text = std::str::from_utf8(self.take(count)?)
                    .map_err(|_| broken("a string is not UTF-8"))?;
                PyString::new(py, text).into_any()
            }
            BYTES => {
                let count = self.count()?;
                PyBytes::new(py, self.take(count)?).into_any()
            }
            TUPLE | LIST | DICT => self.container(tag)?,
            REFERENCE => {
                let index = self.count()?;
                let reference = self
                    .contained
                    .get(index)
                    .ok_or_else(|| broken("a reference is missing"))?;
                PyObjectRef::new(py, reference.clone())?.into_any()
            }
            DEPENDENCY => {
                let index = self.count()?;
                let value = self
                    .dependencies
                    .get(index)
                    .ok_or_else(|| broken("a dependency is missing"))?;
                value.bind(py).clone()
            }
            ARRAY => self.array()?,
            _ => return Err(broken("it has an unknown tag")),
        })
    }

    fn array(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let type_code = char::from(self.take(1)?[0]);
        let shape = (0..self.count()?)
            .map(|_| Ok(u64::from_le_bytes(self.eight()?)))
            .collect::<PyResult<Vec<_>>>()?;
        let index = self.count()?;
        let buffer = self
            .buffers
            .get(index)
            .ok_or_else(|| broken("a buffer is missing"))?;
        let buffer = Bound::new(self.py, SharedBuffer::new(buffer.clone()))?;
        let shape = PyTuple::new(self.py, shape)?;
        super::serialization(self.py)?.call_method1("restore_ndarray", (buffer, type_code, shape))
    }

    /// What lies deeper than any encoder writes was not written by one, and would overflow the stack.
    fn container(&mut self, tag: u8) -> PyResult<Bound<'py, PyAny>> {
        if self.depth == MAX_DEPTH {
            return Err(broken("it is nested too deeply"));
        }
        self.depth += 1;
        let py = self.py;
        let container = match tag {
            TUPLE => PyTuple::new(py, self.items()?)?.into_any(),
            LIST => PyList::new(py, self.items()?)?.into_any(),
            _ => {
                let dict = PyDict::new(py);
                for _ in 0..self.count()? {
                    let key = self.decode()?;
                    dict.set_item(key, self.decode()?)?;
                }
                dict.into_any()
            }
        };
        self.depth -= 1;
        Ok(container)
    }

    fn items(&mut self) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let count = self.count()?;
        // A broken count must not reserve memory that the input does not fill, at each of the levels anew.
        let mut items = Vec::with_capacity(count.min(self.input.len()).min(MOST_RESERVED));
        for _ in 0..count {
            items.push(self.decode()?);
        }
        Ok(items)
    }
}

fn broken(what: &str) -> PyErr {
    PyValueError::new_err(format!(
        "cannot decode a value: {what}; all processes must run the same Aktis version"
    ))
}
