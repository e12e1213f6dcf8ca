//! The main loop of a worker process: runs what the lanes bring.
//!
//! ```text
//!  next_work ─► native function or actor ─► NativeHost                     no interpreter lock
//!          └──► Python function ─► call
//!          └──► Python actor    ─► sync: call here, in order
//!                               └► async, threaded: host.dispatch, answered by CallDone from any thread
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, WorkerId};
use aktis_common::zygote::WorkerStart;
use aktis_worker::native::{NativeHost, is_native};
use aktis_worker::runtime::{ActorStart, CallOutcome};
use aktis_worker::stages::{Stage, mark};
use aktis_worker::{ProcessRole, ReceivedCall, Runtime, RuntimeConfig, TaskFailure, Value, Work};
use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::codec::{decode_args, to_value};
use crate::failure::{describe, to_py_err};
use crate::session::{CURRENT_CALL, CurrentCall, native_registry, process_settings};

/// How long the executor waits before it lets Python look for signals.
const SIGNAL_SLICE: Duration = Duration::from_secs(1);

enum Actor {
    None,
    /// Methods run here, one after the other.
    Sync(Py<PyAny>),
    /// Methods are handed to a host that answers later.
    Dispatched(Py<PyAny>),
}

struct Executor {
    runtime: Runtime,
    native: NativeHost,
    functions: HashMap<Bytes, Py<PyAny>>,
    executions: HashMap<Bytes, u32>,
    actor: Actor,
    actor_id: Option<ActorId>,
    gpu_ids: Vec<u32>,
}

/// Becomes a worker: joins the node and runs what comes until the process is to end.
pub(crate) fn run_worker(py: Python<'_>, start: &WorkerStart) -> PyResult<()> {
    let worker_id = WorkerId::from_hex(&start.worker_id)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let settings = process_settings()?;
    let config = RuntimeConfig {
        raylet_socket: start.raylet_socket.clone(),
        role: ProcessRole::Worker {
            startup_token: start.startup_token,
        },
        worker_id,
        entrypoint: String::new(),
        namespace: String::new(),
        registry: native_registry(),
        log_sink: None,
        lineage_limit_bytes: settings.lineage_bytes.0,
        lease_idle: settings.lease_idle,
        likely_modules: Vec::new(),
    };
    let runtime = py
        .detach(|| Runtime::start(config))
        .map_err(|failure| PyRuntimeError::new_err(failure.message))?;
    let mut executor = Executor {
        runtime,
        native: NativeHost::default(),
        functions: HashMap::new(),
        executions: HashMap::new(),
        actor: Actor::None,
        actor_id: None,
        gpu_ids: Vec::new(),
    };
    executor.run(py)
}

impl Executor {
    fn run(&mut self, py: Python<'_>) -> PyResult<()> {
        loop {
            let work = py.detach(|| self.runtime.next_work(Some(SIGNAL_SLICE)));
            let is_over = match work {
                None => {
                    py.check_signals()?;
                    false
                }
                Some(Work::Exit(_)) => true,
                Some(Work::StartActor(start)) => !self.start_actor(py, start),
                Some(Work::Call(call)) => self.run_call(py, call),
            };
            if is_over {
                return Ok(());
            }
        }
    }

    /// False: the process is to end.
    fn start_actor(&mut self, py: Python<'_>, mut start: Box<ActorStart>) -> bool {
        let held = start
            .start()
            .accelerators
            .as_ref()
            .map(|held| held.gpu_ids.clone())
            .unwrap_or_default();
        self.set_accelerators(py, held);
        self.actor_id = Some(start.actor());
        if is_native(start.spec().function.as_ref()) {
            return py.detach(|| self.native.start_actor(&self.runtime, start));
        }
        let function = start.spec().function.clone().unwrap_or_default();
        CURRENT_CALL.set(CurrentCall {
            task: None,
            actor: self.actor_id,
            gpu_ids: self.gpu_ids.clone(),
        });
        let made = py
            .detach(|| start.take_inputs())
            .map_err(|failure| to_py_err(py, &failure))
            .and_then(|inputs| {
                let class = self.definition(py, &function.function_id)?;
                let (args, kwargs) = decode_args(py, inputs)?;
                let concurrency = start
                    .start()
                    .options
                    .as_ref()
                    .map_or(0, |options| options.max_concurrency);
                let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py));
                py.import("aktis._worker")?
                    .call_method1("make_actor", (class, args, kwargs, concurrency))
            });
        let result = made
            .and_then(|host| self.adopt_host(&host))
            .map_err(|error| {
                describe(py, &error, &format!("{}.__init__", function.name), None).failure
            });
        let is_alive = result.is_ok();
        start.finish(result);
        is_alive
    }

    fn adopt_host(&mut self, host: &Bound<'_, PyAny>) -> PyResult<()> {
        let kind: String = host.getattr("kind")?.extract()?;
        self.actor = if kind == "sync" {
            Actor::Sync(host.getattr("instance")?.unbind())
        } else {
            Actor::Dispatched(host.clone().unbind())
        };
        Ok(())
    }

    /// True: the process is to end.
    fn run_call(&mut self, py: Python<'_>, mut call: Box<ReceivedCall>) -> bool {
        if self.native.has_actor() || is_native(call.template().function.as_ref()) {
            let (native, runtime) = (&mut self.native, &self.runtime);
            py.detach(|| native.run(runtime, call));
            return false;
        }
        if !call.is_actor_call()
            && let Some(held) = call.accelerators()
        {
            self.set_accelerators(py, held.gpu_ids);
        }
        let inputs = match py.detach(|| call.take_inputs()) {
            Ok(inputs) => inputs,
            Err(failure) => {
                py.detach(|| call.finish(failed(failure, Duration::ZERO)));
                return false;
            }
        };
        CURRENT_CALL.set(CurrentCall {
            task: Some(call.task()),
            actor: self.actor_id,
            gpu_ids: self.gpu_ids.clone(),
        });
        let arguments = decode_args(py, inputs);
        mark(Stage::ArgsDecoded);
        if let Actor::Dispatched(host) = &self.actor {
            let host = host.clone_ref(py);
            dispatch(py, &host, call, arguments);
            return false;
        }
        self.run_here(py, call, arguments)
    }

    fn run_here(
        &mut self,
        py: Python<'_>,
        call: Box<ReceivedCall>,
        arguments: PyResult<crate::codec::PyArgs<'_>>,
    ) -> bool {
        let begun = Instant::now();
        let returned = arguments
            .and_then(|(args, kwargs)| self.callee(py, &call)?.call(args, kwargs.as_ref()));
        mark(Stage::Returned);
        let is_exiting = self.is_last_call(&call);
        answer(py, call, returned, begun, is_exiting)
    }

    fn callee<'py>(&mut self, py: Python<'py>, call: &ReceivedCall) -> PyResult<Bound<'py, PyAny>> {
        match &self.actor {
            Actor::Sync(instance) if call.is_actor_call() => {
                instance.bind(py).getattr(call.template().method.as_str())
            }
            _ if call.is_actor_call() => {
                Err(PyRuntimeError::new_err("this process is not an actor"))
            }
            _ => {
                let id = call
                    .template()
                    .function
                    .as_ref()
                    .map(|function| function.function_id.clone())
                    .unwrap_or_default();
                self.definition(py, &id)
            }
        }
    }

    /// The function or class of this id, read from the gcs table at its first use.
    fn definition<'py>(&mut self, py: Python<'py>, id: &Bytes) -> PyResult<Bound<'py, PyAny>> {
        if let Some(known) = self.functions.get(id) {
            return Ok(known.bind(py).clone());
        }
        let key = crate::session::definition_key(id);
        let bytes = py
            .detach(|| self.runtime.kv_get(key))
            .map_err(|failure| to_py_err(py, &failure))?
            .ok_or_else(|| {
                PyRuntimeError::new_err("the function's definition is not in the gcs table")
            })?;
        let loaded = py
            .import("aktis._worker")?
            .call_method1("load_definition", (pyo3::types::PyBytes::new(py, &bytes),))?;
        self.functions.insert(id.clone(), loaded.clone().unbind());
        Ok(loaded)
    }

    /// Counts executions against max_calls.
    fn is_last_call(&mut self, call: &ReceivedCall) -> bool {
        let limit = call.template().max_calls;
        if limit == 0 {
            return false;
        }
        let id = call
            .template()
            .function
            .as_ref()
            .map(|function| function.function_id.clone())
            .unwrap_or_default();
        let executions = self.executions.entry(id).or_insert(0);
        *executions += 1;
        *executions >= limit
    }

    fn set_accelerators(&mut self, py: Python<'_>, gpu_ids: Vec<u32>) {
        if gpu_ids != self.gpu_ids {
            let set = py
                .import("aktis._worker")
                .and_then(|module| module.call_method1("set_accelerators", (gpu_ids.clone(),)));
            if let Err(error) = set {
                error.write_unraisable(py, None);
            }
            self.gpu_ids = gpu_ids;
        }
    }
}

/// Hands a call to the actor's loop or threads.
fn dispatch(
    py: Python<'_>,
    host: &Py<PyAny>,
    call: Box<ReceivedCall>,
    arguments: PyResult<crate::codec::PyArgs<'_>>,
) {
    let method = call.template().method.clone();
    let context = CURRENT_CALL.take();
    let done = CallDone {
        call: Arc::new(Mutex::new(Some(call))),
        begun: Instant::now(),
        context,
    };
    let done = match Py::new(py, done) {
        Ok(done) => done,
        Err(error) => return error.write_unraisable(py, None),
    };
    let dispatched = arguments.and_then(|(args, kwargs)| {
        let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py));
        host.bind(py)
            .call_method1("dispatch", (method, args, kwargs, done.clone_ref(py)))
    });
    if let Err(error) = dispatched {
        done.get().answer(py, Err(error));
    }
}

/// Answers a call that was dispatched; called once, from any thread.
#[pyclass(module = "aktis._aktis", frozen)]
pub(crate) struct CallDone {
    call: Arc<Mutex<Option<Box<ReceivedCall>>>>,
    begun: Instant,
    context: CurrentCall,
}

#[pymethods]
impl CallDone {
    /// `exc`: the exception that the method raised, or None.
    #[pyo3(signature = (value, exc=None))]
    fn __call__(&self, py: Python<'_>, value: Bound<'_, PyAny>, exc: Option<Bound<'_, PyAny>>) {
        let returned = exc.map_or(Ok(value), |exception| Err(PyErr::from_value(exception)));
        self.answer(py, returned);
    }

    /// Makes the calling thread run on behalf of this call (for `get_runtime_context`).
    fn enter(&self) {
        CURRENT_CALL.set(self.context.clone());
    }
}

impl CallDone {
    fn answer(&self, py: Python<'_>, returned: PyResult<Bound<'_, PyAny>>) {
        let Some(call) = self.call.lock().take() else {
            return;
        };
        let is_over = answer(py, call, returned, self.begun, false);
        if is_over {
            crate::session::end_worker(py);
        }
    }
}

/// Sends what a function returned or raised. True: the process is to end.
fn answer(
    py: Python<'_>,
    call: Box<ReceivedCall>,
    returned: PyResult<Bound<'_, PyAny>>,
    begun: Instant,
    is_exiting: bool,
) -> bool {
    let retry_on = call
        .template()
        .retry_exceptions
        .then(|| call.template().retry_exception_types.clone());
    let produced = returned.and_then(|returned| produce(py, &call, returned));
    let execution = begun.elapsed();
    match produced {
        Ok((values, stream_length)) => {
            py.detach(|| {
                call.finish(CallOutcome {
                    result: Ok(values),
                    is_retryable: false,
                    is_worker_exiting: is_exiting,
                    execution,
                    stream_length,
                });
            });
            is_exiting
        }
        Err(error) if is_actor_exit(py, &error) => {
            let message = format!("the actor ended itself in {} (exit_actor)", call.name());
            let ended = failed(TaskFailure::new(ErrorCode::ActorDied, message), execution);
            py.detach(|| {
                call.finish(CallOutcome {
                    is_worker_exiting: true,
                    ..ended
                })
            });
            true
        }
        Err(error) => {
            let described = describe(py, &error, &call.name(), retry_on.as_deref());
            drop(error);
            let outcome = CallOutcome {
                is_retryable: described.is_retryable,
                is_worker_exiting: is_exiting,
                ..failed(described.failure, execution)
            };
            py.detach(|| call.finish(outcome));
            is_exiting
        }
    }
}

fn is_actor_exit(py: Python<'_>, error: &PyErr) -> bool {
    let asked = py.import("aktis._worker").and_then(|module| {
        module
            .call_method1("is_exit", (error.value(py),))?
            .extract::<bool>()
    });
    asked.unwrap_or(false)
}

fn failed(failure: TaskFailure, execution: Duration) -> CallOutcome {
    CallOutcome {
        result: Err(failure),
        is_retryable: false,
        is_worker_exiting: false,
        execution,
        stream_length: 0,
    }
}

/// Results of a call as values, and the number of items a generator sent.
fn produce(
    py: Python<'_>,
    call: &ReceivedCall,
    returned: Bound<'_, PyAny>,
) -> PyResult<(Vec<Value>, u64)> {
    if call.template().is_streaming {
        return Ok((Vec::new(), stream(py, call, &returned)?));
    }
    let num_returns = call.template().num_returns as usize;
    if num_returns == 1 {
        return Ok((vec![own_small(to_value(&returned)?)], 0));
    }
    if num_returns == 0 {
        return Ok((Vec::new(), 0));
    }
    let items: Vec<Bound<'_, PyAny>> = match returned.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter().collect(),
        Err(_) => returned
            .try_iter()
            .map_err(|_| wrong_count(call, "a value that is not a sequence"))?
            .collect::<PyResult<_>>()?,
    };
    if items.len() != num_returns {
        return Err(wrong_count(call, &format!("{} values", items.len())));
    }
    let values: PyResult<Vec<Value>> = items
        .iter()
        .map(|item| to_value(item).map(own_small))
        .collect();
    Ok((values?, 0))
}

fn wrong_count(call: &ReceivedCall, returned: &str) -> PyErr {
    let wanted = call.template().num_returns;
    PyValueError::new_err(format!(
        "task {} returned {returned}, but num_returns={wanted}: return exactly {wanted} values",
        call.name()
    ))
}

/// Small results travel in a frame that is written later, maybe by a thread without the interpreter lock.
fn own_small(mut value: Value) -> Value {
    const COPY_BELOW: usize = 128 << 10;
    if value.data_bytes() <= COPY_BELOW {
        value.own_buffers();
    }
    value
}

fn stream(py: Python<'_>, call: &ReceivedCall, returned: &Bound<'_, PyAny>) -> PyResult<u64> {
    let items = returned.try_iter().map_err(|_| {
        PyValueError::new_err(format!(
            "{} is called as a generator, but did not return an iterable",
            call.name()
        ))
    })?;
    let mut count = 0;
    for item in items {
        let value = own_small(to_value(&item?)?);
        py.detach(|| call.emit(count, &value))
            .map_err(|failure| to_py_err(py, &failure))?;
        count += 1;
    }
    Ok(count.into())
}
