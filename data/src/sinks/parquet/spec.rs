//! What travels to workers that write Parquet files.

use prost::Message;

/// Writes one file per input, or more where their rows are limited.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ParquetSink {
    /// Absolute path of the folder.
    #[prost(string, tag = "1")]
    pub(super) folder: String,
    /// What the files' names begin with.
    #[prost(string, tag = "2")]
    pub(super) prefix: String,
    /// Rows per file at most; 0 is no limit.
    #[prost(uint64, tag = "3")]
    pub(super) max_rows_per_file: u64,
    /// Columns whose values are folders.
    #[prost(string, repeated, tag = "4")]
    pub(super) partition_columns: Vec<String>,
    /// How files are written; always there.
    #[prost(message, optional, tag = "5")]
    pub(super) writing: Option<WritingSpec>,
}

/// As [`ParquetWriting`](super::ParquetWriting).
#[derive(Clone, PartialEq, Message)]
pub(super) struct WritingSpec {
    #[prost(string, tag = "1")]
    pub(super) compression: String,
    #[prost(int32, optional, tag = "2")]
    pub(super) level: Option<i32>,
    /// Rows per row group at most; 0 is no limit.
    #[prost(uint64, tag = "3")]
    pub(super) row_group_rows: u64,
    #[prost(bool, tag = "4")]
    pub(super) has_no_dictionary: bool,
    #[prost(bool, tag = "5")]
    pub(super) has_no_statistics: bool,
    /// 0: as the library has it.
    #[prost(uint64, tag = "6")]
    pub(super) page_bytes: u64,
    #[prost(message, repeated, tag = "7")]
    pub(super) sorted_by: Vec<SortedBySpec>,
}

/// As [`SortedBy`](super::SortedBy).
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct SortedBySpec {
    #[prost(int32, tag = "1")]
    pub(super) column: i32,
    #[prost(bool, tag = "2")]
    pub(super) is_descending: bool,
    #[prost(bool, tag = "3")]
    pub(super) has_nulls_first: bool,
}
