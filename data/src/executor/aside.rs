//! Rows that failed, put aside while a job runs, and where they go at its end.

use aktis_worker::TaskFailure;

use super::failed_rows::read_by_step;
use super::main_loop::ExecutionLoop;
use crate::executor::core::event::WorkerKey;
use crate::ledger::FolderOutput;
use crate::sinks::write_letters;
use crate::wire::spec::Report;

impl ExecutionLoop {
    /// Takes what a worker tells of rows that failed. Fails if they are too many.
    pub(super) fn put_aside(
        &mut self,
        worker: WorkerKey,
        report: &Report,
    ) -> Result<(), TaskFailure> {
        self.failed_rows.report(worker, report)?;
        let letters = self.failed_rows.take_letters();
        if letters.is_empty() {
            return Ok(());
        }
        self.letters.lock().add(letters, self.pool.as_ref())
    }

    /// All rows have come, or the job has failed: those that were put aside go where they are looked for.
    pub(super) fn end_letters(
        &mut self,
        outcome: Result<(), TaskFailure>,
    ) -> Result<(), TaskFailure> {
        let outcome = outcome.and_then(|()| self.failed_rows.check(true));
        let mut letters = self.failed_rows.take_letters();
        // Of a job that has failed, or that nobody wanted more rows of.
        letters.extend(self.failed_rows.take_unfinished_letters());
        let mut all = self.letters.lock();
        let added = all.add(letters, self.pool.as_ref());
        let flushed = added.and_then(|()| all.flush(self.pool.as_ref()));
        outcome?;
        flushed?;
        if self.is_cancelled || all.blocks().is_empty() {
            return Ok(());
        }
        let (output, is_apart) = match (&mut self.letters_output, &mut self.output) {
            (Some(output), _) => (output, true),
            (None, Some(output)) => (output, false),
            (None, None) => return Ok(()),
        };
        let Some(place) = output.letters_place(is_apart) else {
            return Ok(());
        };
        let steps = read_by_step(all.blocks(), &self.pool.reader())?;
        let files = write_letters(&place, &steps)?;
        if !is_apart {
            output.add_letters(files);
            return Ok(());
        }
        output.add(0, files);
        match self.letters_output.take() {
            Some(output) => FolderOutput::close(output, Ok(()), None),
            None => Ok(()),
        }
    }
}
