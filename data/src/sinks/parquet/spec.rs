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
    /// `snappy`, `zstd`, `lz4`, `gzip` or `none`.
    #[prost(string, tag = "3")]
    pub(super) compression: String,
    /// Rows per row group at most; 0 is no limit.
    #[prost(uint64, tag = "4")]
    pub(super) row_group_rows: u64,
    /// Rows per file at most; 0 is no limit.
    #[prost(uint64, tag = "5")]
    pub(super) max_rows_per_file: u64,
}
