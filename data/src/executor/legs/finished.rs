//! Legs that an earlier run has finished, in which something is counted over all rows of the job: it counts in this run, too, whose limits
//! may be other ones, and rows that were put aside are put aside.

use std::error::Error;
use std::fmt::Display;
use std::fs::File;
use std::path::Path;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{Array, AsArray, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use crate::executor::expectations::Expectations;
use crate::executor::failed_rows::{DeadLetters, FailedRows, LetterBlock};
use crate::executor::pool::StagePool;
use crate::executor::statistics::initial_stages;
use crate::graph::JobPlan;
use crate::ledger::{LegFolders, LegFound};
use crate::stats::{ExecutionStats, OperatorStats};

/// What such a leg has found.
pub(super) struct FinishedLeg {
    pub(super) stats: ExecutionStats,
    /// Rows that were put aside.
    pub(super) letters: Vec<LetterBlock>,
    /// More rows have failed, or violate an expectation, than this run allows.
    pub(super) broken: Option<TaskFailure>,
}

/// Why it cannot be told.
pub(super) enum NotTold {
    /// Somebody has removed a part of it.
    Gone,
    Failed(TaskFailure),
}

impl FinishedLeg {
    /// Reads what the leg with this number has found, which is this job.
    pub(super) fn read(
        leg: usize,
        job: &JobPlan,
        folders: &LegFolders,
        pool: &dyn StagePool,
    ) -> Result<Self, NotTold> {
        let LegFound {
            left_out,
            judged,
            letters,
        } = folders
            .found(leg)
            .map_err(|error| unreadable(folders.path(leg).display(), &error))?
            .ok_or(NotTold::Gone)?;
        let mut failed_rows = FailedRows::new(&job.stages, None, String::new());
        failed_rows.take_found(left_out);
        let mut expectations = Expectations::new(job, None);
        let held = expectations.take_found(judged);
        let broken = failed_rows.check(true).and(held).err();
        let mut stats = ExecutionStats::of_stages(initial_stages(job));
        for (stage, failed) in stats.stages.iter_mut().zip(failed_rows.counted()) {
            for (operator, rows) in stage.operators.iter_mut().skip(1).zip(failed) {
                operator.rows_failed = rows;
            }
        }
        expectations.publish(&mut stats, true);
        let says_something =
            |operator: &OperatorStats| operator.rows_failed > 0 || operator.expectation.is_some();
        for stage in &mut stats.stages {
            stage.operators.retain(says_something);
            stage.givers.clear();
            stage.name = format!("{} (done by an earlier run)", stage.name);
            stage.is_done = true;
        }
        stats.stages.retain(|stage| !stage.operators.is_empty());
        stats.is_done = true;
        let mut put_aside = DeadLetters::default();
        let files = folders.letters(leg);
        let files = files.map_err(|error| unreadable(folders.path(leg).display(), &error))?;
        for (number, path) in files.iter().enumerate() {
            read_letters(path, number, &mut put_aside, pool)?;
        }
        put_aside.flush(pool).map_err(NotTold::Failed)?;
        if put_aside.rows() != letters {
            return Err(NotTold::Gone);
        }
        Ok(Self {
            stats,
            letters: put_aside.blocks().to_vec(),
            broken,
        })
    }
}

/// What is there cannot be read, perhaps for now: it is not taken for gone.
fn unreadable(path: impl Display, error: &dyn Error) -> NotTold {
    let text = format!("read {path}, which an earlier run has written: {error}");
    NotTold::Failed(TaskFailure::new(ErrorCode::Internal, text))
}

/// Puts the rows of a file of letters where those of this run lie.
fn read_letters(
    path: &Path,
    number: usize,
    put_aside: &mut DeadLetters,
    pool: &dyn StagePool,
) -> Result<(), NotTold> {
    let file = File::open(path).map_err(|error| unreadable(path.display(), &error))?;
    let rows = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|error: ParquetError| unreadable(path.display(), &error))?;
    for batch in rows {
        let batch = batch.map_err(|error| unreadable(path.display(), &error))?;
        let operator = operator_of(&batch);
        let added = put_aside.add_batches((0, number), operator, vec![batch], pool);
        added.map_err(NotTold::Failed)?;
    }
    Ok(())
}

/// The step that has put the first of these rows aside.
fn operator_of(letters: &RecordBatch) -> String {
    let column = letters.column_by_name("operator");
    let names = column.and_then(|column| column.as_string_opt::<i32>());
    let first = names.filter(|names| !names.is_empty());
    first.map_or_else(String::new, |names| names.value(0).to_owned())
}
