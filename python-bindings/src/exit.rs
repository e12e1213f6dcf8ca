//! Processes that user code ends: `exit_actor()` and `sys.exit()`.
//!
//! ```text
//!  exit_actor()                  answered: ActorDied     the raylet is told that it is meant: no restart
//!  sys.exit(0) in an actor       the same
//!  sys.exit(code), otherwise     not answered: to callers and raylet it is a crash, with restarts and retries
//! ```

use std::time::Duration;

use aktis_common::end_deadline;
use aktis_common::error::ErrorCode;
use aktis_common::ids::TaskId;
use aktis_worker::runtime::CallOutcome;
use aktis_worker::{ReceivedCall, Runtime, TaskFailure};
use parking_lot::Mutex;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

use crate::interpreter_end::detached;
use crate::session::{CURRENT_CALL, resume_on_loop};

/// How the process is to end after the present call.
#[derive(Debug, Clone, Copy)]
enum Exit {
    /// The actor ended itself, for good.
    OfActor,
    /// The process ends with this status.
    OfProcess(i32),
}

static WISH: Mutex<Option<Exit>> = Mutex::new(None);
/// The call that has said `exit_actor()`. Others that run beside it are still answered.
static LEAVING: Mutex<Option<TaskId>> = Mutex::new(None);

/// The actor is to end after the method that runs, even if that catches what `exit_actor()` raises.
#[pyfunction]
pub(crate) fn request_exit(py: Python<'_>) -> PyResult<()> {
    resume_on_loop(py)?;
    *LEAVING.lock() = CURRENT_CALL.with_borrow(|call| call.task);
    Ok(())
}

/// Ends the call if it wants the process to end; gives it back otherwise.
pub(crate) fn leave_if_asked<T>(
    py: Python<'_>,
    call: Box<ReceivedCall>,
    produced: &PyResult<T>,
) -> Result<(), Box<ReceivedCall>> {
    let wish = match produced {
        Err(error) if error.is_instance_of::<PySystemExit>(py) => Some(wish_of(py, &call, error)),
        _ => (*LEAVING.lock() == Some(call.task())).then_some(Exit::OfActor),
    };
    let Some(wish) = wish else { return Err(call) };
    *WISH.lock() = Some(wish);
    detached(py, || match wish {
        Exit::OfActor => {
            if let Some(runtime) = Runtime::current() {
                runtime.announce_leaving();
            }
            let message = format!("the actor ended itself in {} (exit_actor())", call.name());
            let died = TaskFailure::new(ErrorCode::ActorDied, message);
            call.finish(CallOutcome {
                is_worker_exiting: true,
                ..CallOutcome::failed(died, Duration::ZERO)
            });
        }
        Exit::OfProcess(_) => drop(call),
    });
    Ok(())
}

fn wish_of(py: Python<'_>, call: &ReceivedCall, error: &PyErr) -> Exit {
    let asked = py.import("aktis._process.worker").and_then(|module| {
        module
            .call_method1("exit_code", (error.value(py),))?
            .extract::<(i32, bool)>()
    });
    match asked {
        Ok((_, true)) if call.is_actor_call() => Exit::OfActor,
        Ok((code, _)) => Exit::OfProcess(code),
        Err(_) => Exit::OfProcess(1),
    }
}

/// The process ends in so many seconds with this status and message whatever it does then, unless the deadline is cleared.
#[pyfunction]
pub(crate) fn set_end_deadline(patience_s: f64, status: i32, message: &str) {
    end_deadline::set(Duration::from_secs_f64(patience_s), status, message);
}

/// There is no deadline for the end of this process any more.
#[pyfunction]
pub(crate) fn clear_end_deadline() {
    end_deadline::clear();
}

/// What `sys.exit` would raise in the main thread of this process, which is about to end.
pub(crate) fn wanted_exit() -> PyResult<()> {
    match *WISH.lock() {
        Some(Exit::OfProcess(code)) => Err(PySystemExit::new_err(code)),
        _ => Ok(()),
    }
}
