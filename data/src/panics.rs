//! Panics of others as failures: decoders meet bytes that nobody has thought of, and a job must say so and go on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// Runs `work`; a panic becomes the failure that `describe` makes of its text.
pub(crate) fn caught<T>(
    describe: impl FnOnce(&str) -> TaskFailure,
    work: impl FnOnce() -> Result<T, TaskFailure>,
) -> Result<T, TaskFailure> {
    // What `work` touched is not used again: its caller gives up with the failure.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(describe(text_of(panic.as_ref()))))
}

/// A panic of this crate's own code.
pub(crate) fn defect(who: &str, text: &str) -> TaskFailure {
    TaskFailure::new(ErrorCode::Internal, format!("{who} panicked: {text}"))
}
