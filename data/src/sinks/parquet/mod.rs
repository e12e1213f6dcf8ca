//! Parquet files.

mod alike;
mod part;
mod spec;
mod write;

use aktis_worker::TaskFailure;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use prost::Message;

use super::{OwnStage, SinkKind, SinkWriter, Written};
use crate::error::PlanError;
use crate::ledger::{FileFormat, FolderOutput, SaveMode};
use crate::registered::Registered;
use crate::wire::spec::WrittenFile;
use part::{Part, PartPath};
use spec::ParquetSink;
use write::{ParquetFile, properties};

pub(super) const NAME: &str = "parquet";

/// A folder of Parquet files, one per input of the last stage unless more or fewer are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetOutput {
    /// Absolute path of the folder.
    pub folder: String,
    /// What the files' names begin with; no other job may use it.
    pub prefix: String,
    /// `snappy`, `zstd`, `lz4`, `gzip` or `none`.
    pub compression: String,
    /// Rows per row group at most; `None`: by size.
    pub row_group_rows: Option<u64>,
    /// Rows per file at least, but for the last one.
    pub min_rows_per_file: Option<u64>,
    /// Rows per file at most.
    pub max_rows_per_file: Option<u64>,
    /// Workers that write at once, at most.
    pub max_writers: Option<usize>,
    /// What becomes of files that are there.
    pub mode: SaveMode,
}

impl ParquetOutput {
    /// Files beside those that are there, compressed with snappy.
    pub fn new(folder: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            folder: folder.into(),
            prefix: prefix.into(),
            compression: "snappy".to_owned(),
            row_group_rows: None,
            min_rows_per_file: None,
            max_rows_per_file: None,
            max_writers: None,
            mode: SaveMode::Append,
        }
    }
}

impl ParquetOutput {
    /// How workers write its files.
    fn spec(&self) -> ParquetSink {
        ParquetSink {
            folder: self.folder.clone(),
            prefix: self.prefix.clone(),
            compression: self.compression.clone(),
            row_group_rows: self.row_group_rows.unwrap_or(0),
            max_rows_per_file: self.max_rows_per_file.unwrap_or(0),
        }
    }
}

impl SinkKind for ParquetOutput {
    fn step(&self) -> Option<&'static str> {
        Some("Write")
    }

    fn settings(&self) -> Option<Registered> {
        Some(Registered {
            kind: NAME.to_owned(),
            settings: Bytes::from(self.spec().encode_to_vec()),
        })
    }

    fn own_stage(&self) -> Option<OwnStage> {
        OwnStage::for_files(self.min_rows_per_file, self.max_writers)
    }

    fn begin(&self) -> Result<Option<FolderOutput>, PlanError> {
        let format = Box::new(ParquetFormat(self.spec()));
        FolderOutput::begin(&self.folder, &self.prefix, self.mode, format).map(Some)
    }
}

pub(super) fn open(settings: &Bytes, input: Written) -> Result<Box<dyn SinkWriter>, TaskFailure> {
    let sink: ParquetSink = super::decode(settings)?;
    Ok(Box::new(ParquetFile::new(sink, input)?))
}

/// What the job's output is made whole with.
struct ParquetFormat(ParquetSink);

impl FileFormat for ParquetFormat {
    fn operation(&self) -> &str {
        "write_parquet()"
    }

    fn empty_files(&self, schema: &SchemaRef) -> Result<Vec<WrittenFile>, TaskFailure> {
        let Self(sink) = self;
        let properties = properties(&sink.compression, sink.row_group_rows)?;
        let part = Part::create(PartPath::new(sink, 0, 0, 0), schema, &properties)?;
        Ok(vec![part.finish()?])
    }

    fn make_alike(&self, files: &mut [WrittenFile]) -> Result<(), TaskFailure> {
        let Self(sink) = self;
        let properties = properties(&sink.compression, sink.row_group_rows)?;
        alike::make_alike(files, &properties)
    }
}
