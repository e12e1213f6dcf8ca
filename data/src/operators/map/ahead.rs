//! How many calls of a function may be begun while the first of them is not over, whose outputs go on first.

use crate::operators::udf::BatchFunction;

/// Calls that are over may wait for a slow one before them: so many for each that may be under way. Lengths of requests to
/// language models are about log-normal: of 64 calls under way, the longest takes thirty times as long as most.
const MOST_DONE: u64 = 32;

/// What calls hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallsAhead {
    /// What calls that are over may hold, while they wait.
    done_bytes: u64,
    calls: u64,
    /// What went into the calls so far, and came out of them.
    bytes: u64,
}

impl CallsAhead {
    /// Calls that are over hold about `done_bytes` at most.
    pub(super) fn new(done_bytes: u64) -> Self {
        Self {
            done_bytes,
            calls: 0,
            bytes: 0,
        }
    }

    /// A call is over that held so much.
    pub(super) fn over(&mut self, bytes: u64) {
        self.calls += 1;
        self.bytes += bytes;
    }

    /// What is known from another input, as long as nothing is of this one.
    pub(super) fn learn(&mut self, other: &Self) {
        if self.calls == 0 {
            (self.calls, self.bytes) = (other.calls, other.bytes);
        }
    }

    /// How many calls may be begun.
    pub(super) fn most(&self, function: &dyn BatchFunction) -> usize {
        let calls = function.calls_ahead();
        if calls < 2 || !function.limits_calls() {
            return calls;
        }
        // Until one is over, nobody knows what they hold.
        let room = self.done_bytes.saturating_mul(self.calls) / self.bytes.max(1);
        let done = room.min(MOST_DONE.saturating_mul(calls as u64));
        calls.saturating_add(usize::try_from(done).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use aktis_worker::TaskFailure;
    use arrow::array::RecordBatch;

    use super::*;

    /// Wants so many calls under way.
    struct Calls {
        most: usize,
        limits_calls: bool,
    }

    impl BatchFunction for Calls {
        fn calls_ahead(&self) -> usize {
            self.most
        }

        fn limits_calls(&self) -> bool {
            self.limits_calls
        }

        fn begin(&mut self, _batch: RecordBatch) -> Result<(), TaskFailure> {
            Ok(())
        }

        fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
            Ok(None)
        }

        fn forget_calls(&mut self) {}
    }

    fn calls(most: usize, limits_calls: bool) -> Calls {
        Calls { most, limits_calls }
    }

    #[test]
    fn small_calls_run_far_ahead_and_large_ones_do_not() {
        let mut small = CallsAhead::new(1000);
        assert_eq!(small.most(&calls(4, true)), 4, "nothing is known yet");
        small.over(10);
        assert_eq!(small.most(&calls(4, true)), 4 + 100);
        small.over(0);
        assert_eq!(small.most(&calls(4, true)), 4 + 128, "enough for any");
        let mut large = CallsAhead::new(1000);
        large.over(1500);
        assert_eq!(large.most(&calls(4, true)), 4);
    }

    #[test]
    fn functions_that_do_not_wait_by_themselves_get_as_many_as_they_say() {
        let mut ahead = CallsAhead::new(1000);
        ahead.over(1);
        assert_eq!(ahead.most(&calls(4, false)), 4);
        assert_eq!(ahead.most(&calls(1, true)), 1);
    }
}
