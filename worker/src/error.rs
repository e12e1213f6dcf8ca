//! Failures of this crate. What the user sees is made from [`TaskFailure`] by the bindings.

use aktis_common::error::ErrorCode;
use aktis_proto::v1 as wire;
use bytes::Bytes;

/// A failure that has a code for every language: of a task, an object, an actor or a call of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TaskFailure {
    /// Which kind of failure.
    pub code: ErrorCode,
    /// Cause and fix, for people.
    pub message: String,
    /// For application errors: the pickled exception. For the operating system's: its number in decimal digits.
    pub exception: Bytes,
    /// For application errors: the formatted remote traceback.
    pub traceback: String,
}

impl TaskFailure {
    /// A failure without an exception object.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            exception: Bytes::new(),
            traceback: String::new(),
        }
    }

    /// The operating system refused something, with this error number.
    pub fn of_os(number: i32, message: impl Into<String>) -> Self {
        Self {
            exception: Bytes::from(number.to_string()),
            ..Self::new(ErrorCode::Os, message)
        }
    }

    /// The number of the operating system's error, if it was that.
    pub fn os_error(&self) -> Option<i32> {
        let digits = std::str::from_utf8(&self.exception).ok()?;
        (self.code == ErrorCode::Os).then(|| digits.parse().ok())?
    }

    /// The wire form.
    pub fn to_wire(&self) -> wire::Failure {
        wire::Failure {
            code: self.code.as_u32(),
            message: self.message.clone(),
            exception: self.exception.clone(),
            traceback: self.traceback.clone(),
        }
    }

    /// Reads the wire form.
    pub fn from_wire(failure: wire::Failure) -> Self {
        Self {
            code: ErrorCode::from_u32(failure.code),
            message: failure.message,
            exception: failure.exception,
            traceback: failure.traceback,
        }
    }
}
