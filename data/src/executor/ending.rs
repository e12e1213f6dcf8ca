//! How an execution ends: expectations are looked at once more, rows that were put aside are written, outputs become visible.

use std::time::Duration;

use aktis_worker::TaskFailure;

use super::Delivery;
use super::main_loop::ExecutionLoop;
use super::outputs::given_up;
use crate::ledger::LegFound;

/// How long a job that failed waits for its writers to end.
const WRITER_PATIENCE: Duration = Duration::from_secs(10);

impl ExecutionLoop {
    /// Expectations are looked at once more where nothing is left to do. Fails if one does not hold.
    pub(super) fn end_stages(&mut self) -> Result<(), TaskFailure> {
        for stage in 0..self.stages.len() {
            if self.executor.is_stage_done(stage) {
                self.end_expectations_of(stage)?;
            }
        }
        Ok(())
    }

    /// All is done, or it has failed, or nobody wants the rest.
    pub(super) fn end(mut self, outcome: Result<(), TaskFailure>) {
        let outcome = outcome.and_then(|()| self.end_expectations());
        let outcome = self.end_letters(outcome);
        if outcome.is_ok() && !self.is_cancelled {
            self.keep_rest();
        }
        let outcome = outcome.and_then(|()| self.keep_found());
        let outcome = self.close_outputs(outcome);
        self.sizes.remember();
        self.publish(true);
        {
            let mut stats = self.stats.lock();
            stats.is_done = true;
            stats.elapsed = stats.began.elapsed();
            stats
                .stages
                .iter_mut()
                .for_each(|stage| stage.is_done = true);
        }
        self.keep_cost();
        // The consumer may have gone away.
        let _ = self.delivered.send(Delivery::End(outcome));
    }

    /// What counts over all rows of the job is kept for legs behind this one, if it is one.
    fn keep_found(&mut self) -> Result<(), TaskFailure> {
        let found = LegFound {
            left_out: self.failed_rows.found(),
            judged: self.expectations.found(),
            letters: self.letters.lock().rows(),
        };
        self.outputs.keep_found(&found)
    }

    /// All rows have come that were wanted, of some stages all that there are. Of a run that was given up nobody knows.
    fn end_expectations(&mut self) -> Result<(), TaskFailure> {
        if self.is_cancelled {
            return Ok(());
        }
        (0..self.stages.len()).try_for_each(|stage| self.end_expectations_of(stage))
    }

    fn end_expectations_of(&mut self, stage: usize) -> Result<(), TaskFailure> {
        let is_used_up = self.executor.is_stage_used_up(stage);
        let ended = self.expectations.end(stage, is_used_up);
        if ended.is_err() {
            self.failed_stage = Some(stage);
        }
        ended
    }

    /// What was written becomes visible, if all is well.
    fn close_outputs(&mut self, outcome: Result<(), TaskFailure>) -> Result<(), TaskFailure> {
        let has_files = self.outputs.have_files();
        let outcome = outcome.and(if self.is_cancelled && has_files {
            Err(given_up())
        } else {
            Ok(())
        });
        if outcome.is_err() {
            if has_files {
                self.pool.wait_for_stopped(WRITER_PATIENCE);
            }
            let failed = self.failed_stage.map(|stage| self.outputs.behind(stage));
            self.stats.lock().failed_outputs = failed.unwrap_or_default();
        }
        self.outputs.close(outcome).map_err(|(output, failure)| {
            if let Some(output) = output {
                self.stats.lock().failed_outputs = vec![output];
            }
            failure
        })
    }
}
