//! Creating and calling actors.

use aktis_common::ids::ActorId;
use aktis_common::marks::{Point, mark};
use aktis_proto::v1 as wire;
use aktis_worker::{ActorHandle, Function, RemoteMethod};
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::codec::encode_args;
use crate::failure::to_py_err;
use crate::interpreter_end::detached;
use crate::object_ref::{PyObjectRef, PyObjectStream};
use crate::options::{actor_options, call_options};
use crate::session::runtime;
use crate::task::wrap;

/// A handle on an actor without what Python knows of its class.
#[pyclass(module = "aktis._aktis", frozen)]
pub(crate) struct ActorCore {
    handle: ActorHandle,
}

/// What a handle is pickled as: id, retries, class name, the reference that keeps the actor alive.
type HandleState<'py> = (
    Bound<'py, PyBytes>,
    i32,
    String,
    Option<Bound<'py, PyObjectRef>>,
);

#[pymethods]
impl ActorCore {
    /// Creates an actor.
    #[staticmethod]
    fn create(
        py: Python<'_>,
        class_id: Vec<u8>,
        class_name: String,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let runtime = runtime(py)?;
        let class = Function {
            id: Bytes::from(class_id),
            name: class_name,
        };
        let mut options = actor_options(options)?;
        if options.namespace.is_empty() {
            options.namespace = runtime.assignment().namespace;
        }
        let encoded = encode_args(&runtime, &[&class.name], args, kwargs)?;
        let handle = detached(py, || {
            runtime.create_actor(&class, encoded.value, encoded.dependencies, &options)
        })
        .map_err(|failure| to_py_err(py, &failure))?;
        Ok(Self { handle })
    }

    /// The actor of this name, and the state its creator left for handles.
    #[staticmethod]
    fn by_name<'py>(
        py: Python<'py>,
        name: String,
        namespace: String,
    ) -> PyResult<(Self, Bound<'py, PyBytes>)> {
        let runtime = runtime(py)?;
        let namespace = if namespace.is_empty() {
            runtime.assignment().namespace
        } else {
            namespace
        };
        let request = wire::GetActorRequest {
            actor_id: Bytes::new(),
            name: name.clone(),
            namespace,
        };
        let update = detached(py, || runtime.call_gcs::<_, wire::ActorUpdate>("GetActor", &request))
            .map_err(|failure| match failure.code {
                aktis_common::error::ErrorCode::NotFound => PyValueError::new_err(format!(
                    "Failed to look up actor with name '{name}': {}. Create it with .options(name={name:?}), in the same \
                     namespace, and keep a handle or use lifetime=\"detached\".",
                    failure.message
                )),
                _ => to_py_err(py, &failure),
            })?;
        let options = update.options.clone().unwrap_or_default();
        let actor = ActorId::from_bytes(&update.actor_id)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let handle = runtime
            .adopt_actor(actor, options.max_task_retries, &update.class_name, None)
            .map_err(|failure| to_py_err(py, &failure))?;
        Ok((Self { handle }, PyBytes::new(py, &options.handle_state)))
    }

    /// A handle from what [`ActorCore::state`] returned.
    #[staticmethod]
    fn restore(py: Python<'_>, state: HandleState<'_>) -> PyResult<Self> {
        let (id, max_task_retries, class_name, lifetime) = state;
        let actor = ActorId::from_bytes(id.as_bytes())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let lifetime = lifetime.map(|reference| reference.get().reference().clone());
        let handle = runtime(py)?
            .adopt_actor(actor, max_task_retries, &class_name, lifetime)
            .map_err(|failure| to_py_err(py, &failure))?;
        Ok(Self { handle })
    }

    /// What the handle is pickled as.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<HandleState<'py>> {
        let lifetime = self
            .handle
            .lifetime()
            .map(|reference| PyObjectRef::new(py, reference.clone()));
        Ok((
            PyBytes::new(py, self.handle.id().as_bytes()),
            self.handle.max_task_retries(),
            self.handle.class_name().to_owned(),
            lifetime.transpose()?,
        ))
    }

    /// The id, in hexadecimal.
    fn id(&self) -> String {
        self.handle.id().to_string()
    }

    /// A method with its options: everything of a call but its arguments.
    fn method(&self, name: String, options: &Bound<'_, PyDict>) -> PyResult<MethodTemplate> {
        let method = RemoteMethod::new(self.handle.clone(), name, call_options(options)?);
        Ok(MethodTemplate { method })
    }

    /// Ends the actor.
    fn kill(&self, py: Python<'_>, no_restart: bool) -> PyResult<()> {
        let runtime = runtime(py)?;
        detached(py, || runtime.kill_actor(&self.handle, no_restart))
            .map_err(|failure| to_py_err(py, &failure))
    }
}

/// A method of one actor with its options.
#[pyclass(module = "aktis._aktis", frozen)]
pub(crate) struct MethodTemplate {
    method: RemoteMethod,
}

#[pymethods]
impl MethodTemplate {
    /// Calls the method.
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
        let callee = [self.method.actor().class_name(), self.method.name()];
        let encoded = encode_args(&runtime, &callee, args, kwargs)?;
        mark(Point::ArgsEncoded);
        let (value, dependencies) = (encoded.value, encoded.dependencies);
        let options = self.method.options();
        if options.is_streaming {
            let stream = detached(py, || {
                runtime.call_streaming(&self.method, value, dependencies)
            })
            .map_err(|failure| to_py_err(py, &failure))?;
            return Ok(Bound::new(py, PyObjectStream::new(stream))?.into_any());
        }
        let references = detached(py, || runtime.call(&self.method, value, dependencies))
            .map_err(|failure| to_py_err(py, &failure))?;
        let wrapped = wrap(py, references, options.num_returns);
        mark(Point::Submitted);
        wrapped
    }
}
