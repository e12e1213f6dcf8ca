//! Submitting tasks.

use aktis_common::marks::{Point, mark};
use aktis_worker::{Function, ObjectRef, RemoteFunction};
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::codec::encode_args;
use crate::failure::to_py_err;
use crate::interpreter_end::detached;
use crate::object_ref::{PyObjectRef, PyObjectStream};
use crate::options::task_options;
use crate::session::runtime;

/// A remote function with its options: everything of a task but its arguments.
#[pyclass(module = "aktis._aktis", frozen)]
pub(crate) struct TaskTemplate {
    function: RemoteFunction,
}

#[pymethods]
impl TaskTemplate {
    #[new]
    fn new(function_id: Vec<u8>, name: String, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let function = Function {
            id: Bytes::from(function_id),
            name,
        };
        Ok(Self {
            function: RemoteFunction::new(function, task_options(options)?),
        })
    }

    /// Runs the function in the cluster.
    #[pyo3(signature = (*args, **kwargs))]
    fn remote<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        mark(Point::Called);
        let runtime = runtime(py)?;
        crate::session::resume_on_loop(py)?;
        let encoded = encode_args(&runtime, &[self.function.name()], args, kwargs)?;
        mark(Point::ArgsEncoded);
        let (value, dependencies) = (encoded.value, encoded.dependencies);
        let options = self.function.options();
        if options.is_streaming {
            let stream = detached(py, || {
                runtime.submit_streaming(&self.function, value, dependencies)
            })
            .map_err(|failure| to_py_err(py, &failure))?;
            return Ok(Bound::new(py, PyObjectStream::new(stream))?.into_any());
        }
        let references = detached(py, || runtime.submit(&self.function, value, dependencies))
            .map_err(|failure| to_py_err(py, &failure))?;
        let wrapped = wrap(py, references, options.num_returns);
        mark(Point::Submitted);
        wrapped
    }
}

/// One reference, a list of several, or None.
pub(crate) fn wrap(
    py: Python<'_>,
    references: Vec<ObjectRef>,
    num_returns: u32,
) -> PyResult<Bound<'_, PyAny>> {
    let mut references = references
        .into_iter()
        .map(|reference| PyObjectRef::new(py, reference));
    match (num_returns, references.next()) {
        (1, Some(reference)) => Ok(reference?.into_any()),
        (_, None) => Ok(py.None().into_bound(py)),
        (_, Some(first)) => {
            let all = std::iter::once(first).chain(references);
            Ok(PyList::new(py, all.collect::<PyResult<Vec<_>>>()?)?.into_any())
        }
    }
}
