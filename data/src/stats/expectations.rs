//! What was found of expectations.

use arrow::array::RecordBatch;

use crate::plan::MostViolations;

/// What was found of an expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectationStats {
    /// For people.
    pub name: String,
    /// How many rows may violate it.
    pub most: MostViolations,
    /// Whether it is only told when it is broken.
    pub only_warns: bool,
    /// Rows that came, each counted once.
    pub rows: u64,
    /// Rows of these for which it does not hold.
    pub violations: u64,
    /// What is known of it.
    pub verdict: ExpectationVerdict,
    /// Some of these rows: a batch of one row each, with the columns `row` and `position`.
    pub examples: Vec<RecordBatch>,
}

/// What is known of an expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectationVerdict {
    /// Rows are still to come.
    Pending,
    /// All rows have come, and it holds.
    Held,
    /// It cannot hold any more.
    Broken,
    /// The job has ended before all rows had come.
    Undecided,
}

impl ExpectationStats {
    /// For people.
    pub(super) fn to_text(&self) -> String {
        let violate = if self.violations == 1 {
            "violates"
        } else {
            "violate"
        };
        let rows = if self.rows == 1 { "row" } else { "rows" };
        format!(
            "{} of {} {rows} {violate} it, max_violations={}: {}",
            self.violations,
            self.rows,
            self.most,
            self.verdict.as_str()
        )
    }
}

impl ExpectationVerdict {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Broken => "broken",
            Self::Undecided => "undecided",
        }
    }
}
