//! Which row a worker has died of.
//!
//! A death tells nothing by itself: somebody may have killed the process, its node may be gone. So the first one over an input only
//! makes the next attempt careful: it notes every call before it begins. A worker that dies in a noted call of several rows has
//! them cut in two next time; so the batch shrinks around the row, as one that raises does. A row that was alone is blamed when at
//! least [`DEATHS`] workers have died in calls with it.
//!
//! Behind a step that loses rows, a number names the same row only if the same rows were lost before it: calls are noted with a sign
//! of these. What deaths have shown of rows under one sign is forgotten when a call with their numbers comes under another; such a
//! death counts as any other, so that a job ends whose functions fail for other rows each time.

use std::collections::{BTreeMap, BTreeSet};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use super::FailedRows;
use crate::executor::core::event::WorkerKey;
use crate::operators::failing::now_micros;
use crate::wire::failing::{BlamedRow, FailingSpec, NotedCall, StepRow};

/// Workers that must have died in calls with a row.
const DEATHS: u32 = 2;

/// What deaths over an input have shown.
#[derive(Default)]
pub(super) struct Blame {
    is_careful: bool,
    cuts: BTreeSet<StepRow>,
    /// By the first row.
    suspects: BTreeMap<StepRow, Suspects>,
    blamed: BTreeMap<StepRow, BlamedRow>,
}

/// Rows of one call.
#[derive(Clone, Copy)]
struct Suspects {
    last: u64,
    /// How many have died in calls with all of them.
    deaths: u32,
    /// Of the rows that were lost before them.
    lost_before: u64,
}

/// What a death over an input means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::executor) enum Death {
    /// Nothing is known of its cause.
    Unexplained,
    /// Rows are to blame, and fewer are suspected than before.
    OfRows,
    /// A call of a step that does not leave rows out took longer than it may.
    Late(TaskFailure),
}

impl Blame {
    pub(super) fn to_spec(&self, told: &BTreeSet<StepRow>) -> FailingSpec {
        let blamed = self.blamed.values().filter(|row| !told.contains(&row.row));
        FailingSpec {
            blamed: blamed.cloned().collect(),
            cuts: self.cuts.iter().copied().collect(),
            is_careful: self.is_careful,
            ..FailingSpec::default()
        }
    }

    fn add(&mut self, call: &NotedCall, error: &str, message: String) -> Death {
        let of_step = |row| StepRow {
            step: call.step,
            row,
        };
        let death = self.forget_other_rows(call);
        let within = self.suspects.iter().filter(|(first, suspects)| {
            first.step == call.step && first.row <= call.first && suspects.last >= call.last
        });
        let deaths = within.map(|(_, of)| of.deaths).max().unwrap_or(0) + 1;
        let first = of_step(call.first);
        let suspects = Suspects {
            last: call.last,
            deaths,
            lost_before: call.lost_before,
        };
        self.suspects.insert(first, suspects);
        if call.rows > 1 {
            let middle = call.first + (call.last - call.first).div_ceil(2);
            self.cuts
                .extend([call.first, middle, call.last + 1].map(of_step));
        } else if call.is_late || deaths >= DEATHS {
            let blamed = BlamedRow {
                row: first,
                error: error.to_owned(),
                message,
                attempts: call.attempts + deaths,
                worker: call.worker.clone(),
                time_micros: now_micros(),
                lost_before: call.lost_before,
            };
            self.blamed.insert(first, blamed);
        } else {
            // It is alone from now on.
            self.cuts.extend([call.first, call.last + 1].map(of_step));
        }
        death
    }

    /// Forgets what is known of rows that have the numbers of the call's, and are others.
    fn forget_other_rows(&mut self, call: &NotedCall) -> Death {
        let known = self.suspects.len();
        self.suspects.retain(|first, suspects| {
            let is_apart = first.row > call.last || suspects.last < call.first;
            first.step != call.step || is_apart || suspects.lost_before == call.lost_before
        });
        let numbers = call.first..=call.last;
        self.blamed.retain(|row, blamed| {
            let is_of_call = row.step == call.step && numbers.contains(&row.row);
            !is_of_call || blamed.lost_before == call.lost_before
        });
        if self.suspects.len() == known {
            Death::OfRows
        } else {
            Death::Unexplained
        }
    }
}

impl FailedRows {
    /// The worker died of `failure`. `note`: what it had left.
    pub(in crate::executor) fn died(
        &mut self,
        worker: WorkerKey,
        note: Option<NotedCall>,
        failure: &TaskFailure,
    ) -> Death {
        let Some(under_way) = self.under_way.remove(&worker) else {
            return Death::Unexplained;
        };
        let (stage, _) = under_way.input;
        let call = note.filter(|call| call.rows > 0);
        let Some(step) = call
            .as_ref()
            .and_then(|call| self.steps[stage].get(call.step as usize))
        else {
            let loses_rows = self.steps[stage]
                .iter()
                .any(|step| step.policy.loses_rows());
            if loses_rows {
                let rows = self.inputs.entry(under_way.input).or_default();
                rows.blame.is_careful = true;
            }
            return Death::Unexplained;
        };
        let Some(call) = call else {
            return Death::Unexplained;
        };
        let message = if call.is_late {
            let timeout = step.policy.timeout.unwrap_or_default();
            format!(
                "the call took longer than timeout_s={}",
                timeout.as_secs_f64()
            )
        } else {
            failure.message.clone()
        };
        if !step.policy.loses_rows() {
            return Death::Late(late(&step.name, &call, &message));
        }
        let error = match failure.code {
            _ if call.is_late => "TimeoutError",
            ErrorCode::OutOfMemory => "OutOfMemoryError",
            // Not the rows' fault, whatever was under way.
            ErrorCode::NodeDied | ErrorCode::ActorUnavailable => return Death::Unexplained,
            _ => "WorkerCrashedError",
        };
        let rows = self.inputs.entry(under_way.input).or_default();
        rows.blame.is_careful = true;
        rows.blame.add(&call, error, message)
    }
}

fn late(name: &str, call: &NotedCall, message: &str) -> TaskFailure {
    let rows = if call.rows == 1 {
        "a row".to_owned()
    } else {
        format!("a batch of {} rows", call.rows)
    };
    TaskFailure::new(
        ErrorCode::Application,
        format!(
            "{name}: {message}, for {rows}: its process ({}) was ended. Give it longer, or leave out the rows that it takes too long \
             for with on_error=\"skip\" or \"dead_letter\"",
            call.worker
        ),
    )
}
