//! What is said of an expectation that does not hold.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use super::{Counts, Found};

pub(super) fn failure(found: &Found, counts: Counts) -> TaskFailure {
    let Counts { rows, violations } = counts;
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
