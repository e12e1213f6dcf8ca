//! `put`, `get` and `wait`.

use aktis_common::ids::ObjectId;
use aktis_worker::ObjectRef;
use aktis_worker::stages::{Stage, mark};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use rustc_hash::{FxBuildHasher, FxHashSet};

use crate::codec::{from_value, to_value};
use crate::failure::{get_error, to_py_err};
use crate::object_ref::PyObjectRef;
use crate::session::{deadline_of, raised_by_signal, runtime, signal_check};

/// Stores a value.
#[pyfunction]
pub(crate) fn put(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<PyObjectRef> {
    let runtime = runtime(py)?;
    mark(Stage::Called);
    let mut serialised = to_value(value)?;
    mark(Stage::ArgsEncoded);
    if serialised.data_bytes() as u64 <= runtime.greeting().max_inline_bytes {
        serialised.own_buffers();
    }
    let reference = py
        .detach(|| runtime.put(serialised))
        .map_err(|failure| to_py_err(py, &failure))?;
    Ok(PyObjectRef::new(reference))
}

/// The references of a list; `None` if one of its items is something else.
fn references(refs: &Bound<'_, PyList>) -> Option<Vec<ObjectRef>> {
    refs.iter()
        .map(|item| {
            let reference = item.cast_exact::<PyObjectRef>().ok()?;
            Some(reference.get().reference().clone())
        })
        .collect()
}

/// The value of a reference, or the values of a list of them. `NotImplemented` if it is given anything else.
#[pyfunction]
#[pyo3(signature = (refs, timeout=None))]
pub(crate) fn get<'py>(
    py: Python<'py>,
    refs: &Bound<'py, PyAny>,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    let runtime = runtime(py)?;
    let deadline = deadline_of(timeout)?;
    let get = |references: &[ObjectRef]| {
        py.detach(|| runtime.get_interruptibly(references, deadline, &signal_check))
            .map_err(|error| raised_by_signal().unwrap_or_else(|| get_error(py, error, timeout)))
    };
    if let Ok(reference) = refs.cast_exact::<PyObjectRef>() {
        let values = get(std::slice::from_ref(reference.get().reference()))?;
        mark(Stage::Woken);
        let object = from_value(py, &values[0])?;
        mark(Stage::ValueDecoded);
        return Ok(object);
    }
    let references = refs.cast::<PyList>().ok().and_then(references);
    let Some(references) = references else {
        return Ok(py.NotImplemented().into_bound(py));
    };
    let values = get(&references)?;
    let objects = values
        .iter()
        .map(|value| from_value(py, value))
        .collect::<PyResult<Vec<_>>>()?;
    Ok(PyList::new(py, objects)?.into_any())
}

/// The ids of a list of references; `None` if one of its items is something else, or occurs twice.
fn unique_ids(refs: &Bound<'_, PyTuple>) -> Option<Vec<ObjectId>> {
    let mut seen = FxHashSet::with_capacity_and_hasher(refs.len(), FxBuildHasher);
    refs.iter_borrowed()
        .map(|item| {
            let id = item
                .cast_exact::<PyObjectRef>()
                .ok()?
                .get()
                .reference()
                .id();
            seen.insert(id).then_some(id)
        })
        .collect()
}

/// Ready and other references, each in order. `None` unless it is given a list of references, each once.
#[pyfunction]
#[pyo3(signature = (refs, num_returns, timeout=None))]
pub(crate) fn wait<'py>(
    py: Python<'py>,
    refs: &Bound<'py, PyList>,
    num_returns: usize,
    timeout: Option<f64>,
) -> PyResult<Option<(Bound<'py, PyList>, Bound<'py, PyList>)>> {
    let runtime = runtime(py)?;
    // Holds the references for as long as it takes, whatever becomes of the caller's list.
    let refs = refs.to_tuple();
    let Some(ids) = unique_ids(&refs) else {
        return Ok(None);
    };
    let deadline = deadline_of(timeout)?;
    let ready = py
        .detach(|| runtime.wait(&ids, num_returns, deadline, &signal_check))
        .map_err(|error| raised_by_signal().unwrap_or_else(|| get_error(py, error, timeout)))?;
    let mut pending = Vec::with_capacity(ids.len() - ready.len());
    let mut next = 0;
    for position in &ready {
        pending.extend(refs.get_slice(next, *position).iter());
        next = position + 1;
    }
    pending.extend(refs.get_slice(next, ids.len()).iter());
    let ready = ready
        .iter()
        .map(|position| refs.get_borrowed_item(*position));
    let ready = PyList::new(py, ready.collect::<PyResult<Vec<_>>>()?)?;
    Ok(Some((ready, PyList::new(py, pending)?)))
}
