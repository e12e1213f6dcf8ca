//! Rows that a function fails for: found, left out, told. What is told of rows that violate an expectation goes the same way.
//!
//! ```text
//!  batch ─► enter ─► pieces ─► call ──ok──► rows go on
//!            │                  │ fails
//!            │ known before:    ▼
//!            │ left out        halves, until a row is alone ─► left out, told with the next report
//!            ▼
//!           cut where a worker has died
//! ```
//! A row is known by the step that it comes to, and by its number among those that come to that step from the input (STG-2: they
//! are the same each time). So an attempt can leave out what an earlier one has found, and gives the same blocks as that one.
//!
//! Behind a step that loses rows the numbers are the same only if that one loses the same rows. A sign of these goes with calls
//! ([`Lost`]), and rows are blamed under the sign that they had. Where blocks were handed on, a function that now fails for a row
//! of theirs is called a few times more, and then ends the job: the row can neither stay nor go.
//!
//! What ends the process cannot be told by it. Of an input that a worker has died over, calls are made one at a time, and noted
//! before they begin where the driver finds them ([`notes`]); a call that takes too long is noted by the watch, which then ends
//! the process.

mod handed_on;
mod held;
mod input;
pub(crate) mod letters;
mod lost;
pub(crate) mod notes;
mod piece;
mod untold;
mod watch;

pub(crate) use held::count_pool;
pub(crate) use input::FailingInput;
pub(crate) use piece::{CallPiece, Halved};
pub(crate) use untold::TOLD_AFTER;
pub(crate) use watch::Watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use parking_lot::Mutex;

use crate::graph::{MapCall, Operator};
use crate::operators::map::group_ends::group_ends;
use crate::operators::stream::pause;
use crate::operators::udf::FailedRow;
use crate::plan::{FailurePolicy, OnError};
use crate::sources::Places;
use crate::wire::failing::{BlamedRow, FailingSpec, NotedCall};
use handed_on::FoundOfStep;
use held::{CallInWork, with_held};
use letters::Letter;
use lost::LostOfStep;

/// Calls with a row alone that an earlier attempt had done, and this one fails for, until it is believed.
const TRIES_IN_REPEATS: u32 = 3;

/// Looks after the calls of one step.
pub(crate) struct Guard {
    input: Arc<FailingInput>,
    step: u32,
    name: String,
    policy: FailurePolicy,
    places: Option<Arc<Places>>,
    /// What makes rows one group, of which a call gets all.
    group_keys: Vec<String>,
    told: BTreeSet<u64>,
    blamed: BTreeMap<u64, BlamedRow>,
    cuts: BTreeSet<u64>,
    /// Workers have died for want of memory, of calls with more rows than these.
    most_rows: Option<usize>,
    /// Batches so far.
    batches: u64,
    /// The last one with a failed row.
    errored_batch: Option<u64>,
    /// Rows that were left out of batches which were not handed on yet.
    lost: LostOfStep,
    /// What else is known of them, where rows that are left are noted.
    found: FoundOfStep,
    /// Rows that had come to the step before those of this attempt, which do not come again.
    came_before: u64,
    /// Whether whoever pulls can be given a pause.
    may_pause: bool,
    /// Rows and batches that this attempt has told of.
    failed_rows: u64,
    failed_batches: u64,
    /// The call under way, if it is noted.
    in_work: Mutex<CallInWork>,
}

impl Guard {
    /// The guard of a step. `places`: where the rows that come to it lie, if that is known. `behind`: the steps behind it.
    pub(crate) fn new(
        input: &Arc<FailingInput>,
        step: u32,
        call: &MapCall,
        places: Option<Arc<Places>>,
        behind: &[Operator],
    ) -> Self {
        let FailingSpec {
            told, blamed, cuts, ..
        } = &input.spec;
        let of_step = |row: &&crate::wire::failing::StepRow| row.step == step;
        let blamed = blamed.iter().filter(|blamed| blamed.row.step == step);
        Self {
            input: Arc::clone(input),
            step,
            name: call.name.clone(),
            policy: call.failures,
            places,
            group_keys: call.batching.group_keys.clone(),
            told: told.iter().filter(of_step).map(|row| row.row).collect(),
            blamed: blamed.map(|row| (row.row.row, row.clone())).collect(),
            cuts: cuts.iter().filter(of_step).map(|row| row.row).collect(),
            most_rows: (input.spec.most_rows_of(step))
                .map(|rows| usize::try_from(rows).unwrap_or(usize::MAX)),
            batches: 0,
            errored_batch: None,
            lost: LostOfStep::default(),
            found: FoundOfStep::default(),
            came_before: input.spec.came_before(step),
            may_pause: behind.iter().all(passes_pauses),
            failed_rows: 0,
            failed_batches: 0,
            in_work: Mutex::default(),
        }
    }

    /// Whether rows may be left out.
    pub(crate) fn loses_rows(&self) -> bool {
        self.policy.loses_rows()
    }

    /// A pause, if rows that failed should be told now, and not only when another one has not failed.
    pub(crate) fn pause(&self) -> Option<RecordBatch> {
        (self.may_pause && self.input.is_due()).then(pause)
    }

    /// How many calls may be under way of those that the function wants.
    pub(crate) fn calls_ahead(&self, wanted: usize) -> usize {
        if self.input.spec.is_careful {
            1
        } else {
            wanted
        }
    }

    fn is_careful(&self) -> bool {
        self.input.spec.is_careful
    }

    /// A batch that comes to the step, whose first row has this number: what of it is to be called, in pieces.
    pub(crate) fn enter(
        &mut self,
        batch: RecordBatch,
        first: u64,
    ) -> Result<Vec<CallPiece>, TaskFailure> {
        let number = self.batches;
        self.batches += 1;
        let rows = first..first + batch.num_rows() as u64;
        let lost_before = self.input.lost.before(self.step);
        if self.loses_rows() && self.input.handed_on.is_some() {
            self.found.came(number, batch.num_rows() as u64);
        }
        let mut whole = CallPiece::new(batch, first, number);
        whole.lost_before = lost_before;
        let told: BTreeSet<u64> = self.told.range(rows.clone()).copied().collect();
        if !told.is_empty() {
            // The attempt that told of it has counted its batch.
            self.errored_batch = Some(number);
        }
        told.iter().for_each(|&row| self.lost.add(number, row));
        let of_batch = self.blamed.range(rows.clone()).map(|(_, row)| row.clone());
        let blamed: BTreeMap<u64, BlamedRow> = of_batch
            .filter(|row| row.lost_before == lost_before && !told.contains(&row.row.row))
            .map(|row| (row.row.row, row))
            .collect();
        for row in blamed.values() {
            let position = usize::try_from(row.row.row - first).unwrap_or(usize::MAX);
            let failed = FailedRow {
                position,
                error: row.error.clone(),
                message: row.message.clone(),
                traceback: String::new(),
            };
            self.tell(&whole, &failed, FoundBy::of(row))?;
        }
        let left = if told.is_empty() && blamed.is_empty() {
            whole
        } else {
            whole.without(|row| told.contains(&row) || blamed.contains_key(&row))?
        };
        let most = self.most_rows.unwrap_or(usize::MAX);
        if !self.group_keys.is_empty() {
            let ends = group_ends(&left.batch, &self.group_keys).map_err(|error| {
                let text = format!("{}: look for the ends of groups: {error}", self.name);
                TaskFailure::new(ErrorCode::Internal, text)
            })?;
            return Ok(left.in_groups(&ends, most));
        }
        let cuts = self.cuts.range(rows).copied();
        let pieces = left.cut_before(cuts).into_iter();
        Ok(pieces.flat_map(|piece| piece.in_parts_of(most)).collect())
    }

    /// The number of the batch that comes next.
    pub(crate) fn next_batch(&self) -> u64 {
        self.batches
    }

    /// All that is left of a batch has gone on.
    pub(crate) fn handed_on(&mut self, batch: u64) {
        self.input.lost.add(self.step, self.lost.take(batch));
        if let Some(handed_on) = self.input.handed_on.as_ref().filter(|_| self.loses_rows()) {
            handed_on.add(self.step, &mut self.found, batch);
        }
    }

    /// Whether a row is called once more that has failed, alone, so many times: one that an earlier attempt had done.
    pub(crate) fn has_another_try(&self, tries: u32) -> bool {
        self.input.spec.is_repeat && tries < TRIES_IN_REPEATS
    }

    /// Rows of a call that the function itself has named.
    pub(crate) fn marked(
        &mut self,
        piece: &CallPiece,
        failed: &FailedRow,
    ) -> Result<(), TaskFailure> {
        if failed.position >= piece.num_rows() {
            return Err(TaskFailure::new(
                ErrorCode::Internal,
                format!("{}: a row was named that its batch has not", self.name),
            ));
        }
        let found_by = self.found_now(piece.attempts + 1);
        self.tell(piece, failed, found_by)
    }

    /// The one row of a call that failed.
    pub(crate) fn failed(
        &mut self,
        piece: &CallPiece,
        failure: &TaskFailure,
    ) -> Result<(), TaskFailure> {
        let (error, message) = letters::class_and_message(failure);
        let failed = FailedRow {
            position: 0,
            error: error.to_owned(),
            message: message.to_owned(),
            traceback: failure.traceback.clone(),
        };
        let found_by = self.found_now(piece.attempts);
        self.tell(piece, &failed, found_by)
    }

    fn found_now(&self, attempts: u32) -> FoundBy {
        FoundBy {
            attempts,
            worker: Arc::clone(&self.input.worker),
            time_micros: now_micros(),
        }
    }

    fn tell(
        &mut self,
        piece: &CallPiece,
        failed: &FailedRow,
        found_by: FoundBy,
    ) -> Result<(), TaskFailure> {
        let row = piece.row(failed.position);
        self.lost.add(piece.batch_number, row);
        let is_new = self.errored_batch.replace(piece.batch_number) != Some(piece.batch_number);
        let number = self.came_before + row;
        let letter = (self.policy.on_error() == OnError::DeadLetter)
            .then(|| {
                letters::encode_one(&Letter {
                    rows: &piece.batch,
                    failed,
                    operator: &self.name,
                    position: self.places.as_ref().and_then(|places| places.at(number)),
                    input: self.input.sequence,
                    input_row: number,
                    attempts: found_by.attempts,
                    worker: &found_by.worker,
                    time_micros: found_by.time_micros,
                })
            })
            .transpose()?;
        let last = format!("{}: {}", failed.error, failed.message);
        if self.input.handed_on.is_some() {
            self.found
                .add(piece.batch_number, is_new, letter.clone(), &last);
        }
        let mut untold = self.input.untold.lock();
        untold.add((self.step, &self.name), row, is_new, letter, last);
        drop(untold);
        self.failed_rows += 1;
        self.failed_batches += u64::from(is_new);
        self.check_limits()
    }

    /// More of this input alone than may fail in the whole job end it at once. The driver, to which they are told, says so.
    fn check_limits(&self) -> Result<(), TaskFailure> {
        let is_beyond = |count: u64, most: Option<u64>| most.is_some_and(|most| count > most);
        let is_over = is_beyond(self.failed_rows, self.policy.max_errors)
            || is_beyond(self.failed_batches, self.policy.max_errored_batches);
        if !is_over || self.input.is_rerun {
            return Ok(());
        }
        let failure = TaskFailure::new(
            ErrorCode::Application,
            format!("{}: more rows have failed than may", self.name),
        );
        Err(self.input.end_by(failure))
    }

    /// A call with the piece begins: noted, if the worker may die of it.
    pub(crate) fn begins(&self, piece: &CallPiece) -> Result<(), TaskFailure> {
        if !self.is_careful() {
            return Ok(());
        }
        let call = with_held(self.call(piece).noted(&self.input.worker));
        self.input.notes.note(&self.input.spec.note_key, &call)?;
        *self.in_work.lock() = CallInWork::begin(&call, &self.input);
        Ok(())
    }

    /// It has ended.
    pub(crate) fn ended(&self, piece: &CallPiece) -> Result<(), TaskFailure> {
        if !self.is_careful() {
            return Ok(());
        }
        let before = std::mem::take(&mut *self.in_work.lock()).process_bytes_before;
        let none = with_held(NotedCall {
            step: self.step,
            ended_rows: piece.num_rows() as u64,
            process_bytes_before: before,
            ..NotedCall::default()
        });
        self.input.notes.note(&self.input.spec.note_key, &none)
    }

    /// Until this is dropped, the call may take as long as calls of the step may.
    pub(crate) fn watched(&self, piece: &CallPiece) -> Result<Option<watch::Watched>, TaskFailure> {
        let watched = self.policy.timeout.map(|timeout| {
            let call = self.call(piece);
            Watch::begin(&self.input, timeout, call)
        });
        watched.transpose()
    }

    /// Whether rows must be called in their order: a worker has died over the input, and which rows it was of is looked for by cutting
    /// runs of them.
    pub(crate) fn keeps_order(&self) -> bool {
        self.input.spec.is_careful || !self.cuts.is_empty()
    }

    fn call(&self, piece: &CallPiece) -> BegunCall {
        let (first, last) = piece.bounds();
        BegunCall {
            step: self.step,
            first,
            last,
            rows: piece.num_rows() as u64,
            attempts: piece.attempts,
            lost_before: piece.lost_before,
        }
    }
}

/// A call, as it may be noted.
#[derive(Clone, Copy)]
struct BegunCall {
    step: u32,
    first: u64,
    last: u64,
    rows: u64,
    attempts: u32,
    lost_before: u64,
}

impl BegunCall {
    fn noted(self, worker: &str) -> NotedCall {
        NotedCall {
            step: self.step,
            first: self.first,
            last: self.last,
            rows: self.rows,
            attempts: self.attempts,
            worker: worker.to_owned(),
            lost_before: self.lost_before,
            ..NotedCall::default()
        }
    }
}

/// Who has found a failure, when, after how many calls.
struct FoundBy {
    attempts: u32,
    worker: Arc<str>,
    time_micros: i64,
}

impl FoundBy {
    fn of(row: &BlamedRow) -> Self {
        Self {
            attempts: row.attempts,
            worker: row.worker.as_str().into(),
            time_micros: row.time_micros,
        }
    }
}

/// Microseconds since 1970.
pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}

/// Whether a pause of the step before comes to whoever pulls this one.
pub(super) fn passes_pauses(step: &Operator) -> bool {
    !matches!(
        step,
        Operator::Map(_) | Operator::Sample { .. } | Operator::Relational(_)
    )
}

/// Whether a failure of a call may be its rows' fault.
pub(crate) fn is_of_rows(failure: &TaskFailure) -> bool {
    matches!(
        failure.code,
        ErrorCode::Application | ErrorCode::InvalidArgument
    )
}
