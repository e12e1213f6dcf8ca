//! Parquet footers: schema and row groups of files, without their data.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::ParquetObjectReader;

use super::locate::DataFile;
use crate::error::PlanError;

/// How many footers are read at once.
const CONCURRENT_FOOTERS: usize = 32;

/// One row group of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowGroupInfo {
    /// Rows.
    pub rows: u64,
    /// Bytes of its columns before compression.
    pub bytes: u64,
}

/// What a file's footer says.
#[derive(Debug, Clone)]
pub struct FileFooter {
    /// The file.
    pub file: DataFile,
    /// Its columns, without metadata.
    pub schema: SchemaRef,
    /// Its row groups in order.
    pub row_groups: Vec<RowGroupInfo>,
}

impl FileFooter {
    /// Rows of the file.
    pub fn rows(&self) -> u64 {
        self.row_groups.iter().map(|group| group.rows).sum()
    }
}

/// Reads the footers of `files`, in the same order. Blocks.
pub fn read_footers(
    store: &Arc<dyn ObjectStore>,
    files: &[DataFile],
) -> Result<Vec<FileFooter>, PlanError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| PlanError::Storage {
            path: "footers".to_owned(),
            detail: error.to_string(),
        })?;
    let footers = futures::stream::iter(files.to_vec())
        .map(|file| read_footer(Arc::clone(store), file))
        .buffered(CONCURRENT_FOOTERS)
        .try_collect();
    runtime.block_on(footers)
}

async fn read_footer(store: Arc<dyn ObjectStore>, file: DataFile) -> Result<FileFooter, PlanError> {
    let invalid = |error: &dyn std::error::Error| PlanError::InvalidParquet {
        path: file.path.clone(),
        detail: error.to_string(),
    };
    let mut reader =
        ParquetObjectReader::new(store, file.location()?).with_file_size(file.size_bytes);
    let metadata = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new())
        .await
        .map_err(|error| invalid(&error))?;
    let row_groups = metadata
        .metadata()
        .row_groups()
        .iter()
        .map(|group| RowGroupInfo {
            rows: u64::try_from(group.num_rows()).unwrap_or(0),
            bytes: u64::try_from(group.total_byte_size()).unwrap_or(0),
        });
    let row_groups = row_groups.collect();
    let schema = Arc::new(Schema::new(metadata.schema().fields().clone()));
    Ok(FileFooter {
        file,
        schema,
        row_groups,
    })
}
