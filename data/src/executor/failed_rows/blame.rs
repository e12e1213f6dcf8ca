//! Which row a worker has died of.
//!
//! A death tells nothing by itself: somebody may have killed the process, its node may be gone. So the first one over an input only
//! makes the next attempt careful: it notes every call before it begins. A worker that dies in a noted call of several rows has
//! them cut in two next time; so the batch shrinks around the row, as one that raises does. A row that was alone is blamed when at
//! least [`DEATHS`] workers have died in calls with it.
//!
//! A step that leaves no rows out has its batches cut too where memory ran out, and for good: that a call takes too much is, as a
//! rule, a matter of how many rows it has. Only a row that has no room alone ends the job.
//!
//! Sorts, joins and groups of the same stage hold memory, too. A worker that ran out of it while they had at least half of what it held
//! has not died of the call, of which nothing is believed then; nor of one that had ended, if they work on with what that has given.
//!
//! Behind a step that loses rows, a number names the same row only if the same rows were lost before it: calls are noted with a sign
//! of these. What deaths have shown of rows under one sign is forgotten when a call with their numbers comes under another; such a
//! death counts as any other, so that a job ends whose functions fail for other rows each time.

use std::collections::{BTreeMap, BTreeSet};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use super::{Attempt, FailedRows, InputKey, UnderWay};
use crate::executor::core::event::WorkerKey;
use crate::operators::failing::now_micros;
use crate::wire::failing::{BlamedRow, FailingSpec, MostRows, NotedCall, StepRow};

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
    /// How many workers have died for want of memory in calls with a row alone, of steps that leave none out.
    alone: BTreeMap<StepRow, u32>,
    /// Rows that had no room alone in workers of a kind, and are to be tried where there is more: how many had been before.
    moved: BTreeMap<(StepRow, usize), usize>,
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
    /// A row has no room alone in workers of this kind; those of these kinds may have more.
    NeedsMemory(Vec<usize>),
    /// A call of a step that does not leave rows out took longer than it may, or has no room for a row alone.
    Ends(TaskFailure),
}

impl Blame {
    /// How many rows were to be tried where there is more memory.
    pub(super) fn moved(&self) -> usize {
        self.moved.len()
    }

    /// What is said of a row that was to be tried where there is more memory, and came back to this kind of worker.
    fn told_in_vain(&self, row: StepRow, kind: usize) -> &'static str {
        match self.moved.contains_key(&(row, kind)) {
            true => "; no worker of a kind with more memory could be started",
            false => "",
        }
    }

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
        let queued = self.queued.remove(&worker);
        let Some(under_way) = self.under_way.remove(&worker) else {
            return Death::Unexplained;
        };
        let (stage, _) = under_way.input;
        let kind = self.kinds.remove(&worker).unwrap_or(0);
        let note = note.filter(|call| !self.has_died_of_operators(stage, call, failure));
        if let Some(ended) = &note
            && failure.code == ErrorCode::OutOfMemory
            && ended.ended_rows > 1
            && (ended.step as usize) < self.steps[stage].len()
        {
            // What a call has given is written when it has ended.
            let call = NotedCall {
                rows: ended.ended_rows,
                ..ended.clone()
            };
            return self.had_no_memory(&under_way, kind, &call, &failure.message);
        }
        let call = note.filter(|call| call.rows > 0);
        let Some(step) = call
            .as_ref()
            .and_then(|call| self.steps[stage].get(call.step as usize))
        else {
            let loses_rows = self.steps[stage]
                .iter()
                .any(|step| step.policy.loses_rows());
            if loses_rows || failure.code == ErrorCode::OutOfMemory {
                for under_way in [under_way].into_iter().chain(queued) {
                    let rows = self.inputs.entry(under_way.input).or_default();
                    rows.blame.is_careful = true;
                }
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
            return match failure.code {
                _ if call.is_late => Death::Ends(late(&step.name, &call, &message)),
                ErrorCode::OutOfMemory => self.had_no_memory(&under_way, kind, &call, &message),
                _ => Death::Unexplained,
            };
        }
        let error = match failure.code {
            _ if call.is_late => "TimeoutError",
            ErrorCode::OutOfMemory => "OutOfMemoryError",
            // Not the rows' fault, whatever was under way.
            ErrorCode::NodeDied | ErrorCode::ActorUnavailable | ErrorCode::ObjectUnreadable => {
                return Death::Unexplained;
            }
            _ => "WorkerCrashedError",
        };
        let input = under_way.input;
        let rows = self.inputs.entry(input).or_default();
        rows.blame.is_careful = true;
        let death = rows.blame.add(&call, error, message);
        let row = call.first_row();
        let has_no_room = failure.code == ErrorCode::OutOfMemory && !call.is_late;
        if has_no_room && rows.blame.blamed.contains_key(&row) {
            if let Some(kinds) = self.kinds_with_more(&under_way, kind, row) {
                self.blame_of(input).blamed.remove(&row);
                return Death::NeedsMemory(kinds);
            }
            let blame = self.blame_of(input);
            let in_vain = blame.told_in_vain(row, kind);
            if let Some(blamed) = blame.blamed.get_mut(&row) {
                blamed.message.push_str(in_vain);
            }
        }
        death
    }

    fn blame_of(&mut self, input: InputKey) -> &mut Blame {
        &mut self.inputs.entry(input).or_default().blame
    }

    /// The kinds of workers that may have more memory than this one, in which the row has no room alone; none if the attempt was begun when
    /// these were to have it: there is no worker of them.
    fn kinds_with_more(
        &mut self,
        under_way: &UnderWay,
        kind: usize,
        row: StepRow,
    ) -> Option<Vec<usize>> {
        let memory = &self.memory[under_way.input.0];
        let own = memory.get(kind).copied().filter(|&own| own > 0)?;
        let has_more = |&other: &usize| memory[other] == 0 || memory[other] > own;
        let kinds: Vec<usize> = (0..memory.len()).filter(has_more).collect();
        if kinds.is_empty() {
            return None;
        }
        let moved = &mut self.blame_of(under_way.input).moved;
        let before = moved.len();
        let since = *moved.entry((row, kind)).or_insert(before);
        (since >= under_way.moved).then_some(kinds)
    }

    /// Whether memory ran out that relational work had, and not the call that was noted.
    fn has_died_of_operators(&self, stage: usize, call: &NotedCall, failure: &TaskFailure) -> bool {
        if failure.code != ErrorCode::OutOfMemory || call.is_late {
            return false;
        }
        let (before, behind) = self.steps[stage]
            .split_at_checked(call.step as usize + 1)
            .unwrap_or_default();
        let works_on = call.rows == 0 && behind.iter().any(|step| step.is_relational);
        let is_of_operators = call.is_of_operators() || works_on && !call.has_given_most();
        if is_of_operators {
            tracing::warn!(
                step = before.last().map(|step| step.name.as_str()),
                relational_bytes = call.relational_bytes,
                process_bytes = call.process_bytes,
                "a worker ran out of memory that sorts, joins or groups had: no call is blamed"
            );
        }
        is_of_operators
    }

    /// A call of a step that leaves no rows out, or what any has given, took more memory than there is: from now on, calls of the step
    /// have half as many rows at most, in workers of that kind. One with a row alone is tried once more.
    fn had_no_memory(
        &mut self,
        under_way: &UnderWay,
        kind: usize,
        call: &NotedCall,
        message: &str,
    ) -> Death {
        let input = under_way.input;
        let name = self.steps[input.0][call.step as usize].name.clone();
        if call.rows > 1 {
            let half = call.rows.div_ceil(2);
            let key = (input.0, kind, call.step);
            let most = self.most_rows.entry(key).or_insert(half);
            *most = half.min(*most);
            let most = *most;
            if !self.is_mixed(input.0) {
                // What it has given before was made of other batches, but there is no other way on.
                let limits = self.most_rows_now(input.0, kind);
                self.begun_with.set(input, &limits);
            }
            tracing::warn!(
                "{name}: a call with {} took more memory than its worker may have, and is made again with at most {most}: {message}",
                rows_of(call)
            );
            return Death::OfRows;
        }
        let row = call.first_row();
        let deaths = self.blame_of(input).alone.entry(row).or_default();
        *deaths += 1;
        let deaths = *deaths;
        if deaths < DEATHS {
            return Death::OfRows;
        }
        if let Some(kinds) = self.kinds_with_more(under_way, kind, row) {
            tracing::warn!(
                "{name}: a row alone takes more memory than its worker may have, and is tried where there is more: {message}"
            );
            return Death::NeedsMemory(kinds);
        }
        let in_vain = self.blame_of(input).told_in_vain(row, kind);
        Death::Ends(TaskFailure::new(
            ErrorCode::OutOfMemory,
            format!(
                "{name}: a call with a row alone (number {} of input {}) took more memory than its worker may have, {deaths} times: \
                 {message}{in_vain}. Let it have more with memory=, let the function hold less, or leave such rows out with on_error=\"skip\" or \
                 \"dead_letter\"",
                call.first, input.1
            ),
        ))
    }

    /// How many rows calls have at most in an attempt at an input. One that blocks were handed on of has the limits that it was begun with,
    /// unless it is why these have changed: a function that returns several outputs gives others for other batches, which are cut into
    /// other blocks (STG-2). Where workers are of several kinds, blocks do not hang on batches, and each has the limits of its kind.
    pub(super) fn most_rows_of(
        &mut self,
        input: InputKey,
        kind: usize,
        attempt: Attempt,
    ) -> Vec<MostRows> {
        if self.is_mixed(input.0) {
            return self.most_rows_now(input.0, kind);
        }
        if attempt != Attempt::Anew {
            return self.begun_with.get(input).to_vec();
        }
        let limits = self.most_rows_now(input.0, kind);
        self.begun_with.set(input, &limits);
        limits
    }

    fn most_rows_now(&self, stage: usize, kind: usize) -> Vec<MostRows> {
        let limits = self.most_rows(stage).filter(|&(of, ..)| of == kind);
        limits
            .map(|(_, step, rows)| MostRows { step, rows })
            .collect()
    }

    /// How many rows calls of steps of a stage have at most, for want of memory: the kind of worker, the step, the rows.
    pub(in crate::executor) fn most_rows(
        &self,
        stage: usize,
    ) -> impl Iterator<Item = (usize, u32, u64)> {
        let of_stage = self.most_rows.iter();
        let of_stage = of_stage.filter(move |((of, ..), _)| *of == stage);
        of_stage.map(|(&(_, kind, step), &rows)| (kind, step, rows))
    }
}

fn rows_of(call: &NotedCall) -> String {
    match call.rows {
        1 => "a row".to_owned(),
        rows => format!("a batch of {rows} rows"),
    }
}

fn late(name: &str, call: &NotedCall, message: &str) -> TaskFailure {
    let rows = rows_of(call);
    TaskFailure::new(
        ErrorCode::Application,
        format!(
            "{name}: {message}, for {rows}: its process ({}) was ended. Give it longer, or leave out the rows that it takes too long \
             for with on_error=\"skip\" or \"dead_letter\"",
            call.worker
        ),
    )
}
