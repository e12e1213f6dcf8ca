//! Where rows end.
//!
//! ```text
//!  plan      what was asked for                         Sink, a case per sink
//!  graph     whether it wants a stage, columns, a step  SinkKind
//!            │ settings: bytes that only the sink understands
//!  worker    takes the rows of an input                 SinkWriter
//!  ledger    makes all of them visible                  SinkKind::begin
//! ```
//! A sink is a file (or a folder) here that has all of this, a case of [`Sink`] and a line in [`WRITERS`].

mod consumer;
mod count;
mod far;
mod files;
mod names;
mod parquet;
mod partitions;
mod stem;

pub use far::FarOutput;
pub use files::FilesOutput;
pub use names::{FileNames, Named};
pub(crate) use parquet::{LettersFormat, write_letters};
pub use parquet::{ParquetOutput, ParquetWriting, SortedBy};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use bytes::Bytes;
use prost::Message;

use crate::digest::Digest;
use crate::error::PlanError;
use crate::ledger::{FolderOutput, JobIdentity, Trait};
use crate::registered::Registered;
use crate::wire::spec::WrittenFile;
use partitions::Partitions;
use stem::FileStem;

/// Where the rows of a job end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// With the consumer, as blocks.
    Consumer,
    /// Counted and forgotten.
    Count,
    /// In Parquet files.
    Parquet(ParquetOutput),
    /// In files of a format that Python writes.
    Files(FilesOutput),
    /// In files of a folder that is not local.
    Far(FarOutput),
}

/// Makes the writer of an input.
type OpenWriter = fn(&Bytes, Written) -> Result<Box<dyn SinkWriter>, TaskFailure>;

/// What workers write with, by the name of the sink.
static WRITERS: [(&str, OpenWriter); 4] = [
    (count::NAME, count::open),
    (parquet::NAME, parquet::open),
    (files::NAME, files::open),
    (far::NAME, far::open),
];

/// What the graph of stages knows of a sink.
trait SinkKind {
    /// Its step, for people; `None`: it is no work of the last stage.
    fn step(&self) -> Option<&'static str>;

    /// How workers write; `None`: rows leave the last stage as blocks.
    fn settings(&self) -> Option<Registered>;

    /// How files are written, but for what differs from run to run; `None`: it writes none that a later run could go on with.
    fn shape(&self) -> Option<Bytes> {
        None
    }

    /// Whether anybody looks at the columns.
    fn wants_columns(&self) -> bool {
        true
    }

    /// What a stage that only writes is like, if the sink needs one.
    fn own_stage(&self) -> Option<OwnStage> {
        None
    }

    /// Begins the output of a job, if it is to become visible as a whole.
    fn begin(&self) -> Result<Option<FolderOutput>, PlanError> {
        Ok(None)
    }
}

/// A stage that only writes: it has its own number of workers, and rows of several inputs come together in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnStage {
    /// Rows that an input should have at least.
    pub(crate) min_rows: u64,
    /// Bytes that an input should have at least, in the place of rows.
    pub(crate) min_bytes: Option<u64>,
    /// Workers that write at once, at most.
    pub(crate) max_writers: Option<usize>,
}

impl OwnStage {
    /// The one that is needed if files shall have so many rows or bytes at least, or so many workers shall write at most.
    fn for_files(
        min_rows: Option<u64>,
        min_bytes: Option<u64>,
        max_writers: Option<usize>,
    ) -> Option<Self> {
        let is_needed = min_rows.is_some() || min_bytes.is_some() || max_writers.is_some();
        is_needed.then(|| Self {
            min_rows: min_rows.unwrap_or(0),
            min_bytes,
            max_writers,
        })
    }
}

impl Sink {
    fn kind(&self) -> &dyn SinkKind {
        match self {
            Self::Consumer => &consumer::Consumer,
            Self::Count => &count::Count,
            Self::Parquet(output) => output,
            Self::Files(output) => output,
            Self::Far(output) => output,
        }
    }

    /// Its step in the last stage, for people.
    pub(crate) fn step(&self) -> Option<&'static str> {
        self.kind().step()
    }

    /// The folder that files are written into, as users know it.
    pub(crate) fn place(&self) -> Option<&str> {
        match self {
            Self::Consumer | Self::Count => None,
            Self::Parquet(output) => Some(&output.folder),
            Self::Files(output) => Some(&output.folder),
            Self::Far(output) => Some(&output.target),
        }
    }

    /// How workers write; `None`: rows leave the last stage as blocks.
    pub(crate) fn settings(&self) -> Option<Registered> {
        self.kind().settings()
    }

    /// What tells how files are written; or why nothing does, in words that fit behind "because".
    pub fn identity(&self) -> Result<Trait, String> {
        let shape = self.kind().shape().ok_or("it writes no files")?;
        let mut digest = Digest::new();
        digest.add(&*shape);
        Ok(Trait::new("how files are written", digest.text()))
    }

    /// What tells the job from others, if it is taken up when it was left unfinished.
    pub(crate) fn job_identity(&self) -> Option<&JobIdentity> {
        match self {
            Self::Consumer | Self::Count | Self::Far(_) => None,
            Self::Parquet(output) => output.identity.as_ref(),
            Self::Files(output) => output.identity.as_ref(),
        }
    }

    /// Whether anybody looks at the columns.
    pub(crate) fn wants_columns(&self) -> bool {
        self.kind().wants_columns()
    }

    /// Whether rows become files.
    pub(crate) fn writes_files(&self) -> bool {
        matches!(self, Self::Parquet(_) | Self::Files(_))
    }

    /// What a stage that only writes is like, if the sink needs one.
    pub(crate) fn own_stage(&self) -> Option<OwnStage> {
        self.kind().own_stage()
    }

    /// Begins the output of a job, if it is to become visible as a whole.
    pub(crate) fn begin(&self) -> Result<Option<FolderOutput>, PlanError> {
        self.kind().begin()
    }
}

/// Takes the rows of one input.
pub(crate) trait SinkWriter: Send {
    /// Takes a batch.
    fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure>;

    /// Makes what was written whole; it gets its name when the job is over.
    fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure>;
}

/// The input whose rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Its place in the order of its stage.
    pub(crate) sequence: u64,
    /// Which attempt this is, counted over all inputs of the job.
    pub(crate) attempt: u64,
}

/// Opens a registered sink for one input.
pub(crate) fn open(sink: &Registered, input: Written) -> Result<Box<dyn SinkWriter>, TaskFailure> {
    let writer = WRITERS.iter().find(|(name, _)| *name == sink.kind);
    let (_, open) = writer.ok_or_else(|| {
        TaskFailure::new(
            ErrorCode::Internal,
            format!("a stage worker knows no sink {:?}", sink.kind),
        )
    })?;
    open(&sink.settings, input)
}

/// Whether writing calls Python.
pub(crate) fn calls_python(sink: &Registered) -> bool {
    [files::NAME, far::NAME].contains(&sink.kind.as_str())
}

/// The writer of an input: one, or one for each folder of these columns' values.
fn by_folder(
    operation: &str,
    columns: &[String],
    stem: FileStem,
    open: impl Fn(FileStem) -> Result<Box<dyn SinkWriter>, TaskFailure> + Send + 'static,
) -> Result<Box<dyn SinkWriter>, TaskFailure> {
    if columns.is_empty() {
        return open(stem);
    }
    let open_folder = move |folder: &str, number| open(stem.in_partition(folder, number));
    Ok(Box::new(Partitions::new(
        operation,
        columns.to_vec(),
        Box::new(open_folder),
    )))
}

/// A message of a sink that another process of this build has written.
fn decode<M: Message + Default>(bytes: &Bytes) -> Result<M, TaskFailure> {
    M::decode(bytes.clone()).map_err(|error| {
        TaskFailure::new(
            ErrorCode::Internal,
            format!("read a message for a stage worker: {error}"),
        )
    })
}
