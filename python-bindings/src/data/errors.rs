//! Exceptions for plans that are wrong, or cannot be run.

use aktis_data::{ExecuteError, PlanError, PlanErrorKind};
use pyo3::exceptions::{PyFileNotFoundError, PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::failure::to_py_err;

/// The exception for a plan that is wrong.
pub(super) fn plan_error(error: &PlanError) -> PyErr {
    let text = error.to_string();
    if let Some(number) = error.os_error() {
        // Python makes a PermissionError, a NotADirectoryError and so on of it.
        return PyOSError::new_err((number, text));
    }
    match error.kind() {
        PlanErrorKind::FileNotFound => PyFileNotFoundError::new_err(text),
        PlanErrorKind::Unreadable => PyOSError::new_err(text),
        PlanErrorKind::InvalidArgument => PyValueError::new_err(text),
    }
}

/// The exception for a plan that did not begin to run.
pub(super) fn execute_error(py: Python<'_>, error: &ExecuteError) -> PyErr {
    match error {
        ExecuteError::Plan(error) => plan_error(error),
        ExecuteError::Fit(error) => {
            let code = aktis_common::error::ErrorCode::Unschedulable;
            to_py_err(py, &aktis_worker::TaskFailure::new(code, error.to_string()))
        }
        ExecuteError::Failed(failure) => to_py_err(py, failure),
    }
}
