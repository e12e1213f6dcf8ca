//! Failures to Python exceptions and back.

use aktis_common::error::ErrorCode;
use aktis_worker::{GetError, TaskFailure};
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::session::raised_by_signal;

/// The exception for a failure; `aktis.exceptions` chooses the class. What a handler of a signal raised while the calling thread
/// waited comes first.
pub(crate) fn to_py_err(py: Python<'_>, failure: &TaskFailure) -> PyErr {
    if failure.code == ErrorCode::Cancelled
        && let Some(raised) = raised_by_signal()
    {
        return raised;
    }
    let made = py.import("aktis.exceptions").and_then(|module| {
        let exception = PyBytes::new(py, &failure.exception);
        let arguments = (
            failure.code.as_u32(),
            &failure.message,
            exception,
            &failure.traceback,
        );
        module.call_method1("_from_failure", arguments)
    });
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// The exception for a `get` that gave no values.
pub(crate) fn get_error(py: Python<'_>, error: GetError, timeout: Option<f64>) -> PyErr {
    match error {
        GetError::Failed(failure) => to_py_err(py, &failure),
        GetError::Interrupted => {
            raised_by_signal().unwrap_or_else(|| pyo3::exceptions::PyKeyboardInterrupt::new_err(()))
        }
        GetError::TimedOut {
            missing,
            wanted,
            waits_for,
        } => {
            let made = py.import("aktis.exceptions").and_then(|module| {
                module.call_method1("_timeout", (missing, wanted, timeout, waits_for))
            });
            match made {
                Ok(exception) => PyErr::from_value(exception),
                Err(error) => error,
            }
        }
    }
}

/// What is told to the caller of a function that raised.
pub(crate) struct Described {
    pub(crate) failure: TaskFailure,
    pub(crate) is_retryable: bool,
}

/// Describes an exception for another process. `retry_on`: pickled exception types, empty for any.
pub(crate) fn describe(
    py: Python<'_>,
    error: &PyErr,
    name: &str,
    retry_on: Option<&[u8]>,
) -> Described {
    let described = py.import("aktis._process.worker").and_then(|module| {
        // Before Python 3.12 a fetched exception carries its traceback beside it.
        if let Some(traceback) = error.traceback(py) {
            error.value(py).setattr("__traceback__", traceback)?;
        }
        let retry_on = retry_on.map(|types| PyBytes::new(py, types));
        module
            .call_method1("describe_exception", (error.value(py), name, retry_on))?
            .extract::<(Vec<u8>, String, String, bool)>()
    });
    match described {
        Ok((exception, message, traceback, is_retryable)) => Described {
            failure: TaskFailure {
                code: ErrorCode::Application,
                message,
                exception: Bytes::from(exception),
                traceback,
            },
            is_retryable,
        },
        Err(second) => Described {
            failure: TaskFailure::new(
                ErrorCode::Application,
                format!("{error} (and it could not be described: {second})"),
            ),
            is_retryable: false,
        },
    }
}
