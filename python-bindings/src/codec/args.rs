//! Arguments of calls: one value for (args, kwargs), top-level references as dependencies.

use aktis_worker::runtime::CallInputs;
use aktis_worker::{Format, ObjectRef, Runtime, Value};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::from_value;
use super::pickle::{self, Dependency};
use super::plain::{PlainDecoder, PlainEncoder};
use crate::failure::to_py_err;
use crate::interpreter_end::detached;
use crate::object_ref::PyObjectRef;

/// First byte of the in-band part of plain arguments.
const DIRECT: u8 = 0;
const PACKED: u8 = 1;

/// Serialised arguments.
pub(crate) struct EncodedArgs {
    pub(crate) value: Value,
    pub(crate) dependencies: Vec<ObjectRef>,
}

/// Arguments of a Python function or method.
pub(crate) type PyArgs<'py> = (Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

/// From this size on it is worth to look whether the same is sent again and again.
const LARGE_BYTES: usize = 4 << 20;

/// Serialises the arguments of a call. Large ones go into the object store, and so do others when much waits already.
///
/// `callee`: the parts of the name of what is called.
pub(crate) fn encode_args(
    runtime: &Runtime,
    callee: &[&str],
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<EncodedArgs> {
    let mut encoded = match encode_plain(args, kwargs) {
        Some(encoded) => encoded,
        None => encode_pickled(args, kwargs)?,
    };
    if encoded.value.data_bytes() >= LARGE_BYTES {
        args.py()
            .import("aktis._messages.large_arguments")?
            .call_method1("note", (callee.join("."), args, kwargs))?;
    }
    if runtime.is_to_be_stored(encoded.value.data_bytes()) {
        let py = args.py();
        let packed = detached(py, || runtime.put_stored(encoded.value))
            .map_err(|failure| to_py_err(py, &failure))?;
        let position =
            u32::try_from(encoded.dependencies.len()).expect("a call has few dependencies");
        encoded.dependencies.push(packed);
        let inband = [&[PACKED][..], &position.to_le_bytes()].concat();
        encoded.value = Value::inband(Format::Plain, inband);
    } else {
        encoded.value.own_buffers();
    }
    Ok(encoded)
}

fn encode_plain(
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> Option<EncodedArgs> {
    let mut encoder = PlainEncoder::default();
    encoder.out.push(DIRECT);
    encoder.count(args.len())?;
    args.iter_borrowed()
        .try_for_each(|argument| encoder.argument(&argument))?;
    encoder.count(kwargs.map_or(0, PyDictMethods::len))?;
    if let Some(kwargs) = kwargs {
        kwargs.iter().try_for_each(|(name, argument)| {
            encoder.encode(&name, 0)?;
            encoder.argument(&argument)
        })?;
    }
    let dependencies = std::mem::take(&mut encoder.dependencies);
    Some(EncodedArgs {
        value: encoder.into_value(),
        dependencies,
    })
}

fn encode_pickled(
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<EncodedArgs> {
    let py = args.py();
    let mut dependencies = Vec::new();
    let mut stand_in = |argument: Bound<'_, PyAny>| -> PyResult<Py<PyAny>> {
        let Ok(reference) = argument.cast_exact::<PyObjectRef>() else {
            return Ok(argument.unbind());
        };
        dependencies.push(reference.get().reference().clone());
        Ok(Py::new(
            py,
            Dependency {
                position: dependencies.len() - 1,
            },
        )?
        .into_any())
    };
    let positional = args
        .iter()
        .map(&mut stand_in)
        .collect::<PyResult<Vec<_>>>()?;
    let keyword = PyDict::new(py);
    for (name, argument) in kwargs.into_iter().flat_map(|kwargs| kwargs.iter()) {
        keyword.set_item(name, stand_in(argument)?)?;
    }
    let both = PyTuple::new(
        py,
        [PyList::new(py, positional)?.into_any(), keyword.into_any()],
    )?;
    Ok(EncodedArgs {
        value: pickle::dump(both.as_any())?,
        dependencies,
    })
}

/// Rebuilds the arguments of a call.
pub(crate) fn decode_args(py: Python<'_>, inputs: CallInputs) -> PyResult<PyArgs<'_>> {
    let CallInputs {
        mut args,
        mut dependencies,
    } = inputs;
    if args.format == Format::Plain && args.inband.first() == Some(&PACKED) {
        let position = args
            .inband
            .get(1..5)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_le_bytes);
        let position = position.map_or(usize::MAX, |position| position as usize);
        if position < dependencies.len() {
            args = dependencies.remove(position);
        }
    }
    let dependencies = dependencies
        .iter()
        .map(|value| from_value(py, value).map(Bound::unbind))
        .collect::<PyResult<Vec<_>>>()?;
    if args.format == Format::Plain {
        return decode_plain(py, &args, &dependencies);
    }
    let both = pickle::load(py, &args, dependencies)?.cast_into::<PyTuple>()?;
    let positional = both.get_item(0)?.cast_into::<PyList>()?.to_tuple();
    let keyword = both.get_item(1)?.cast_into::<PyDict>()?;
    Ok((positional, (!keyword.is_empty()).then_some(keyword)))
}

fn decode_plain<'py>(
    py: Python<'py>,
    args: &Value,
    dependencies: &[Py<PyAny>],
) -> PyResult<PyArgs<'py>> {
    let mut decoder = PlainDecoder::new(py, args, 1, dependencies);
    let count = decoder.count()?;
    let positional = (0..count)
        .map(|_| decoder.decode())
        .collect::<PyResult<Vec<_>>>()?;
    let positional = PyTuple::new(py, positional)?;
    let count = decoder.count()?;
    if count == 0 {
        return Ok((positional, None));
    }
    let keyword = PyDict::new(py);
    for _ in 0..count {
        let name = decoder.decode()?;
        keyword.set_item(name, decoder.decode()?)?;
    }
    Ok((positional, Some(keyword)))
}
