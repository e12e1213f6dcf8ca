//! `put`, `get` and `wait`.

use std::collections::HashSet;
use std::ops::Range;

use aktis_common::ids::{IdBuildHasher, ObjectId};
use aktis_common::marks::{Point, mark};
use aktis_worker::{GetError, ObjectRef, Runtime};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::codec::{from_value, to_value};
use crate::failure::{get_error, to_py_err};
use crate::interpreter_end::detached;
use crate::object_ref::PyObjectRef;
use crate::session::{deadline_of, live_runtime, runtime, signal_check};

/// References whose values are read and made into objects at once: few enough for the processor's caches.
const GET_CHUNK: usize = 2048;

/// Stores a value. `NotImplemented` where there is no session to store it in, and for a reference, which is stored already.
#[pyfunction]
pub(crate) fn put<'py>(py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let Some(runtime) = live_runtime().filter(|_| value.cast::<PyObjectRef>().is_err()) else {
        return Ok(py.NotImplemented().into_bound(py));
    };
    mark(Point::Called);
    let mut serialised = to_value(value)?;
    mark(Point::ArgsEncoded);
    if serialised.data_bytes() as u64 <= runtime.greeting().max_inline_bytes {
        serialised.own_buffers();
    }
    let reference =
        detached(py, || runtime.put(serialised)).map_err(|failure| to_py_err(py, &failure))?;
    let reference = PyObjectRef::new(py, reference);
    mark(Point::Submitted);
    Ok(reference?.into_any())
}

/// The value of a reference, or the values of a list of them. `NotImplemented` if it is given anything else.
#[pyfunction]
#[pyo3(signature = (refs, timeout=None))]
pub(crate) fn get<'py>(
    py: Python<'py>,
    refs: &Bound<'py, PyAny>,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    mark(Point::Asked);
    let runtime = runtime(py)?;
    let deadline = deadline_of(timeout)?;
    let get = |references: &[ObjectRef]| {
        detached(py, || {
            runtime.get_interruptibly(references, deadline, &signal_check)
        })
    };
    let raise = |error| get_error(py, error, timeout);
    if let Ok(reference) = refs.cast_exact::<PyObjectRef>() {
        let values = get(std::slice::from_ref(reference.get().reference())).map_err(raise)?;
        mark(Point::Woken);
        let object = from_value(py, &values[0])?;
        mark(Point::ValueDecoded);
        return Ok(object);
    }
    let Ok(list) = refs.cast::<PyList>() else {
        return Ok(py.NotImplemented().into_bound(py));
    };
    // Holds the references for as long as it takes, whatever becomes of the caller's list.
    let refs = list.to_tuple();
    if !refs
        .iter_borrowed()
        .all(|item| item.is_exact_instance_of::<PyObjectRef>())
    {
        return Ok(py.NotImplemented().into_bound(py));
    }
    let mut objects = Vec::with_capacity(refs.len());
    for start in (0..refs.len()).step_by(GET_CHUNK) {
        py.check_signals()?;
        let references = cloned(&refs, start..refs.len().min(start + GET_CHUNK))?;
        let values = get(&references).map_err(|error| {
            raise(match error {
                GetError::TimedOut {
                    missing, waits_for, ..
                } => GetError::TimedOut {
                    missing: missing + later_missing(&runtime, &refs, start + GET_CHUNK),
                    wanted: refs.len(),
                    waits_for,
                },
                error => error,
            })
        })?;
        mark(Point::Woken);
        for value in &values {
            objects.push(from_value(py, value)?);
        }
        mark(Point::ValueDecoded);
    }
    Ok(PyList::new(py, objects)?.into_any())
}

fn cloned(refs: &Bound<'_, PyTuple>, range: Range<usize>) -> PyResult<Vec<ObjectRef>> {
    range
        .map(|position| {
            let item = refs.get_borrowed_item(position)?;
            Ok(item.cast_exact::<PyObjectRef>()?.get().reference().clone())
        })
        .collect()
}

/// How many of the references from `start` on are not ready.
fn later_missing(runtime: &Runtime, refs: &Bound<'_, PyTuple>, start: usize) -> usize {
    let later = cloned(refs, start.min(refs.len())..refs.len()).unwrap_or_default();
    runtime.count_missing(&later)
}

/// The ids of a list of references; `None` if one of its items is something else, or occurs twice.
fn unique_ids(refs: &Bound<'_, PyTuple>) -> Option<Vec<ObjectId>> {
    let id_of = |item: Borrowed<'_, '_, PyAny>| {
        let reference = item.cast_exact::<PyObjectRef>().ok()?;
        Some(reference.get().reference().id())
    };
    let ids: Vec<ObjectId> = refs.iter_borrowed().map(id_of).collect::<Option<_>>()?;
    // As they were made: what one process makes is numbered.
    let is_ascending = ids.is_sorted_by(|id, next| {
        (id.task().to_words(), id.index()) < (next.task().to_words(), next.index())
    });
    let is_each_once = is_ascending || {
        let mut seen = HashSet::with_capacity_and_hasher(ids.len(), IdBuildHasher::default());
        ids.iter().all(|id| seen.insert(id))
    };
    is_each_once.then_some(ids)
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
    let ready = detached(py, || {
        runtime.wait(&ids, num_returns, deadline, &signal_check)
    })
    .map_err(|error| get_error(py, error, timeout))?;
    let mut pending = Vec::with_capacity(ids.len() - ready.len());
    let mut next = 0;
    for position in ready.iter().copied().chain([ids.len()]) {
        for skipped in next..position {
            pending.push(refs.get_borrowed_item(skipped)?);
        }
        next = position + 1;
    }
    let ready = ready
        .iter()
        .map(|position| refs.get_borrowed_item(*position));
    let ready = PyList::new(py, ready.collect::<PyResult<Vec<_>>>()?)?;
    Ok(Some((ready, PyList::new(py, pending)?)))
}
