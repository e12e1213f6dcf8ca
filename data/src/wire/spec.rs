//! What travels to stage workers and back. Plain protobuf messages, private to this crate: both ends are always the same
//! build.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::expect::{ExpectStep, Judged};
use super::expression::ExpressionSpec;
use super::failing::{FailingSpec, FailuresSpec, ToldRows};
use super::fragment::FragmentSpec;
use super::group::GroupSpec;
use super::sizes::{FrameRows, SizesSpec};
use super::time::PullTime;
use crate::graph::Unnest;
use crate::ledger::Spans;
use crate::ledger::journal::JournalPart;
use crate::plan::Batching;

/// As [`StageTask`](crate::graph::StageTask).
#[derive(Clone, PartialEq, Message)]
pub struct StageSpec {
    /// For messages.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How inputs are opened.
    #[prost(message, optional, tag = "2")]
    pub source: Option<RegisteredSpec>,
    /// In order.
    #[prost(message, repeated, tag = "3")]
    pub steps: Vec<Step>,
    /// Absent: rows leave as blocks.
    #[prost(message, optional, tag = "4")]
    pub sink: Option<RegisteredSpec>,
    /// Blocks are cut at this size.
    #[prost(uint64, tag = "5")]
    pub block_bytes: u64,
    /// Most rows that leave per input.
    #[prost(uint64, optional, tag = "6")]
    pub row_limit: Option<u64>,
    /// Reading runs ahead on a thread of its own, by this many batches; 0: it does not.
    #[prost(uint32, tag = "7")]
    pub prefetch_batches: u32,
    /// Rows that relational work holds at once, in bytes.
    #[prost(uint64, tag = "9")]
    pub memory_bytes: u64,
    /// Absent: all rows belong to the first partition.
    #[prost(message, optional, tag = "8")]
    pub partitioner: Option<PartitionerSpec>,
    /// The first blocks of so many inputs are smaller.
    #[prost(uint64, tag = "11")]
    pub growing_inputs: u64,
    /// Absent: inputs are opened by the source.
    #[prost(message, optional, tag = "10")]
    pub group: Option<GroupSpec>,
    /// What comes out goes on in so many rows at once; 0: as it comes.
    #[prost(uint64, tag = "12")]
    pub even_rows: u64,
}

/// As [`Partitioner`](crate::graph::Partitioner).
#[derive(Clone, PartialEq, Message)]
pub struct PartitionerSpec {
    /// How many partitions there are.
    #[prost(uint32, tag = "1")]
    pub partitions: u32,
    /// How a row finds its own.
    #[prost(oneof = "PartitionKind", tags = "2, 3, 5")]
    pub kind: Option<PartitionKind>,
}

/// How a row finds its partition.
#[derive(Clone, PartialEq, Oneof)]
pub enum PartitionKind {
    /// Rows with equal values of these columns meet.
    #[prost(message, tag = "2")]
    Hash(NamesStep),
    /// Rows between the same two bounds meet.
    #[prost(message, tag = "3")]
    Range(RangeSpec),
    /// By chance, from this seed.
    #[prost(uint64, tag = "5")]
    Random(u64),
}

/// Partitions by order.
#[derive(Clone, PartialEq, Message)]
pub struct RangeSpec {
    /// The most important first.
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<RangeKeySpec>,
    /// Which feed of an input brings the bounds.
    #[prost(uint32, tag = "2")]
    pub bounds_feed: u32,
}

/// As [`RangeKey`](crate::graph::RangeKey).
#[derive(Clone, PartialEq, Message)]
pub struct RangeKeySpec {
    /// The column.
    #[prost(string, tag = "1")]
    pub column: String,
    /// Large values first.
    #[prost(bool, tag = "2")]
    pub is_descending: bool,
    /// Nulls first.
    #[prost(bool, tag = "3")]
    pub has_nulls_first: bool,
}

/// As [`Registered`](crate::registered::Registered).
#[derive(Clone, PartialEq, Message)]
pub struct RegisteredSpec {
    /// What it is registered under.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// A message of its own.
    #[prost(bytes = "bytes", tag = "2")]
    pub settings: Bytes,
}

/// One step of a stage.
#[derive(Clone, PartialEq, Message)]
pub struct Step {
    /// What it is.
    #[prost(
        oneof = "StepKind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14"
    )]
    pub kind: Option<StepKind>,
}

/// What a step does.
#[derive(Clone, PartialEq, Oneof)]
pub enum StepKind {
    /// Keeps the rows for which the expression is true.
    #[prost(message, tag = "1")]
    Filter(ExpressionSpec),
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
    /// Works on all rows of an input.
    #[prost(message, tag = "7")]
    Relational(FragmentSpec),
    /// Brings rows into the form of these columns.
    #[prost(bytes = "bytes", tag = "8")]
    Conform(Bytes),
    /// Keeps a share of the rows by chance.
    #[prost(message, tag = "9")]
    Sample(SampleStep),
    /// Computes columns besides those that are there.
    #[prost(message, tag = "10")]
    Compute(ProjectStep),
    /// The same as `Conform`; rows with other columns fail.
    #[prost(bytes = "bytes", tag = "11")]
    Declare(Bytes),
    /// Judges the rows.
    #[prost(message, tag = "12")]
    Expect(ExpectStep),
    /// Says how many rows make a block.
    #[prost(uint64, tag = "13")]
    BlockRows(u64),
    /// Makes a row of each element of a list.
    #[prost(message, tag = "14")]
    Unnest(Unnest),
}

/// A share of the rows.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct SampleStep {
    /// The bits of a float between 0 and 1.
    #[prost(uint64, tag = "1")]
    pub share: u64,
    /// What chance begins with.
    #[prost(uint64, tag = "2")]
    pub seed: u64,
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
    /// The expression.
    #[prost(message, optional, tag = "1")]
    pub expression: Option<ExpressionSpec>,
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
    /// In any order.
    #[prost(message, repeated, tag = "1")]
    pub pairs: Vec<NewName>,
}

/// A column's new name.
#[derive(Clone, PartialEq, Message)]
pub struct NewName {
    /// What it is called.
    #[prost(string, tag = "1")]
    pub old: String,
    /// What it shall be called.
    #[prost(string, tag = "2")]
    pub new: String,
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
    /// Rows per call; absent: as many as there are in a block.
    #[prost(uint64, optional, tag = "10")]
    pub batch_rows: Option<u64>,
    /// Which of the values that the worker is made with holds the references of the function.
    #[prost(uint32, optional, tag = "11")]
    pub captured: Option<u32>,
    /// What becomes of rows that it fails for.
    #[prost(message, optional, tag = "12")]
    pub failures: Option<FailuresSpec>,
    /// Where its results are kept, if they are.
    #[prost(string, optional, tag = "13")]
    pub cache_folder: Option<String>,
    /// What it is among those whose results are kept there.
    #[prost(string, optional, tag = "14")]
    pub cache_sign: Option<String>,
    /// How batches are made besides `batch_rows`.
    #[prost(message, optional, tag = "15")]
    pub batching: Option<Batching>,
}

/// A function.
#[derive(Clone, PartialEq, Oneof)]
pub enum FunctionKind {
    /// For the `UdfHost`.
    #[prost(bytes = "bytes", tag = "2")]
    Python(Bytes),
    /// JSON of `ModelSpec`.
    #[prost(string, tag = "3")]
    Model(String),
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

/// One unit of work for a worker: done again as a whole when the worker dies.
#[derive(Clone, PartialEq, Message)]
pub struct InputSpec {
    /// Position in the stage's order; names the output file.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// Where it lies, as its source says.
    #[prost(bytes = "bytes", tag = "2")]
    pub position: Bytes,
    /// Rows that it begins with, as far as anybody knows.
    #[prost(uint64, tag = "3")]
    pub rows: u64,
    /// Blocks that an earlier attempt has delivered: they are made again but not sent again.
    #[prost(uint64, tag = "5")]
    pub skip_blocks: u64,
    /// Rows in these blocks.
    #[prost(uint64, tag = "6")]
    pub skip_rows: u64,
    /// Which attempt this is, counted over all inputs of the job: no two share a file.
    #[prost(uint64, tag = "7")]
    pub attempt: u64,
    /// How many of its blocks belong to each of the stage's feeds, in the order of the edges; nothing where a source begins.
    #[prost(uint32, repeated, tag = "8")]
    pub feed_blocks: Vec<u32>,
    /// Where there are exchanges: its partition, or the first of neighbours that were put together.
    #[prost(uint32, tag = "9")]
    pub partition: u32,
    /// Of each feed: the columns that its stage has told so far, or nothing. Left out where the one feed has blocks that are all at hand.
    #[prost(bytes = "bytes", repeated, tag = "10")]
    pub feed_schemas: Vec<Bytes>,
    /// If there are any: only these blocks are sent, by their number, those that are skipped counted.
    #[prost(uint64, repeated, tag = "11")]
    pub wanted_blocks: Vec<u64>,
    /// Where the rows are noted that a sink has taken, so that nobody has to make them again; nothing: they are not.
    #[prost(string, tag = "12")]
    pub journal: String,
    /// What earlier attempts have noted.
    #[prost(message, repeated, tag = "13")]
    pub noted: Vec<JournalPart>,
    /// As many rows as come to the first function have been through it.
    #[prost(uint64, tag = "14")]
    pub noted_rows: u64,
    /// It has a part of a partition that was too large for one: keys with very many rows are named.
    #[prost(bool, tag = "15")]
    pub is_piece: bool,
    /// What earlier attempts have shown of its rows.
    #[prost(message, optional, tag = "16")]
    pub failing: Option<FailingSpec>,
    /// Of those rows that come to the first function: ranges that an earlier run has done. They do not come.
    #[prost(uint64, repeated, tag = "17")]
    pub done: Vec<u64>,
    /// What comes out is told with the places that it is all of.
    #[prost(bool, tag = "18")]
    pub is_marked: bool,
    /// What its rows are made of, for its journal; absent: it is an input of the source.
    #[prost(message, optional, tag = "19")]
    pub(crate) spans: Option<Spans>,
    /// The number of what it writes, if that is not its position.
    #[prost(uint64, optional, tag = "20")]
    pub output: Option<u64>,
    /// So many rows that become of it first are there already.
    #[prost(uint64, tag = "21")]
    pub made_rows: u64,
    /// What others have found of the sizes of batches.
    #[prost(message, repeated, tag = "22")]
    pub sizes: Vec<SizesSpec>,
    /// The same in each attempt.
    #[prost(message, repeated, tag = "23")]
    pub frames: Vec<FrameRows>,
    /// Its blocks are more than a worker should have at once: it reads them one after another.
    #[prost(bool, tag = "24")]
    pub is_large: bool,
    /// About how many bytes its rows have; 0: nobody knows.
    #[prost(uint64, tag = "25")]
    pub row_bytes: u64,
    /// Of each feed: how much it is, where that is too much to be read for its columns.
    #[prost(message, repeated, tag = "26")]
    pub feed_sizes: Vec<FeedSize>,
    /// Steps of stages before, for its journal.
    #[prost(uint32, tag = "27")]
    pub steps_before: u32,
}

/// How much a feed of an input is.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct FeedSize {
    /// Its rows.
    #[prost(uint64, tag = "1")]
    pub rows: u64,
    /// Their bytes, about.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
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
    /// Of the block.
    #[prost(uint32, tag = "9")]
    pub partition: u32,
    /// Keys with very many rows, for people.
    #[prost(string, repeated, tag = "10")]
    pub hot_keys: Vec<String>,
    /// Rows that steps have left out since the last pull.
    #[prost(message, repeated, tag = "11")]
    pub failed: Vec<ToldRows>,
    /// What expectations have found, where it has changed since the last pull.
    #[prost(message, repeated, tag = "12")]
    pub judged: Vec<Judged>,
    /// Rows from the input's beginning, and the places in it that these are all of, in pairs.
    #[prost(uint64, repeated, tag = "13")]
    pub marks: Vec<u64>,
    /// What the worker has found of the sizes of batches since the last pull.
    #[prost(message, repeated, tag = "14")]
    pub sizes: Vec<SizesSpec>,
    /// What the pull has taken.
    #[prost(message, optional, tag = "15")]
    pub time: Option<PullTime>,
    /// All calls of the input are begun, and more could be under way: those of one that follows.
    #[prost(bool, tag = "16")]
    pub wants_input: bool,
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
    /// Time for which calls waited for their turns; no part of the time on the clock.
    #[prost(uint64, tag = "7")]
    pub waited_nanos: u64,
    /// Rows whose results were kept, and those that a function with a cache was called with.
    #[prost(uint64, tag = "8")]
    pub cache_hits: u64,
    /// See `cache_hits`.
    #[prost(uint64, tag = "9")]
    pub cache_misses: u64,
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
    /// Which input of the last stage its rows are of.
    #[prost(uint64, tag = "6")]
    pub sequence: u64,
    /// Which output of the job it is of, where that goes on when it was left.
    #[prost(uint64, tag = "7")]
    pub output: u64,
}
