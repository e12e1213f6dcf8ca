//! Values by pickle, with references and dependencies handled on the way.
//!
//! A reference inside a pickled object cannot be rebuilt from bytes alone: it must be counted. So while this module
//! pickles, references are collected in a list and pickled as their position in it; while it unpickles, positions are
//! looked up in the value's list. Outside of that, references are [loose](super::loose).

use std::cell::RefCell;

use aktis_worker::{Format, ObjectRef, Value};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use thin_vec::ThinVec;

use super::buffers::{SharedBuffer, borrow_buffer};
use super::serialization;
use crate::object_ref::PyObjectRef;

thread_local! {
    /// References met by the pickling under way, innermost last.
    static DUMPING: RefCell<Vec<ThinVec<ObjectRef>>> = const { RefCell::new(Vec::new()) };
    /// What positions stand for in the unpickling under way, innermost last.
    static LOADING: RefCell<Vec<Loading>> = const { RefCell::new(Vec::new()) };
}

struct Loading {
    contained: ThinVec<ObjectRef>,
    dependencies: Vec<Py<PyAny>>,
}

/// Pickles an object.
pub(super) fn dump(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    DUMPING.with_borrow_mut(|scopes| scopes.push(ThinVec::new()));
    let dumped =
        serialization(object.py()).and_then(|module| module.call_method1("dumps", (object,)));
    let contained = DUMPING.with_borrow_mut(Vec::pop).unwrap_or_default();
    let (inband, buffers) = dumped?.extract::<(Bound<'_, PyBytes>, Vec<Bound<'_, PyAny>>)>()?;
    Ok(Value {
        format: Format::Pickle,
        inband: borrow_buffer(inband.as_any())?.into(),
        buffers: buffers.iter().map(borrow_buffer).collect::<PyResult<_>>()?,
        contained,
    })
}

/// Unpickles a value.
pub(super) fn load<'py>(
    py: Python<'py>,
    value: &Value,
    dependencies: Vec<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let buffers: Vec<_> = value
        .buffers
        .iter()
        .map(|buffer| Bound::new(py, SharedBuffer::new(buffer.clone())))
        .collect::<PyResult<_>>()?;
    let inband = Bound::new(py, SharedBuffer::new(value.inband.clone().into_bytes()))?;
    let arguments = (inband, PyList::new(py, buffers)?);
    LOADING.with_borrow_mut(|scopes| {
        scopes.push(Loading {
            contained: value.contained.clone(),
            dependencies,
        })
    });
    let loaded = serialization(py).and_then(|module| module.call_method1("loads", arguments));
    let scope = LOADING.with_borrow_mut(Vec::pop);
    drop(scope);
    loaded
}

/// A reference is pickled: its position among the references of the value. `None`: no value is being pickled.
pub(crate) fn scope_reference(reference: &ObjectRef) -> Option<usize> {
    DUMPING.with_borrow_mut(|scopes| {
        let scope = scopes.last_mut()?;
        scope.push(reference.clone());
        Some(scope.len() - 1)
    })
}

/// The reference at this position of the value that is being unpickled.
#[pyfunction]
#[pyo3(name = "_restore_reference")]
pub(crate) fn restore_reference(
    py: Python<'_>,
    position: usize,
) -> PyResult<Bound<'_, PyObjectRef>> {
    let reference = LOADING.with_borrow(|scopes| {
        let contained = &scopes.last()?.contained;
        contained.get(position).cloned()
    });
    PyObjectRef::new(py, reference.ok_or_else(outside)?)
}

/// Stands for the value of a top-level reference among pickled arguments.
#[pyclass(module = "aktis._aktis", frozen)]
pub(crate) struct Dependency {
    pub(crate) position: usize,
}

#[pymethods]
impl Dependency {
    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let restore = py.import("aktis._aktis")?.getattr("_restore_dependency")?;
        Ok((restore, PyTuple::new(py, [self.position])?))
    }
}

/// The value of the dependency at this position of the call that is being unpickled.
#[pyfunction]
#[pyo3(name = "_restore_dependency")]
pub(crate) fn restore_dependency(py: Python<'_>, position: usize) -> PyResult<Py<PyAny>> {
    LOADING.with_borrow(|scopes| {
        let value = scopes
            .last()
            .and_then(|scope| scope.dependencies.get(position));
        value.map(|value| value.clone_ref(py)).ok_or_else(outside)
    })
}

fn outside() -> PyErr {
    PyRuntimeError::new_err(
        "this pickle belongs to an aktis value and can only be read by aktis.get() or as an argument",
    )
}
