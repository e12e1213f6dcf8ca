//! Answering calls: what a function returned or raised, sent to its caller.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::fork;
use aktis_common::ids::TaskId;
use aktis_common::marks::{Point, mark};
use aktis_worker::runtime::CallOutcome;
use aktis_worker::{ReceivedCall, Value, set_current_task};
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::cancel::cancelled_end;
use crate::codec::to_value;
use crate::exit::leave_if_asked;
use crate::failure::{describe, to_py_err};
use crate::interpreter_end::detached;
use crate::session::{CURRENT_CALL, CurrentCall};

/// Hands a call to the actor's loop or threads.
pub(crate) fn hand_over(
    py: Python<'_>,
    host: &Bound<'_, PyAny>,
    entry: &str,
    call: Box<ReceivedCall>,
    context: CurrentCall,
    arguments: PyResult<crate::codec::PyArgs<'_>>,
) {
    let template = Arc::clone(call.template());
    let done = CallDone {
        task: call.task(),
        is_streaming: template.is_streaming,
        sent: Mutex::new(0),
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
        let method = template.method.as_str();
        host.call_method1(entry, (method, args, kwargs, done.clone_ref(py)))
    });
    if let Err(error) = dispatched {
        done.get().answer(py, Err(error));
    }
}

/// Answers a call that was dispatched; called once, from any thread.
#[pyclass(module = "aktis._aktis", frozen)]
pub(crate) struct CallDone {
    task: TaskId,
    call: Arc<Mutex<Option<Box<ReceivedCall>>>>,
    begun: Instant,
    context: CurrentCall,
    is_streaming: bool,
    /// Items that the loop has sent.
    sent: Mutex<u32>,
}

#[pymethods]
impl CallDone {
    /// `exc`: the exception that the method raised, or None.
    #[pyo3(signature = (value, exc=None))]
    fn __call__(&self, py: Python<'_>, value: Bound<'_, PyAny>, exc: Option<Bound<'_, PyAny>>) {
        mark(Point::Returned);
        let returned = exc.map_or(Ok(value), |exception| Err(PyErr::from_value(exception)));
        self.answer(py, returned);
    }

    /// Makes the calling thread run on behalf of this call. False: it was cancelled, and is answered.
    fn enter(&self, py: Python<'_>) -> bool {
        CURRENT_CALL.set(self.context.clone());
        set_current_task(Some(self.task));
        let mut waiting = self.call.lock();
        if waiting.as_ref().is_none_or(|call| !call.is_cancelled()) {
            return true;
        }
        if let Some(call) = waiting.take() {
            drop(waiting);
            let failure = call.cancelled();
            detached(py, || {
                call.finish(CallOutcome::failed(failure, Duration::ZERO))
            });
        }
        false
    }

    /// The id of the call's task.
    fn task_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.task.as_bytes())
    }

    /// [`CallDone::enter`] for a loop on which calls take turns.
    fn resume(&self) {
        CURRENT_CALL.set(self.context.clone());
        set_current_task(Some(self.task));
    }

    /// Whether the caller takes items one by one.
    #[getter]
    fn is_streaming(&self) -> bool {
        self.is_streaming
    }

    /// Sends the next item of a stream. A loop makes the next one when `Arrivals.await_room` says so.
    fn emit(&self, py: Python<'_>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        if fork::is_abandoned() {
            end_forked_child(py, None);
        }
        let value = own_small(to_value(item)?);
        // Taken out meanwhile: a lock must not be held by a thread that waits for the interpreter's.
        let Some(call) = self.call.lock().take() else {
            return Err(PyRuntimeError::new_err("the call is answered already"));
        };
        let index = *self.sent.lock();
        let emitted = detached(py, || call.emit(index, &value));
        *self.call.lock() = Some(call);
        emitted.map_err(|failure| to_py_err(py, &failure))?;
        *self.sent.lock() += 1;
        Ok(())
    }

    /// Answers a call whose items were all sent by [`CallDone::emit`].
    fn end_stream(&self, py: Python<'_>) {
        let sent = *self.sent.lock();
        self.finish(py, |_| Ok((Vec::new(), sent.into())));
    }

    /// Whether somebody waits for the answer.
    fn has_caller(&self) -> bool {
        self.call
            .lock()
            .as_ref()
            .is_some_and(|call| call.has_caller())
    }
}

impl CallDone {
    /// See [`ReceivedCall::watch_consumer`].
    pub(crate) fn watch_consumer(&self, wake: Box<dyn FnOnce() + Send>) -> bool {
        let (call, sent) = (self.call.lock(), *self.sent.lock());
        call.as_ref()
            .is_none_or(|call| call.watch_consumer(sent, wake))
    }

    fn answer(&self, py: Python<'_>, returned: PyResult<Bound<'_, PyAny>>) {
        self.finish(py, |call| {
            returned.and_then(|returned| produce(py, call, returned))
        });
    }

    fn finish(
        &self,
        py: Python<'_>,
        produce: impl FnOnce(&ReceivedCall) -> PyResult<(Vec<Value>, u64)>,
    ) {
        let Some(call) = self.call.lock().take() else {
            return;
        };
        let produced = produce(&call);
        if fork::is_abandoned() {
            end_forked_child(py, produced.err());
        }
        let circumstances = Circumstances {
            begun: self.begun,
            is_exiting: false,
            is_on_loop: self.context.is_on_loop,
        };
        let is_over = answer(py, call, produced, circumstances);
        if is_over {
            crate::session::end_worker(py);
        }
    }
}

/// User code forked, and its child returned from it: only its parent answers the call.
pub(crate) fn end_forked_child(py: Python<'_>, error: Option<PyErr>) -> ! {
    let ended = py
        .import("aktis._process.worker")
        .and_then(|module| module.call_method1("end_forked_child", (error,)));
    if let Err(error) = ended {
        error.write_unraisable(py, None);
    }
    std::process::abort()
}

/// How a call ran.
pub(crate) struct Circumstances {
    pub(crate) begun: Instant,
    /// The process ends after it.
    pub(crate) is_exiting: bool,
    pub(crate) is_on_loop: bool,
}

/// Sends what a function returned or raised. True: the process is to end.
pub(crate) fn answer(
    py: Python<'_>,
    call: Box<ReceivedCall>,
    produced: PyResult<(Vec<Value>, u64)>,
    Circumstances {
        begun,
        is_exiting,
        is_on_loop,
    }: Circumstances,
) -> bool {
    let retry_on = call
        .template()
        .retry_exceptions
        .then(|| call.template().retry_exception_types.clone());
    let execution = begun.elapsed();
    if let Some(cancelled) = cancelled_end(py, &call, &produced, is_on_loop) {
        drop(produced);
        let outcome = CallOutcome {
            execution,
            is_worker_exiting: is_exiting,
            ..cancelled
        };
        detached(py, || call.finish(outcome));
        return is_exiting;
    }
    let call = match leave_if_asked(py, call, &produced) {
        Ok(()) => return true,
        Err(call) => call,
    };
    match produced {
        Ok((values, stream_length)) => {
            detached(py, || {
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
        Err(error) => {
            let described = describe(py, &error, &call.name(), retry_on.as_deref());
            drop(error);
            let outcome = CallOutcome {
                is_retryable: described.is_retryable,
                is_worker_exiting: is_exiting,
                ..CallOutcome::failed(described.failure, execution)
            };
            detached(py, || call.finish(outcome));
            is_exiting
        }
    }
}

/// Results of a call as values, and the number of items a generator sent.
pub(crate) fn produce(
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
        if call.is_cancelled() {
            return Err(to_py_err(py, &call.cancelled()));
        }
        if fork::is_abandoned() {
            end_forked_child(py, item.err());
        }
        let value = own_small(to_value(&item?)?);
        detached(py, || call.emit(count, &value)).map_err(|failure| to_py_err(py, &failure))?;
        count += 1;
        detached(py, || call.await_consumer(count)).map_err(|failure| to_py_err(py, &failure))?;
    }
    Ok(count.into())
}
