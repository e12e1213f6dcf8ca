//! What the steps of one input share.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use parking_lot::Mutex;

use super::lost::Lost;
use super::notes::Notes;
use super::untold::Untold;
use super::watch::Watch;
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
            spec,
            sequence,
            worker,
            notes,
            watch,
            is_rerun,
            judgements: Judgements::default(),
            untold: Mutex::default(),
            over_limit: Mutex::default(),
            lost: Lost::default(),
        }
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
