//! Cancelling: `aktis.cancel`, and how Python code that runs is ended.
//!
//! ```text
//!  task           SIGINT to the main thread ─► Python's handler: claim_interrupt() ─► KeyboardInterrupt
//!  async actor    host.cancel(task) ─► asyncio.Task.cancel()
//!  other actors   nothing: the method asks is_cancelled()
//! ```

use std::sync::Arc;

use aktis_common::ids::TaskId;
use aktis_worker::runtime::CallOutcome;
use aktis_worker::{InterruptClaim, ProcessRole, ReceivedCall, Runtime, current_task};
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::failure::to_py_err;
use crate::interpreter_end::detached;
use crate::object_ref::{PyObjectRef, PyObjectStream};
use crate::python_thread::{CALLBACKS, Call};
use crate::session::{CURRENT_CALL, runtime};

/// The host of an async actor, once this process is one.
pub(crate) type LoopHost = Arc<Mutex<Option<Py<PyAny>>>>;

/// Cancels the task behind a reference or a generator.
#[pyfunction]
pub(crate) fn cancel(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    force: bool,
    recursive: bool,
) -> PyResult<()> {
    let runtime = runtime(py)?;
    let cancelled = if let Ok(reference) = target.cast::<PyObjectRef>() {
        let reference = reference.get().reference();
        detached(py, || runtime.cancel(reference, force, recursive))
    } else if let Ok(stream) = target.cast::<PyObjectStream>() {
        let stream = stream.get().stream();
        detached(py, || runtime.cancel_stream(stream, force, recursive))
    } else {
        return Err(PyTypeError::new_err("expected a reference or a generator"));
    };
    cancelled.map_err(|failure| to_py_err(py, &failure))
}

/// Whether the running task or method was cancelled.
#[pyfunction]
pub(crate) fn is_cancelled(py: Python<'_>) -> PyResult<bool> {
    let runtime = runtime(py)?;
    if runtime.role() == ProcessRole::Driver {
        return Err(PyRuntimeError::new_err(
            "is_canceled() is for tasks and methods of actors: this is the driver",
        ));
    }
    if CURRENT_CALL.with_borrow(|call| call.is_on_loop) {
        return Err(PyRuntimeError::new_err(
            "is_canceled() is not for async actors: cancel() raises asyncio.CancelledError in their methods",
        ));
    }
    Ok(current_task().is_some_and(|task| runtime.is_cancelled(task)))
}

/// For the handler of SIGINT in workers. True: the running task is to be interrupted; False: the signal was for a task
/// that has ended; None: it was not ours.
#[pyfunction]
pub(crate) fn claim_interrupt() -> Option<bool> {
    match Runtime::current()?.claim_interrupt() {
        InterruptClaim::Running => Some(true),
        InterruptClaim::Ended => Some(false),
        InterruptClaim::Foreign => None,
    }
}

/// Makes cancelled tasks of this worker end.
pub(crate) fn install_canceller(runtime: &Runtime, host: &LoopHost) {
    let host = Arc::clone(host);
    let interrupting = runtime.clone();
    runtime.set_canceller(Box::new(move |task| {
        if host.lock().is_none() {
            interrupting.interrupt(task);
            return;
        }
        let host = Arc::clone(&host);
        CALLBACKS.run(move |py| cancellation_on_loop(py, &host, task));
    }));
}

/// Cancels the asyncio task that runs the call.
pub(crate) fn cancel_on_loop(py: Python<'_>, host: &LoopHost, task: TaskId) {
    if host.lock().is_none() {
        return;
    }
    let cancelled = cancellation_on_loop(py, host, task)
        .and_then(|(cancel, arguments)| cancel.call1(py, arguments));
    if let Err(error) = cancelled {
        error.write_unraisable(py, None);
    }
}

fn cancellation_on_loop(py: Python<'_>, host: &LoopHost, task: TaskId) -> PyResult<Call> {
    let host = host.lock().as_ref().map(|host| host.clone_ref(py));
    let host = host.ok_or_else(|| PyRuntimeError::new_err("the actor has no loop"))?;
    let id = PyTuple::new(py, [PyBytes::new(py, task.as_bytes())])?;
    Ok((host.getattr(py, "cancel")?, id.unbind()))
}

/// What a cancelled call ends with, if it ends as one. An actor's method that returns although it was cancelled counts
/// as cancelled, as in Ray; a task that catches its `KeyboardInterrupt`, or a coroutine its `CancelledError`, may return.
pub(crate) fn cancelled_end<T>(
    py: Python<'_>,
    call: &ReceivedCall,
    produced: &PyResult<T>,
    is_on_loop: bool,
) -> Option<CallOutcome> {
    if !call.is_cancelled() {
        return None;
    }
    let has_ended_by_it = match produced {
        Ok(_) => call.is_actor_call() && !is_on_loop,
        Err(error) => is_cancellation(py, error),
    };
    has_ended_by_it.then(|| CallOutcome::failed(call.cancelled(), std::time::Duration::ZERO))
}

fn is_cancellation(py: Python<'_>, error: &PyErr) -> bool {
    let asked = py.import("aktis._process.worker").and_then(|module| {
        module
            .call_method1("is_cancellation", (error.value(py),))?
            .extract::<bool>()
    });
    asked.unwrap_or(false)
}
