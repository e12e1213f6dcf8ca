//! What the steps of one input share.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use parking_lot::Mutex;

use super::handed_on::HandedOn;
use super::lost::Lost;
use super::notes::Notes;
use super::untold::Untold;
use super::watch::Watch;
use crate::ledger::{FoundInRows, JudgedRows};
use crate::operators::expect::Judgements;
use crate::wire::failing::{FailingSpec, ToldRows};

/// What all steps of an input share.
pub(crate) struct FailingInput {
    /// What earlier attempts have shown.
    pub(crate) spec: FailingSpec,
    /// The input's place in the order of its stage.
    pub(crate) sequence: u64,
    /// This worker, for people.
    pub(crate) worker: Arc<str>,
    /// Where calls are noted.
    pub(crate) notes: Arc<dyn Notes>,
    /// Ends the process if a call takes too long.
    pub(crate) watch: Arc<Watch>,
    /// It works for blocks that were lost: no limits hold for it, its rows are counted already.
    pub(crate) is_rerun: bool,
    /// What expectations have found.
    pub(crate) judgements: Judgements,
    pub(super) untold: Mutex<Untold>,
    over_limit: Mutex<Option<TaskFailure>>,
    pub(super) lost: Lost,
    /// What steps have left out of what they have handed on, where rows that are left are noted.
    pub(super) handed_on: Option<HandedOn>,
    /// Expectations before this operator see rows of places that are not out.
    first_noted: u32,
}

impl FailingInput {
    pub(crate) fn new(
        spec: FailingSpec,
        sequence: u64,
        worker: Arc<str>,
        notes: Arc<dyn Notes>,
        watch: Arc<Watch>,
        is_rerun: bool,
    ) -> Self {
        Self {
            judgements: Judgements::behind(&spec.judged_before),
            spec,
            sequence,
            worker,
            notes,
            watch,
            is_rerun,
            untold: Mutex::default(),
            over_limit: Mutex::default(),
            lost: Lost::default(),
            handed_on: None,
            first_noted: 0,
        }
    }

    /// The same, of whose rows those are noted that come out: what is found of them behind this operator is kept for that.
    pub(crate) fn noted_behind(self, operator: u32) -> Self {
        Self {
            handed_on: Some(HandedOn::default()),
            first_noted: operator,
            ..self
        }
    }

    /// What was found since this was last asked, of what has been handed on. `steps_before`: in stages before.
    pub(crate) fn take_handed_on(&self, steps_before: u32) -> Result<FoundInRows, TaskFailure> {
        let left_out = self
            .handed_on
            .as_ref()
            .map(|handed_on| handed_on.take(steps_before));
        let judged = self.judgements.take_unnoted(self.first_noted).into_iter();
        let judged = judged.map(|(operator, rows, violations)| JudgedRows {
            operator: steps_before + operator,
            rows,
            violations,
            ..JudgedRows::default()
        });
        Ok(FoundInRows {
            judged: judged.collect(),
            left_out: left_out.transpose()?.unwrap_or_default(),
        })
    }

    /// Fails if a row was found: for blocks that are made again, and are to have the rows that they had.
    pub(crate) fn check_nothing_found(&self) -> Result<(), TaskFailure> {
        let Some((operator, last)) = self.untold.lock().any() else {
            return Ok(());
        };
        Err(TaskFailure::new(
            ErrorCode::Application,
            format!(
                "{operator}: an input was run again after its worker or its blocks had been lost, and the function failed for a row that it had \
                 done the first time, and whose results were handed on: a function that rows are left out of must fail for the same \
                 rows each time. It failed with {last}"
            ),
        ))
    }

    /// What was found since this was last asked.
    pub(crate) fn take_found(&self) -> Result<Vec<ToldRows>, TaskFailure> {
        let untold = std::mem::take(&mut *self.untold.lock());
        untold.into_told()
    }

    /// Whether what was found should be told now, block or none; not where blocks are repeated, which show whether it may be.
    pub(crate) fn is_due(&self) -> bool {
        !self.spec.is_repeat
            && !self.is_rerun
            && (self.untold.lock().is_due() || self.judgements.is_due())
    }

    /// Nothing more comes of this input: it alone has more bad rows than the job may have. Gives the failure back.
    pub(crate) fn end_by(&self, failure: TaskFailure) -> TaskFailure {
        *self.over_limit.lock() = Some(failure.clone());
        failure
    }

    /// Why nothing more comes of this input, if it alone has more rows that failed than may.
    pub(crate) fn over_limit(&self) -> Option<TaskFailure> {
        self.over_limit.lock().clone()
    }
}
