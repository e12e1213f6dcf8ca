//! The output of a job that runs in legs, from its first leg on.

use std::fs;
use std::io;

use aktis_worker::TaskFailure;

use super::{FolderOutput, JOB_FILE, no_book};
use crate::error::PlanError;
use crate::ledger::legs::LegFolders;
use crate::ledger::record::{Begun, Entry, FORMAT};
use crate::ledger::{DoneRanges, LegFound, book, durable};

impl FolderOutput {
    /// Where its legs lie.
    pub(crate) fn legs(&self) -> LegFolders {
        LegFolders::of(&self.target, &self.prefix)
    }

    /// The job runs in so many legs before the one that writes this. From here on it is known to whoever comes next.
    pub(crate) fn begin_legs(&mut self, legs: u64) -> Result<(), PlanError> {
        let begun = self.write_legs(legs);
        begun.map_err(|error| PlanError::not_writable(&self.target.display().to_string(), &error))
    }

    fn write_legs(&mut self, legs: u64) -> io::Result<()> {
        if self.left.begun.is_some() {
            return Ok(());
        }
        let identity = self.identity.as_ref();
        let begun = Begun {
            format: FORMAT,
            is_new: self.is_new,
            identity: identity.map_or_else(Vec::new, |identity| identity.traits.clone()),
            legs,
            ..Begun::default()
        };
        let book = self.book.as_mut().ok_or_else(no_book)?;
        book.write(Entry::Begun(begun.clone()))?;
        book.sync(&self.target, &self.prefix)?;
        let [ledgers, target] = book::folders(&self.target);
        durable::sync_together(&[], &[&ledgers, &target])?;
        self.left.begun = Some(begun);
        Ok(())
    }

    /// It is the output of a leg, which others read.
    pub(crate) fn set_leg(&mut self) {
        self.is_leg = true;
    }

    /// Keeps what a leg has found that counts over all rows of its job, before it is finished.
    pub(crate) fn keep_found(&self, found: &LegFound) -> Result<(), TaskFailure> {
        let is_any = !found.left_out.is_empty() || !found.judged.is_empty();
        if !self.is_leg || !is_any {
            return Ok(());
        }
        let kept = found.write(&self.target);
        kept.map_err(|error| self.not_visible(&error))
    }

    /// Whether an earlier run has got so far that rows of the output itself are done.
    pub(crate) fn has_own_rows(&self) -> bool {
        self.done.count() > 0 || !self.parts.is_empty() || self.has_journals()
    }

    /// Rows meet in the last leg, so that each run makes it as a whole: what an earlier one has left of it goes.
    pub(crate) fn make_whole_each_time(&mut self) -> Result<(), PlanError> {
        self.is_made_as_a_whole = true;
        self.left.forget_rows();
        (self.done, self.files) = (DoneRanges::default(), Vec::new());
        self.judged.clear();
        self.parts.clear();
        let swept = self.sweep_own();
        swept.map_err(|error| PlanError::not_writable(&self.target.display().to_string(), &error))
    }

    /// Removes all files of the job that are not those of legs.
    pub(super) fn sweep_own(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.job_folder())? {
            let entry = entry?;
            if entry.file_type()?.is_file() && entry.file_name() != JOB_FILE {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}
