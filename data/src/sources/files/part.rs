//! What travels to workers: parts of files, as messages and as the batch that Python gets.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use prost::Message;

use crate::storage::PathColumns;

/// Ranges of files, in order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RangesPosition {
    #[prost(message, repeated, tag = "1")]
    pub(super) parts: Vec<FileRange>,
}

/// The rows that begin between two bytes of a file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FileRange {
    /// Absolute path.
    #[prost(string, tag = "1")]
    pub(super) path: String,
    /// Length of the file.
    #[prost(uint64, tag = "2")]
    pub(super) size_bytes: u64,
    /// The first byte.
    #[prost(uint64, tag = "3")]
    pub(super) start: u64,
    /// One after the last byte.
    #[prost(uint64, tag = "4")]
    pub(super) end: u64,
    /// Another number when the file has changed; 0: nothing tells.
    #[prost(uint64, tag = "5")]
    pub(super) version: u64,
}

/// A row per part: path, length of the file, first byte, end, version, and then the columns that the path tells.
pub(super) fn as_batch(
    parts: &[FileRange],
    told: PathColumns,
    partitions: &[String],
) -> Result<RecordBatch, TaskFailure> {
    let number = |of: fn(&FileRange) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(parts.iter().map(of)))
    };
    let paths = StringArray::from_iter_values(parts.iter().map(|part| &part.path));
    let mut fields = vec![Field::new("path", DataType::Utf8, false)];
    fields.extend(
        ["size_bytes", "start", "end", "version"]
            .map(|name| Field::new(name, DataType::UInt64, false)),
    );
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(paths),
        number(|part| part.size_bytes),
        number(|part| part.start),
        number(|part| part.end),
        number(|part| part.version),
    ];
    let values: Vec<_> = parts.iter().map(|part| told.of(&part.path)).collect();
    for partition in partitions {
        let of_part = |values: &Vec<(String, Option<String>)>| {
            let found = values.iter().find(|(name, _)| name == partition);
            found.and_then(|(_, value)| value.clone())
        };
        fields.push(Field::new(partition, DataType::Utf8, true));
        columns.push(Arc::new(
            values.iter().map(of_part).collect::<StringArray>(),
        ));
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
    batch.map_err(|error| {
        TaskFailure::new(
            ErrorCode::Internal,
            format!("hand parts of files on: {error}"),
        )
    })
}
