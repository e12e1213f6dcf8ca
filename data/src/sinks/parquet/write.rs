//! Writing the rows of one input.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use parquet::file::properties::WriterProperties;

use super::part::{Part, PartPath};
use super::spec::ParquetSink;
use super::writing::properties;
use crate::columns::{Misfit, conform, unify};
use crate::sinks::SinkWriter;
use crate::sinks::stem::FileStem;
use crate::wire::spec::WrittenFile;

/// Batches of unknown type that wait at most.
const MAX_UNTYPED_BATCHES: usize = 64;

/// Parquet files of one input: one, or as many as its rows need.
pub(super) struct ParquetFile {
    spec: ParquetSink,
    stem: FileStem,
    properties: WriterProperties,
    /// The columns of all rows so far, which the file that is open has.
    schema: Option<SchemaRef>,
    part: Option<Part>,
    finished: Vec<WrittenFile>,
    /// Batches with columns of nulls only, which wait for the type that a later batch may tell.
    untyped: Vec<RecordBatch>,
    /// Rows so far.
    rows: u64,
}

impl ParquetFile {
    /// The files of an input, or of one folder of it.
    pub(super) fn new(sink: ParquetSink, stem: FileStem) -> Result<Self, TaskFailure> {
        let properties = properties(sink.writing.as_ref())?;
        Ok(Self {
            spec: sink,
            stem,
            properties,
            schema: None,
            part: None,
            finished: Vec::new(),
            untyped: Vec::new(),
            rows: 0,
        })
    }

    /// The columns from this batch on: a function may return, say, only nulls in one batch and text in the next.
    fn widened(&self, next: &SchemaRef) -> Result<SchemaRef, TaskFailure> {
        let Some(schema) = &self.schema else {
            return Ok(Arc::clone(next));
        };
        unify(schema, next).map_err(|misfit| self.misfit(&misfit))
    }

    fn misfit(&self, misfit: &Misfit) -> TaskFailure {
        let between = misfit.between(
            &format!("in the first {} rows of a part", self.rows),
            "in the rows after these",
        );
        TaskFailure::new(
            ErrorCode::InvalidArgument,
            format!(
                "write_parquet(): {between}; return the same columns with the same types from every call"
            ),
        )
    }
}

/// Whether some column has only nulls or empty lists, and therefore no type yet.
fn is_untyped(kind: &DataType) -> bool {
    match kind {
        DataType::Null => true,
        DataType::Struct(fields) => fields.iter().any(|field| is_untyped(field.data_type())),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_untyped(item.data_type())
        }
        _ => false,
    }
}

impl SinkWriter for ParquetFile {
    fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if batch.num_columns() == 0 {
            return Err(TaskFailure::new(
                ErrorCode::InvalidArgument,
                "write_parquet(): there are rows without columns, for which Parquet has no place; keep at least one column",
            ));
        }
        let schema = self.widened(&batch.schema())?;
        let waits = schema
            .fields()
            .iter()
            .any(|field| is_untyped(field.data_type()));
        if self.schema.as_ref() != Some(&schema) {
            // A file has one type per column; those of before are made alike when the job is over.
            self.finish_part()?;
            self.schema = Some(schema);
        }
        self.rows += batch.num_rows() as u64;
        if waits && self.part.is_none() && self.untyped.len() < MAX_UNTYPED_BATCHES {
            self.untyped.push(batch);
            return Ok(());
        }
        self.write_untyped()?;
        self.append(&batch)
    }

    fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure> {
        self.write_untyped()?;
        self.finish_part()?;
        Ok(std::mem::take(&mut self.finished))
    }
}

impl ParquetFile {
    fn write_untyped(&mut self) -> Result<(), TaskFailure> {
        std::mem::take(&mut self.untyped)
            .into_iter()
            .try_for_each(|batch| self.append(&batch))
    }

    /// Writes rows, into as many files as they need.
    fn append(&mut self, batch: &RecordBatch) -> Result<(), TaskFailure> {
        let schema = self.schema.clone().unwrap_or_else(|| batch.schema());
        let batch = conform(batch, &schema).map_err(|misfit| self.misfit(&misfit))?;
        let mut first = 0;
        while first < batch.num_rows() {
            let part = match &mut self.part {
                Some(part) => part,
                None => {
                    let number = self.finished.len() as u64;
                    let path = PartPath::new(&self.stem, number);
                    let part = Part::create(path, &schema, &self.properties)?;
                    self.part.insert(part)
                }
            };
            let room = rows_left(self.spec.max_rows_per_file, part.rows());
            let rows = room.min(batch.num_rows() - first);
            part.write(&batch.slice(first, rows))?;
            first += rows;
            if rows == room {
                self.finish_part()?;
            }
        }
        Ok(())
    }

    fn finish_part(&mut self) -> Result<(), TaskFailure> {
        if let Some(part) = self.part.take() {
            self.finished.push(part.finish()?);
        }
        Ok(())
    }
}

/// Rows that a file may still take; at least one, because a full file is finished at once.
fn rows_left(most: u64, rows: u64) -> usize {
    let left = if most == 0 { u64::MAX } else { most - rows };
    usize::try_from(left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::ledger::unfinished_folder;
    use crate::sinks::Written;
    use crate::testing::{rows, whole};

    fn attempt(folder: &Path, attempt: u64) -> ParquetFile {
        let sink = ParquetSink {
            folder: folder.display().to_string(),
            prefix: "job".to_owned(),
            ..ParquetSink::default()
        };
        let sequence = 3;
        let stem = FileStem::new(&sink.folder, "job", Written { sequence, attempt });
        ParquetFile::new(sink, stem).expect("begins")
    }

    fn read(file: &WrittenFile) -> RecordBatch {
        let file = File::open(&file.unfinished).expect("is there");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("is Parquet");
        let batches: Result<Vec<_>, _> = reader.build().expect("reads").collect();
        whole(&batches.expect("reads"))
    }

    /// D12, STG-1: a worker that was wrongly taken for dead writes on, on another machine, with the same process id, and ends
    /// after the one that took its place.
    #[test]
    fn two_attempts_at_one_input_never_write_one_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join(unfinished_folder("job"))).expect("creates");
        let (mut first, mut second) = (attempt(folder.path(), 7), attempt(folder.path(), 8));
        first.write(rows(0, 10)).expect("writes");
        second.write(rows(0, 10)).expect("writes");
        first.write(rows(10, 10)).expect("writes");
        second.write(rows(10, 10)).expect("writes");
        let second = second.finish().expect("ends").remove(0);
        let first = first.finish().expect("ends").remove(0);
        assert_eq!(
            first.path, second.path,
            "the driver gives one of them its name"
        );
        assert_ne!(first.unfinished, second.unfinished);
        assert_eq!((read(&first), read(&second)), (rows(0, 20), rows(0, 20)));
    }
}
