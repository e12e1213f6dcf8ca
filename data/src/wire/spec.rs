//! What travels to stage workers and back. Plain protobuf messages, private to this crate: both ends are always the same
//! build.

use bytes::Bytes;
use prost::{Message, Oneof};

/// What one worker does with every input it gets: read, steps, sink.
#[derive(Clone, PartialEq, Message)]
pub struct StageSpec {
    /// For messages.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How files are read, where inputs are parts of files.
    #[prost(message, optional, tag = "2")]
    pub scan: Option<ScanSpec>,
    /// In order.
    #[prost(message, repeated, tag = "3")]
    pub steps: Vec<Step>,
    /// Absent: rows leave as blocks.
    #[prost(message, optional, tag = "4")]
    pub sink: Option<SinkSpec>,
    /// Blocks are cut at this size.
    #[prost(uint64, tag = "5")]
    pub block_bytes: u64,
    /// Most rows that leave per input; 0 is no limit.
    #[prost(uint64, tag = "6")]
    pub row_limit: u64,
    /// Reading runs ahead on a thread of its own, by this many batches; 0: it does not.
    #[prost(uint32, tag = "7")]
    pub prefetch_batches: u32,
    /// The columns of the blocks that the job begins with, where not all of them have just these.
    #[prost(bytes = "bytes", tag = "8")]
    pub block_schema: Bytes,
}

/// How Parquet files are read.
#[derive(Clone, PartialEq, Message)]
pub struct ScanSpec {
    /// The files' columns.
    #[prost(bytes = "bytes", tag = "1")]
    pub schema: Bytes,
    /// The columns to read, by position.
    #[prost(uint32, repeated, tag = "2")]
    pub columns: Vec<u32>,
    /// SQL; empty: all rows.
    #[prost(string, tag = "3")]
    pub predicate: String,
    /// Rows per batch.
    #[prost(uint64, tag = "4")]
    pub batch_rows: u64,
    /// The columns that files have themselves, each kind once; empty: all have those of `schema`.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub file_schemas: Vec<Bytes>,
    /// The columns that the names of folders tell.
    #[prost(string, repeated, tag = "6")]
    pub partitions: Vec<String>,
}

/// One step of a stage.
#[derive(Clone, PartialEq, Message)]
pub struct Step {
    /// What it is.
    #[prost(oneof = "StepKind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<StepKind>,
}

/// What a step does.
#[derive(Clone, PartialEq, Oneof)]
pub enum StepKind {
    /// Keeps the rows for which the SQL expression is true.
    #[prost(string, tag = "1")]
    Filter(String),
    /// Computes columns.
    #[prost(message, tag = "2")]
    Project(ProjectStep),
    /// Keeps columns by name.
    #[prost(message, tag = "3")]
    Select(NamesStep),
    /// Drops columns by name.
    #[prost(message, tag = "4")]
    Drop(NamesStep),
    /// Renames columns.
    #[prost(message, tag = "5")]
    Rename(RenameStep),
    /// Calls a function.
    #[prost(message, tag = "6")]
    Map(MapStep),
}

/// Columns by expression.
#[derive(Clone, PartialEq, Message)]
pub struct ProjectStep {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub columns: Vec<NamedExpression>,
}

/// An expression and the name of its column.
#[derive(Clone, PartialEq, Message)]
pub struct NamedExpression {
    /// SQL.
    #[prost(string, tag = "1")]
    pub sql: String,
    /// The column.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// Columns by name.
#[derive(Clone, PartialEq, Message)]
pub struct NamesStep {
    /// The names.
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
}

/// New names of columns.
#[derive(Clone, PartialEq, Message)]
pub struct RenameStep {
    /// `sql` is the old name as it is, `name` the new one.
    #[prost(message, repeated, tag = "1")]
    pub pairs: Vec<NamedExpression>,
}

/// A call of a function.
#[derive(Clone, PartialEq, Message)]
pub struct MapStep {
    /// For messages.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What to call.
    #[prost(oneof = "FunctionKind", tags = "2, 3")]
    pub function: Option<FunctionKind>,
    /// Whether the function gets only `reads`.
    #[prost(bool, tag = "4")]
    pub reads_some: bool,
    /// The columns that it gets.
    #[prost(string, repeated, tag = "5")]
    pub reads: Vec<String>,
    /// Which columns pass by.
    #[prost(enumeration = "KeepsKind", tag = "6")]
    pub keeps: i32,
    /// Named by `keeps`.
    #[prost(string, repeated, tag = "7")]
    pub keeps_names: Vec<String>,
    /// The function tells which rows stay.
    #[prost(bool, tag = "8")]
    pub is_mask: bool,
    /// One row out for one row in.
    #[prost(bool, tag = "9")]
    pub keeps_rows: bool,
    /// Rows per call; 0: as many as there are in a block.
    #[prost(uint64, tag = "10")]
    pub batch_rows: u64,
    /// Which of the values that the worker is made with holds the references of the function; 0: none, 1: the first.
    #[prost(uint32, tag = "11")]
    pub captured: u32,
}

/// A function.
#[derive(Clone, PartialEq, Oneof)]
pub enum FunctionKind {
    /// For the `UdfHost`.
    #[prost(bytes = "bytes", tag = "2")]
    Python(Bytes),
    /// JSON of `TextEmbedderSpec`.
    #[prost(string, tag = "3")]
    Embedder(String),
}

/// As [`Kept`](crate::plan::Kept).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum KeepsKind {
    /// None.
    Nothing = 0,
    /// The named ones.
    Named = 1,
    /// All but the named ones.
    AllExcept = 2,
}

/// Where rows end.
#[derive(Clone, PartialEq, Message)]
pub struct SinkSpec {
    /// The kind.
    #[prost(oneof = "SinkKind", tags = "1, 2")]
    pub kind: Option<SinkKind>,
}

/// Where rows end.
#[derive(Clone, PartialEq, Oneof)]
pub enum SinkKind {
    /// Rows are counted and forgotten.
    #[prost(message, tag = "1")]
    Count(CountSink),
    /// Rows become Parquet files.
    #[prost(message, tag = "2")]
    Parquet(ParquetSink),
}

/// Counts rows.
#[derive(Clone, PartialEq, Message)]
pub struct CountSink {}

/// Writes one file per input, or more where their rows are limited.
#[derive(Clone, PartialEq, Message)]
pub struct ParquetSink {
    /// Absolute path of the folder.
    #[prost(string, tag = "1")]
    pub folder: String,
    /// What the files' names begin with.
    #[prost(string, tag = "2")]
    pub prefix: String,
    /// `snappy`, `zstd`, `lz4`, `gzip` or `none`.
    #[prost(string, tag = "3")]
    pub compression: String,
    /// Rows per row group at most.
    #[prost(uint64, tag = "4")]
    pub row_group_rows: u64,
    /// Rows per file at most; 0 is no limit.
    #[prost(uint64, tag = "5")]
    pub max_rows_per_file: u64,
}

/// One unit of work for a worker: done again as a whole when the worker dies.
#[derive(Clone, PartialEq, Message)]
pub struct InputSpec {
    /// Position in the stage's order; names the output file.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// Parts of files, in order.
    #[prost(message, repeated, tag = "2")]
    pub files: Vec<FilePart>,
    /// Numbers, for the range source.
    #[prost(message, optional, tag = "3")]
    pub numbers: Option<NumberPart>,
    /// Blocks, in the order of the call's dependencies.
    #[prost(message, repeated, tag = "4")]
    pub blocks: Vec<BlockPart>,
    /// Blocks that an earlier attempt has delivered: they are made again but not sent again.
    #[prost(uint64, tag = "5")]
    pub skip_blocks: u64,
    /// Rows in these blocks.
    #[prost(uint64, tag = "6")]
    pub skip_rows: u64,
    /// Which attempt this is, counted over all inputs of the job: no two share a file.
    #[prost(uint64, tag = "7")]
    pub attempt: u64,
}

/// Rows of one row group of a file.
#[derive(Clone, PartialEq, Message)]
pub struct FilePart {
    /// Absolute path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Length of the file.
    #[prost(uint64, tag = "2")]
    pub size_bytes: u64,
    /// Row groups in the file.
    #[prost(uint32, tag = "3")]
    pub row_groups: u32,
    /// Which one.
    #[prost(uint32, tag = "4")]
    pub row_group: u32,
    /// Its rows.
    #[prost(uint64, tag = "5")]
    pub row_group_rows: u64,
    /// First row within the row group.
    #[prost(uint64, tag = "6")]
    pub first_row: u64,
    /// Rows.
    #[prost(uint64, tag = "7")]
    pub rows: u64,
    /// Which of the scan's `file_schemas` the file has.
    #[prost(uint32, tag = "8")]
    pub file_schema: u32,
}

/// The numbers from `start` until `end`.
#[derive(Clone, PartialEq, Message)]
pub struct NumberPart {
    /// First number.
    #[prost(uint64, tag = "1")]
    pub start: u64,
    /// One after the last.
    #[prost(uint64, tag = "2")]
    pub end: u64,
}

/// Rows of a block.
#[derive(Clone, PartialEq, Message)]
pub struct BlockPart {
    /// First row.
    #[prost(uint64, tag = "1")]
    pub first_row: u64,
    /// Rows.
    #[prost(uint64, tag = "2")]
    pub rows: u64,
}

/// What a pull tells besides its block.
#[derive(Clone, PartialEq, Message)]
pub struct Report {
    /// Whether a block came along.
    #[prost(bool, tag = "1")]
    pub has_block: bool,
    /// Whether the input is used up.
    #[prost(bool, tag = "2")]
    pub is_last: bool,
    /// Rows of the block, or rows that the sink took since the last pull.
    #[prost(uint64, tag = "3")]
    pub rows: u64,
    /// Bytes of the block, or of the files written since the last pull.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// What the steps did since the last pull: the source first, the sink last.
    #[prost(message, repeated, tag = "5")]
    pub steps: Vec<StepReport>,
    /// Bytes read from storage since the last pull.
    #[prost(uint64, tag = "6")]
    pub bytes_read: u64,
    /// Files that are whole since the last pull.
    #[prost(message, repeated, tag = "7")]
    pub files: Vec<WrittenFile>,
    /// The columns that came out so far, if the last report did not tell; also where no row came out.
    #[prost(bytes = "bytes", tag = "8")]
    pub schema: Bytes,
}

/// What one step did.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct StepReport {
    /// Rows in.
    #[prost(uint64, tag = "1")]
    pub rows_in: u64,
    /// Rows out.
    #[prost(uint64, tag = "2")]
    pub rows_out: u64,
    /// Time on the clock, without the steps before it.
    #[prost(uint64, tag = "3")]
    pub wall_nanos: u64,
    /// Time of the processor on the worker's thread, without the steps before it.
    #[prost(uint64, tag = "4")]
    pub cpu_nanos: u64,
    /// Bytes out.
    #[prost(uint64, tag = "5")]
    pub bytes_out: u64,
    /// Batches out.
    #[prost(uint64, tag = "6")]
    pub batches_out: u64,
}

/// A file that is complete and waits for its final name.
#[derive(Clone, PartialEq, Message)]
pub struct WrittenFile {
    /// Absolute path that it will have.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Rows.
    #[prost(uint64, tag = "2")]
    pub rows: u64,
    /// Length.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// Absolute path that it has until then.
    #[prost(string, tag = "4")]
    pub unfinished: String,
    /// Its columns.
    #[prost(bytes = "bytes", tag = "5")]
    pub schema: Bytes,
}
