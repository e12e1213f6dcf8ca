//! What is expected of all rows of a dataset, and of how many it need not hold.

use std::fmt;

use super::expressions::Expression;

/// What is expected. The rows stay as they are, whether it holds for them or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expectation {
    /// For people.
    pub name: String,
    /// It holds for the rows for which this is true. Null is not true.
    pub expression: Expression,
    /// With more rows that violate it, it is broken.
    pub most: MostViolations,
    /// Whether it is only told when it is broken. If not, the job fails.
    pub only_warns: bool,
}

/// How many rows may violate an expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MostViolations {
    /// So many.
    Rows(u64),
    /// Such a share of all rows that come: the bits of a 64-bit float between 0 and 1.
    Share(u64),
}

impl MostViolations {
    /// Whether so many of so many rows are too many.
    pub(crate) fn is_exceeded(self, violations: u64, rows: u64) -> bool {
        match self {
            Self::Rows(most) => violations > most,
            Self::Share(share) => share_exceeds(violations, rows, f64::from_bits(share)),
        }
    }
}

/// Whether so many of so many rows are more than a share of them. The quotient is rounded as what users write is: 29 of 100 are 0.29,
/// of which the product is a little less than 29.
#[expect(clippy::cast_precision_loss, reason = "a share needs no last digit")]
pub(crate) fn share_exceeds(violations: u64, rows: u64, share: f64) -> bool {
    violations as f64 / rows as f64 > share
}

impl fmt::Display for MostViolations {
    /// As users write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Share(share) => write!(f, "{:?}", f64::from_bits(*share)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_what_may_be_and_not_what_is_too_much() {
        let share = MostViolations::Share(0.01f64.to_bits());
        assert!(!share.is_exceeded(10, 1000) && share.is_exceeded(11, 1000));
        assert!(!share.is_exceeded(0, 0) && share.is_exceeded(1, 0));
        let share = MostViolations::Share(0.29f64.to_bits());
        assert!(!share.is_exceeded(29, 100) && share.is_exceeded(30, 100));
        assert!(!MostViolations::Rows(2).is_exceeded(2, 2));
        assert!(MostViolations::Rows(2).is_exceeded(3, u64::MAX));
    }
}
