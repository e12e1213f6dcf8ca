//! What travels to workers that read Parquet files.

use bytes::Bytes;
use prost::Message;

use crate::wire::expression::ExpressionSpec;

/// How files are read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScanSpec {
    /// The files' columns.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) schema: Bytes,
    /// The columns to read, by position.
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) columns: Vec<u32>,
    /// Which rows; absent: all.
    #[prost(message, optional, tag = "3")]
    pub(crate) predicate: Option<ExpressionSpec>,
    /// Rows per batch.
    #[prost(uint64, tag = "4")]
    pub(crate) batch_rows: u64,
    /// The columns that files have themselves, each kind once; empty: all have those of `schema`.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub(crate) file_schemas: Vec<Bytes>,
    /// The columns that paths tell.
    #[prost(string, repeated, tag = "6")]
    pub(crate) partitions: Vec<String>,
    /// Whether the path itself is one of them.
    #[prost(bool, tag = "7")]
    pub(crate) has_path: bool,
    /// What reaches the files; empty: they are local.
    #[prost(bytes = "bytes", tag = "8")]
    pub(crate) store: Bytes,
    /// Whether the columns are those of some of the files, and what others have, their footers will tell.
    #[prost(bool, tag = "9")]
    pub(crate) is_unread: bool,
    /// What may be asked for ahead, before compression, where files are far.
    #[prost(uint64, tag = "10")]
    pub(crate) ahead_bytes: u64,
    /// A batch of long rows has about so many bytes at most.
    #[prost(uint64, tag = "11")]
    pub(crate) batch_bytes: u64,
    /// A row group that has more, before compression, is read page by page if it is here.
    #[prost(uint64, tag = "12")]
    pub(crate) row_group_bytes: u64,
    /// Columns of files that paths tell, too.
    #[prost(string, repeated, tag = "13")]
    pub(crate) told_twice: Vec<String>,
}

/// Small files that came along with their footers may take this part of what may be asked for ahead of two inputs,
const KEPT_PART: u64 = 4;
/// and so much at most: 32 of them, and as many that are being read.
const MOST_KEPT_BYTES: u64 = 4 << 20;

impl ScanSpec {
    /// What of the two inputs of a worker may be kept of small files, until their rows are read.
    pub(super) fn kept_bytes(&self) -> u64 {
        (2 * self.ahead_bytes / KEPT_PART).min(MOST_KEPT_BYTES)
    }

    /// What of one of them may be under way beside those.
    pub(super) fn run_bytes(&self) -> u64 {
        self.ahead_bytes - self.kept_bytes() / 2
    }
}

/// Parts of files, in order.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilesPosition {
    #[prost(message, repeated, tag = "1")]
    pub(crate) parts: Vec<FilePart>,
    /// The same of files whose footers nobody has read; then there are no `parts`.
    #[prost(message, repeated, tag = "2")]
    pub(crate) unread: Vec<UnreadPart>,
}

/// The row groups whose middles lie in a share of a file. That of group `i` of `n` lies at `(i + 1/2) / n` of the file's length.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UnreadPart {
    /// As in [`FilePart`].
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// Length of the file.
    #[prost(uint64, tag = "2")]
    pub(crate) size_bytes: u64,
    /// The first byte of the share.
    #[prost(uint64, tag = "3")]
    pub(crate) start: u64,
    /// One after its last byte.
    #[prost(uint64, tag = "4")]
    pub(crate) end: u64,
}

/// Rows of one row group of a file.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilePart {
    /// Absolute path, or what it is called where it lies.
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// Length of the file.
    #[prost(uint64, tag = "2")]
    pub(crate) size_bytes: u64,
    /// Row groups in the file.
    #[prost(uint32, tag = "3")]
    pub(crate) row_groups: u32,
    /// Which one.
    #[prost(uint32, tag = "4")]
    pub(crate) row_group: u32,
    /// Its rows.
    #[prost(uint64, tag = "5")]
    pub(crate) row_group_rows: u64,
    /// First row within the row group.
    #[prost(uint64, tag = "6")]
    pub(crate) first_row: u64,
    /// Rows.
    #[prost(uint64, tag = "7")]
    pub(crate) rows: u64,
    /// Which of the scan's `file_schemas` the file has.
    #[prost(uint32, tag = "8")]
    pub(crate) file_schema: u32,
    /// About how many bytes its rows have before compression.
    #[prost(uint64, tag = "9")]
    pub(crate) bytes: u64,
    /// The first byte of the row group's columns in the file.
    #[prost(uint64, tag = "10")]
    pub(crate) data_start: u64,
    /// One after the last; 0: nobody knows.
    #[prost(uint64, tag = "11")]
    pub(crate) data_end: u64,
}

impl FilePart {
    /// About how many bytes all of its row group has before compression.
    pub(super) fn row_group_bytes(&self) -> u64 {
        (self.bytes / self.rows.max(1)).saturating_mul(self.row_group_rows)
    }
}
