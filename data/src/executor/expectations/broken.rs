//! What is said of an expectation that does not hold.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use super::{JudgedCounts, Standing};

pub(super) fn failure(found: &Standing, counts: JudgedCounts) -> TaskFailure {
    let JudgedCounts { rows, violations } = counts;
    let (whose, verb) = if violations == 1 {
        ("row", "violates")
    } else {
        ("rows", "violate")
    };
    let came = if found.is_over {
        format!("the {rows} that came")
    } else {
        format!("the {rows} that came so far")
    };
    TaskFailure::new(
        ErrorCode::Application,
        format!(
            "expect({}): {violations} {whose} of {came} {verb} it, more than max_violations={} allows",
            found.expectation.name, found.expectation.most,
        ),
    )
}
