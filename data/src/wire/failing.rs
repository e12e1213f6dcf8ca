//! Rows that functions fail for: how a step treats them, what is known of them before, what is told of them.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::plan::{FailurePolicy, OnError};

/// As [`FailurePolicy`](crate::plan::FailurePolicy), as far as workers need it: shares are the driver's.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct FailuresSpec {
    /// What the step does.
    #[prost(enumeration = "OnErrorKind", tag = "1")]
    pub on_error: i32,
    /// How long a call may take; 0: as long as it likes.
    #[prost(uint64, tag = "2")]
    pub timeout_nanos: u64,
    /// How many rows of the step may fail.
    #[prost(uint64, optional, tag = "3")]
    pub max_errors: Option<u64>,
    /// Of how many batches.
    #[prost(uint64, optional, tag = "4")]
    pub max_errored_batches: Option<u64>,
}

/// As [`OnError`](crate::plan::OnError).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum OnErrorKind {
    /// The job fails.
    Raise = 0,
    /// The rows are left out.
    Skip = 1,
    /// They are left out and put aside.
    DeadLetter = 2,
}

/// What is known of rows of an input that functions fail for. A row is known by the step that it comes to, and its number among
/// the rows that come to that step from the input.
#[derive(Clone, PartialEq, Message)]
pub struct FailingSpec {
    /// Rows that are left out without a word: they were told by an earlier attempt.
    #[prost(message, repeated, tag = "1")]
    pub told: Vec<StepRow>,
    /// Rows that are left out, and told.
    #[prost(message, repeated, tag = "2")]
    pub blamed: Vec<BlamedRow>,
    /// Batches are cut before these rows.
    #[prost(message, repeated, tag = "3")]
    pub cuts: Vec<StepRow>,
    /// Whether calls are one at a time, and noted where the driver finds them should the worker die.
    #[prost(bool, tag = "4")]
    pub is_careful: bool,
    /// Where they are noted; also what calls are that take too long.
    #[prost(bytes = "bytes", tag = "5")]
    pub note_key: Bytes,
    /// Whether blocks of the input were handed on, so that rows that they were made of cannot be lost any more.
    #[prost(bool, tag = "6")]
    pub is_repeat: bool,
    /// Steps whose workers have died for want of memory, and how many rows a call may have at most since then.
    #[prost(message, repeated, tag = "7")]
    pub most_rows: Vec<MostRows>,
    /// Rows that had come to steps before those of the attempt, which do not come again.
    #[prost(message, repeated, tag = "8")]
    pub came: Vec<CameBefore>,
    /// What expectations had found in such rows.
    #[prost(message, repeated, tag = "9")]
    pub judged_before: Vec<JudgedBefore>,
}

/// How many rows have come to a step and do not come again.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct CameBefore {
    /// The step, by its place in the stage.
    #[prost(uint32, tag = "1")]
    pub step: u32,
    /// Rows.
    #[prost(uint64, tag = "2")]
    pub rows: u64,
}

/// What an expectation has found in rows that do not come again.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct JudgedBefore {
    /// The expectation, by its place among the operators that report.
    #[prost(uint32, tag = "1")]
    pub operator: u32,
    /// How many they are.
    #[prost(uint64, tag = "2")]
    pub rows: u64,
    /// For how many of them it does not hold.
    #[prost(uint64, tag = "3")]
    pub violations: u64,
}

/// How many rows a call of a step may have at most.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MostRows {
    /// The step, by its place in the stage.
    #[prost(uint32, tag = "1")]
    pub step: u32,
    /// Rows.
    #[prost(uint64, tag = "2")]
    pub rows: u64,
}

impl FailingSpec {
    /// How many rows a call of a step may have at most, if workers have died of more.
    pub(crate) fn most_rows_of(&self, step: u32) -> Option<u64> {
        let found = self.most_rows.iter().find(|most| most.step == step);
        found.map(|most| most.rows)
    }

    /// How many rows have come to a step before those of the attempt.
    pub(crate) fn came_before(&self, step: u32) -> u64 {
        let found = self.came.iter().find(|came| came.step == step);
        found.map_or(0, |came| came.rows)
    }

    /// Whether a step is looked after although it asks for nothing that needs it.
    pub(crate) fn guards(&self, step: u32) -> bool {
        self.is_careful || self.most_rows_of(step).is_some()
    }
}

/// A row of an input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct StepRow {
    /// The step, by its place in the stage.
    #[prost(uint32, tag = "1")]
    pub step: u32,
    /// Its number.
    #[prost(uint64, tag = "2")]
    pub row: u64,
}

/// A row that workers have died of.
#[derive(Clone, PartialEq, Message)]
pub struct BlamedRow {
    /// Which.
    #[prost(message, required, tag = "1")]
    pub row: StepRow,
    /// The kind of failure.
    #[prost(string, tag = "2")]
    pub error: String,
    /// What the system says.
    #[prost(string, tag = "3")]
    pub message: String,
    /// Calls that it was in and that failed.
    #[prost(uint32, tag = "4")]
    pub attempts: u32,
    /// The worker that died last.
    #[prost(string, tag = "5")]
    pub worker: String,
    /// When, in microseconds since 1970.
    #[prost(int64, tag = "6")]
    pub time_micros: i64,
    /// As [`NotedCall::lost_before`]: with another, the number is another row's.
    #[prost(fixed64, tag = "7")]
    pub lost_before: u64,
}

/// The call that a worker had begun when it died, as it has noted it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NotedCall {
    /// The step, by its place in the stage.
    #[prost(uint32, tag = "1")]
    pub step: u32,
    /// The first row of the batch.
    #[prost(uint64, tag = "2")]
    pub first: u64,
    /// The last.
    #[prost(uint64, tag = "3")]
    pub last: u64,
    /// How many there are: some between them may have failed before. 0: no call is under way.
    #[prost(uint64, tag = "4")]
    pub rows: u64,
    /// Calls before it that failed with these rows.
    #[prost(uint32, tag = "5")]
    pub attempts: u32,
    /// The worker.
    #[prost(string, tag = "6")]
    pub worker: String,
    /// Whether it took longer than it may, so that the worker has ended itself.
    #[prost(bool, tag = "7")]
    pub is_late: bool,
    /// A sign of the rows that steps before this one have lost by then.
    #[prost(fixed64, tag = "8")]
    pub lost_before: u64,
    /// The worker's node; empty if it has none.
    #[prost(bytes = "bytes", tag = "9")]
    pub node: Bytes,
    /// Where no call is under way: rows of the one that has ended last.
    #[prost(uint64, tag = "10")]
    pub ended_rows: u64,
    /// What relational work of the process had reserved.
    #[prost(uint64, tag = "11")]
    pub relational_bytes: u64,
    /// What the process held; 0: nobody can tell.
    #[prost(uint64, tag = "12")]
    pub process_bytes: u64,
    /// The same before the call that has ended last.
    #[prost(uint64, tag = "13")]
    pub process_bytes_before: u64,
}

impl NotedCall {
    /// The row that it begins with.
    pub(crate) fn first_row(&self) -> StepRow {
        StepRow {
            step: self.step,
            row: self.first,
        }
    }

    /// Whether relational work had at least half of what the process held: where that is too much, it is not the call's fault.
    pub(crate) fn is_of_operators(&self) -> bool {
        self.process_bytes > 0 && self.relational_bytes.saturating_mul(2) >= self.process_bytes
    }

    /// Whether most of what the process held has come with the call that has ended last.
    pub(crate) fn has_given_most(&self) -> bool {
        self.process_bytes > 0 && self.process_bytes_before.saturating_mul(2) < self.process_bytes
    }
}

/// Rows that a step has left out.
#[derive(Clone, PartialEq, Message)]
pub struct ToldRows {
    /// The step, by its place in the stage.
    #[prost(uint32, tag = "1")]
    pub step: u32,
    /// The rows, by their numbers.
    #[prost(uint64, repeated, tag = "2")]
    pub rows: Vec<u64>,
    /// Batches that they were in.
    #[prost(uint64, tag = "3")]
    pub batches: u64,
    /// What is known of them, if it is wanted: an Arrow stream.
    #[prost(bytes = "bytes", tag = "4")]
    pub letters: Bytes,
    /// Of the last one, for people.
    #[prost(string, tag = "5")]
    pub last: String,
}

pub(super) fn encode(policy: &FailurePolicy) -> FailuresSpec {
    let on_error = match policy.on_error() {
        OnError::Raise => OnErrorKind::Raise,
        OnError::Skip => OnErrorKind::Skip,
        OnError::DeadLetter => OnErrorKind::DeadLetter,
    };
    let timeout = policy.timeout.unwrap_or_default().as_nanos();
    FailuresSpec {
        on_error: on_error.into(),
        timeout_nanos: u64::try_from(timeout).unwrap_or(u64::MAX),
        max_errors: policy.max_errors,
        max_errored_batches: policy.max_errored_batches,
    }
}

pub(super) fn decode(spec: FailuresSpec) -> FailurePolicy {
    FailurePolicy {
        on_error: Some(match spec.on_error() {
            OnErrorKind::Raise => OnError::Raise,
            OnErrorKind::Skip => OnError::Skip,
            OnErrorKind::DeadLetter => OnError::DeadLetter,
        }),
        timeout: (spec.timeout_nanos > 0).then(|| Duration::from_nanos(spec.timeout_nanos)),
        max_errors: spec.max_errors,
        max_errored_batches: spec.max_errored_batches,
        ..FailurePolicy::default()
    }
}
