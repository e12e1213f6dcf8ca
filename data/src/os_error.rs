//! What the operating system refuses: a missing right, a full disk. Its error number reaches the user, whose exception is of
//! the class that goes with it.

use std::error::Error;
use std::io;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

/// The number of the system's error that this one came of.
pub(crate) fn number(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if let Some(number) = io.and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        // What an I/O error wraps is not its source, but the source's beginning.
        next = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The system's own words for it.
pub(crate) fn text(number: i32) -> String {
    io::Error::from_raw_os_error(number).to_string()
}

/// A failure of `what`, which names its file: the system's, if it came of one, else of this code.
pub(crate) fn failure(
    what: &str,
    error: &(dyn Error + 'static),
    otherwise: ErrorCode,
) -> TaskFailure {
    match number(error) {
        Some(number) => TaskFailure::of_os(number, format!("{what}: {}", text(number))),
        None => TaskFailure::new(otherwise, format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use datafusion_common::DataFusionError;
    use parquet::errors::ParquetError;

    use super::*;

    #[test]
    fn number_is_found_in_whatever_the_error_was_wrapped() {
        let full = || io::Error::from_raw_os_error(28);
        assert_eq!(number(&full()), Some(28));
        assert_eq!(number(&io::Error::other(full())), Some(28));
        let parquet = ParquetError::External(Box::new(full()));
        assert_eq!(number(&parquet), Some(28));
        let planned = DataFusionError::External(Box::new(parquet));
        assert_eq!(number(&planned.context("reading")), Some(28));
        assert_eq!(number(&io::Error::other("damaged")), None);
    }

    #[test]
    fn failure_says_what_was_done_and_keeps_the_number() {
        let failure = failure(
            "write a",
            &io::Error::from_raw_os_error(13),
            ErrorCode::Internal,
        );
        assert_eq!(
            (failure.code, failure.os_error()),
            (ErrorCode::Os, Some(13))
        );
        assert!(
            failure.message.starts_with("write a: Permission denied"),
            "{failure}"
        );
    }
}
