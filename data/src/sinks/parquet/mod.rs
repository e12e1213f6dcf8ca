//! Parquet files.

mod alike;
mod letters;
mod part;
mod spec;
mod write;
mod writing;

use aktis_worker::TaskFailure;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use prost::Message;

pub(crate) use letters::{LettersFormat, write_letters};

use super::{FileNames, FileStem, OwnStage, SinkKind, SinkWriter, Written, by_folder};
use crate::error::PlanError;
use crate::ledger::{FileFormat, FolderOutput, JobIdentity, OutputPlan, SaveMode};
use crate::registered::Registered;
use crate::wire::spec::WrittenFile;
use part::{Part, PartPath};
use spec::ParquetSink;
use write::ParquetFile;
use writing::properties;
pub use writing::{ParquetWriting, SortedBy};

pub(super) const NAME: &str = "parquet";

/// A folder of Parquet files, one per input of the last stage unless more or fewer are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetOutput {
    /// Absolute path of the folder.
    pub folder: String,
    /// What the files' names begin with; no other job may use it.
    pub prefix: String,
    /// Columns whose values are folders, the outermost first.
    pub partition_columns: Vec<String>,
    /// How files are written.
    pub writing: ParquetWriting,
    /// Rows per file at least, but for the last one.
    pub min_rows_per_file: Option<u64>,
    /// Bytes per file at least, as they are in memory, but for the last one; in the place of rows.
    pub min_bytes_per_file: Option<u64>,
    /// Rows per file at most.
    pub max_rows_per_file: Option<u64>,
    /// Workers that write at once, at most.
    pub max_writers: Option<usize>,
    /// What becomes of files that are there.
    pub mode: SaveMode,
    /// What the files are called, if the user says so.
    pub names: Option<FileNames>,
    /// What tells the job from others, if it is taken up when it was left unfinished.
    pub identity: Option<JobIdentity>,
}

impl ParquetOutput {
    /// Files beside those that are there, compressed with snappy.
    pub fn new(folder: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            folder: folder.into(),
            prefix: prefix.into(),
            partition_columns: Vec::new(),
            writing: ParquetWriting::default(),
            min_rows_per_file: None,
            min_bytes_per_file: None,
            max_rows_per_file: None,
            max_writers: None,
            mode: SaveMode::Append,
            names: None,
            identity: None,
        }
    }
}

impl ParquetOutput {
    /// How workers write its files.
    fn spec(&self) -> ParquetSink {
        ParquetSink {
            folder: self.folder.clone(),
            prefix: self.prefix.clone(),
            max_rows_per_file: self.max_rows_per_file.unwrap_or(0),
            partition_columns: self.partition_columns.clone(),
            writing: Some(self.writing.spec()),
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

    fn shape(&self) -> Option<Bytes> {
        let spec = ParquetSink {
            folder: String::new(),
            prefix: String::new(),
            ..self.spec()
        };
        Some(Bytes::from(spec.encode_to_vec()))
    }

    fn own_stage(&self) -> Option<OwnStage> {
        OwnStage::for_files(
            self.min_rows_per_file,
            self.min_bytes_per_file,
            self.max_writers,
        )
    }

    fn begin(&self) -> Result<Option<FolderOutput>, PlanError> {
        let format = Box::new(ParquetFormat(self.spec()));
        let output = OutputPlan {
            folder: &self.folder,
            prefix: &self.prefix,
            mode: self.mode,
            names: self.names.clone(),
            identity: self.identity.clone(),
        };
        FolderOutput::begin(output, format).map(Some)
    }
}

pub(super) fn open(settings: &Bytes, input: Written) -> Result<Box<dyn SinkWriter>, TaskFailure> {
    let sink: ParquetSink = super::decode(settings)?;
    let columns = sink.partition_columns.clone();
    let stem = FileStem::new(&sink.folder, &sink.prefix, input);
    by_folder("write_parquet()", &columns, stem, move |stem| {
        Ok(Box::new(ParquetFile::new(sink.clone(), stem)?))
    })
}

/// What the job's output is made whole with.
struct ParquetFormat(ParquetSink);

impl FileFormat for ParquetFormat {
    fn operation(&self) -> &str {
        "write_parquet()"
    }

    fn empty_files(&self, schema: &SchemaRef) -> Result<Vec<WrittenFile>, TaskFailure> {
        let Self(sink) = self;
        let properties = properties(sink.writing.as_ref())?;
        let input = Written {
            sequence: 0,
            attempt: 0,
        };
        let stem = FileStem::new(&sink.folder, &sink.prefix, input);
        let part = Part::create(PartPath::new(&stem, 0), schema, &properties)?;
        Ok(vec![part.finish()?])
    }

    fn make_alike(&self, files: &mut [WrittenFile]) -> Result<(), TaskFailure> {
        let Self(sink) = self;
        let properties = properties(sink.writing.as_ref())?;
        alike::make_alike(files, &properties)
    }

    fn makes_alike(&self) -> bool {
        true
    }
}
