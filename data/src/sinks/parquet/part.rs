//! One file of a sink, from its first row to the moment at which the driver may give it its name.
//!
//! STG-1: workers write only into the hidden folder of their job, each attempt at an input under a
//! name of its own, so that two attempts never write one file, even if the first is wrongly taken for dead. Names that
//! readers see are given by the driver, when all rows of the job are whole (`ledger::folder`).

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::FileStem;
use crate::block;
use crate::ledger::LettersPlace;
use crate::os_error;
use crate::wire::spec::WrittenFile;

/// A file beyond this is brought to the disk by the worker that wrote it, beside the work of others. What is smaller waits for
/// the end of the job: the disk takes many small files as fast as one.
const LARGE_BYTES: u64 = 8 << 20;

/// Encoded bytes after which a row group is written out, so that memory stays bounded.
pub(crate) const ROW_GROUP_BYTES: usize = 64 << 20;

/// Where a part lies while it is written, and what it will be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartPath {
    unfinished: PathBuf,
    path: PathBuf,
    sequence: u64,
}

impl PartPath {
    /// The part with this number of what is called so; it is written where nobody reads (`STG-1`).
    pub(super) fn new(stem: &FileStem, part: u64) -> Self {
        let name = format!("{}_{part:06}.parquet", stem.unfinished_name());
        let path = stem.visible(&name);
        Self {
            path: path.expect("the stem has made the name"),
            unfinished: stem.unfinished_folder().join(name),
            sequence: stem.sequence(),
        }
    }

    /// A file of rows that functions failed for.
    pub(super) fn of_letters(place: &LettersPlace, name: &str) -> Self {
        Self {
            unfinished: place.unfinished.join(format!("letters-{name}")),
            path: place.folder.join(name),
            // Of no input.
            sequence: 0,
        }
    }

    /// Writing has failed.
    pub(super) fn failure(&self, error: &(dyn std::error::Error + 'static)) -> TaskFailure {
        let what = format!("write_parquet(): write {}", self.path.display());
        os_error::failure(&what, error, ErrorCode::InvalidArgument)
    }
}

/// A part that is being written; its file goes with it unless it is finished.
pub(crate) struct Part {
    path: PartPath,
    /// `None` once it is finished.
    writer: Option<ArrowWriter<File>>,
    schema: SchemaRef,
    rows: u64,
}

impl Part {
    /// Begins the file.
    pub(crate) fn create(
        path: PartPath,
        schema: &SchemaRef,
        properties: &WriterProperties,
    ) -> Result<Self, TaskFailure> {
        let file = File::create_new(&path.unfinished).map_err(|error| path.failure(&error))?;
        let writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties.clone()))
            .map_err(|error| path.failure(&error))?;
        Ok(Self {
            path,
            writer: Some(writer),
            schema: Arc::clone(schema),
            rows: 0,
        })
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows, which have the columns that the file was begun with.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), TaskFailure> {
        let writer = self
            .writer
            .as_mut()
            .expect("it is finished only once, at the end");
        let mut result = writer.write(batch);
        if result.is_ok() && writer.in_progress_size() >= ROW_GROUP_BYTES {
            result = writer.flush();
        }
        self.rows += batch.num_rows() as u64;
        result.map_err(|error| self.path.failure(&error))
    }

    /// Ends the file. The driver brings it to the disk before it gets its name ([`LARGE_BYTES`]).
    pub(crate) fn finish(mut self) -> Result<WrittenFile, TaskFailure> {
        let path = self.path.clone();
        let failure = |error: &(dyn std::error::Error + 'static)| path.failure(error);
        let writer = self.writer.as_mut().expect("it is finished only once");
        writer.finish().map_err(|error| failure(&error))?;
        let file = writer.inner();
        let bytes = file.metadata().map_err(|error| failure(&error))?.len();
        if bytes > LARGE_BYTES {
            file.sync_all().map_err(|error| failure(&error))?;
        }
        self.writer = None;
        let schema = block::encode_schema(&self.schema).map_err(|error| failure(&error))?;
        Ok(WrittenFile {
            schema,
            path: self.path.path.display().to_string(),
            unfinished: self.path.unfinished.display().to_string(),
            rows: self.rows,
            bytes,
            sequence: self.path.sequence,
            output: 0,
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            // The driver removes the folder as well, and may have done so already.
            let _ = fs::remove_file(&self.path.unfinished);
        }
    }
}
