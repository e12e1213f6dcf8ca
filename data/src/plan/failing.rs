//! What becomes of rows that a function fails for.

use std::time::Duration;

/// What a step does with rows that its function fails for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The job fails.
    #[default]
    Raise,
    /// They are left out.
    Skip,
    /// They are left out, and put aside with what is known of the failure.
    DeadLetter,
}

impl OnError {
    /// Reads the names that users write.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "raise" => Self::Raise,
            "skip" => Self::Skip,
            "dead_letter" => Self::DeadLetter,
            _ => return None,
        })
    }
}

/// How a step treats failures of its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FailurePolicy {
    /// `None`: not said, which is to raise where nobody says anything else for the whole job.
    pub on_error: Option<OnError>,
    /// With more failed rows than these the job fails.
    pub max_errors: Option<u64>,
    /// The same for a share of the rows that come to the step: the bits of a float.
    pub max_error_ratio: Option<u64>,
    /// The same for batches with failed rows in them.
    pub max_errored_batches: Option<u64>,
    /// A call that takes longer has failed.
    pub timeout: Option<Duration>,
    /// Whether what it does not say is taken from what holds for the whole job.
    pub takes_defaults: bool,
}

impl FailurePolicy {
    /// What the step does with failed rows.
    pub fn on_error(&self) -> OnError {
        self.on_error.unwrap_or_default()
    }

    /// Whether rows may be left out.
    pub fn loses_rows(&self) -> bool {
        self.on_error() != OnError::Raise
    }

    /// Whether calls are looked after one by one.
    pub fn is_guarded(&self) -> bool {
        self.loses_rows() || self.timeout.is_some()
    }

    /// The same, where `defaults` hold for what is not said.
    #[must_use]
    pub fn or(self, defaults: &Self) -> Self {
        if !self.takes_defaults {
            return self;
        }
        let has_limit = self.max_errors.is_some()
            || self.max_error_ratio.is_some()
            || self.max_errored_batches.is_some();
        let limits = if has_limit { &self } else { defaults };
        Self {
            on_error: self.on_error.or(defaults.on_error),
            max_errors: limits.max_errors,
            max_error_ratio: limits.max_error_ratio,
            max_errored_batches: limits.max_errored_batches,
            timeout: self.timeout.or(defaults.timeout),
            takes_defaults: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_says_goes_before_what_holds_for_the_job() {
        let defaults = FailurePolicy {
            on_error: Some(OnError::Skip),
            max_errors: Some(10),
            timeout: Some(Duration::from_secs(5)),
            ..FailurePolicy::default()
        };
        let asked = FailurePolicy {
            takes_defaults: true,
            ..FailurePolicy::default()
        };
        assert_eq!(asked.or(&defaults).on_error(), OnError::Skip);
        assert_eq!(asked.or(&defaults).max_errors, Some(10));
        let own = FailurePolicy {
            on_error: Some(OnError::Raise),
            max_error_ratio: Some(0.5f64.to_bits()),
            ..asked
        };
        assert_eq!(own.or(&defaults).on_error(), OnError::Raise);
        assert_eq!(own.or(&defaults).max_errors, None, "one limit of its own");
        assert_eq!(own.or(&defaults).timeout, defaults.timeout);
        let fixed = FailurePolicy::default();
        assert_eq!(fixed.or(&defaults), fixed);
    }
}
