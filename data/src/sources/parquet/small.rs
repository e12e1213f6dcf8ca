//! Small files that are wanted as a whole.
//!
//! A scan plans each of its files: which row groups, pages and rows, and what to ask the store for. Of a file of a few kilobytes all
//! comes along with its footer anyway, and its rows take less time than the plan.

use std::collections::VecDeque;

use datafusion_common::DataFusionError;
use datafusion_execution::SendableRecordBatchStream;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use super::adapt::Adapter;
use super::spec::FilePart;
use super::turns::{self, NextReader, ReadColumns};
use crate::storage::{DataFile, Store};

/// Files of at most so many bytes are small.
const SMALL_BYTES: u64 = 64 << 10;

/// Whether `part` is all of a small file.
pub(super) fn is_all_of_one(part: &FilePart) -> bool {
    let is_all = part.row_groups == 1 && part.first_row == 0 && part.rows == part.row_group_rows;
    is_all && is_small(part.size_bytes)
}

/// Whether a file of this length is small.
pub(super) fn is_small(size_bytes: u64) -> bool {
    size_bytes <= SMALL_BYTES
}

/// The rows of `parts`, each of which is all of a small file, one after the other.
pub(super) fn stream(
    store: &Store,
    adapter: &Adapter,
    parts: &[FilePart],
    batch_rows: u64,
    row_limit: Option<usize>,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let columns = ReadColumns::new(adapter)?;
    let small = SmallFiles {
        store: store.clone(),
        files: parts
            .iter()
            .map(|part| SmallFile::of(part, store))
            .collect::<Result<_, _>>()?,
        columns: columns.clone(),
        options: adapter.options(),
        batch_rows: usize::try_from(batch_rows).unwrap_or(usize::MAX),
    };
    Ok(turns::stream(small, columns, row_limit))
}

/// A file that is read as a whole.
struct SmallFile {
    location: Path,
    size_bytes: u64,
    rows: u64,
}

impl SmallFile {
    fn of(part: &FilePart, store: &Store) -> Result<Self, DataFusionError> {
        let file = DataFile {
            path: part.path.clone(),
            size_bytes: part.size_bytes,
            version: 0,
        };
        let location = store.location(&file);
        Ok(Self {
            location: location.map_err(|error| DataFusionError::External(Box::new(error)))?,
            size_bytes: part.size_bytes,
            rows: part.rows,
        })
    }
}

/// Files that are read one after the other.
struct SmallFiles {
    store: Store,
    files: VecDeque<SmallFile>,
    columns: ReadColumns,
    /// How files are read.
    options: ArrowReaderOptions,
    batch_rows: usize,
}

impl NextReader for SmallFiles {
    fn next_reader(
        &mut self,
        most_rows: Option<usize>,
    ) -> BoxFuture<'_, Result<Option<ParquetRecordBatchReader>, DataFusionError>> {
        async move {
            match self.files.pop_front() {
                Some(file) => self.begin(&file, most_rows).await.map(Some),
                None => Ok(None),
            }
        }
        .boxed()
    }
}

impl SmallFiles {
    async fn begin(
        &self,
        file: &SmallFile,
        most_rows: Option<usize>,
    ) -> Result<ParquetRecordBatchReader, DataFusionError> {
        let read = self.store.whole(&file.location, file.size_bytes);
        let bytes = read
            .await
            .map_err(|error| DataFusionError::ObjectStore(Box::new(error)))?;
        let metadata = ArrowReaderMetadata::load(&bytes, self.options.clone())?;
        if metadata.metadata().file_metadata().num_rows() != i64::try_from(file.rows).unwrap_or(-1)
        {
            let text = "it has changed since its footer was read".to_owned();
            return Err(DataFusionError::from(ParquetError::General(text)));
        }
        let mask = self.columns.mask(&metadata);
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
            .with_projection(mask)
            .with_batch_size(self.batch_rows);
        if let Some(rows) = most_rows {
            builder = builder.with_limit(rows);
        }
        Ok(builder.build()?)
    }
}
