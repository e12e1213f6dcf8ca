//! Rows that failed, put aside while a job runs, and where they go at its end.

use aktis_worker::TaskFailure;

use super::main_loop::ExecutionLoop;
use crate::executor::core::event::WorkerKey;
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

    /// All rows have come, or the job has failed: those that were put aside are written where they are looked for.
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
        self.outputs
            .write_letters(all.blocks(), &self.pool.reader())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::executor::pool::InProcessPool;
    use crate::executor::{ExecutionOptions, LettersFolder};
    use crate::graph::JobOutput;
    use crate::plan::{Dataset, FailurePolicy, OnError};
    use crate::sinks::{ParquetOutput, Sink};
    use crate::testing::test_map;
    use crate::{Execution, SaveMode};

    /// What lies in the folder and is not hidden.
    fn seen(folder: &Path) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.expect("is read").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| !name.starts_with(['.', '_'])).collect()
    }

    /// Writes rows to `out` in the folder, and one that fails to `dead`; whether that went well.
    fn write(folder: &Path) -> bool {
        let text = |name: &str| folder.join(name).display().to_string();
        let mut spec = test_map("fail at 7");
        spec.failures = FailurePolicy {
            on_error: Some(OnError::DeadLetter),
            ..FailurePolicy::default()
        };
        let dataset = Dataset::range(50).and_then(|all| all.map(spec));
        let mut output = ParquetOutput::new(text("out"), "p");
        output.mode = SaveMode::Append;
        let pool = Box::new(InProcessPool::of_cpus(1));
        let output = JobOutput {
            letters_folder: Some(LettersFolder {
                folder: text("dead"),
                prefix: "d".to_owned(),
            }),
            ..JobOutput::new(dataset.expect("maps"), Sink::Parquet(output))
        };
        let options = ExecutionOptions::default();
        let execution = Execution::start_all(&[output], pool, &options).expect("starts");
        execution.collect().is_ok()
    }

    #[test]
    fn rows_elsewhere_are_not_seen_where_the_output_fails() {
        let good = tempfile::tempdir().expect("a folder");
        assert!(write(good.path()));
        let files = seen(&good.path().join("out"));
        assert_eq!(seen(&good.path().join("dead")).len(), 1);
        // A folder that is not empty lies where a file of it is to be.
        let bad = tempfile::tempdir().expect("a folder");
        let obstacle = bad.path().join("out").join(&files[0]).join("x");
        std::fs::create_dir_all(obstacle).expect("makes");
        assert!(!write(bad.path()));
        assert_eq!(seen(&bad.path().join("dead")), Vec::<String>::new());
    }
}
