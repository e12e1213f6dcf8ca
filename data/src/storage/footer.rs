//! Parquet footers: schema and row groups of files, without their data.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::MetadataFetch;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::Store;
use super::locate::DataFile;
use crate::error::PlanError;
use crate::os_error;
use crate::panics::text_of;

/// How many footers are read at once.
const CONCURRENT_FOOTERS: usize = 32;
/// How much of a file's end is read first: most footers fit.
const FOOTER_HINT_BYTES: usize = 64 << 10;

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
pub(crate) fn read_footers(
    store: &Store,
    files: &[DataFile],
) -> Result<Vec<FileFooter>, PlanError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| PlanError::storage("footers", &error))?;
    let footers = futures::stream::iter(files.to_vec())
        .map(|file| read_footer(store.clone(), file))
        .buffered(CONCURRENT_FOOTERS)
        .try_collect();
    runtime.block_on(footers)
}

async fn read_footer(store: Store, file: DataFile) -> Result<FileFooter, PlanError> {
    let invalid = |error: &ParquetError| match (store.take_refused(), os_error::number(error)) {
        (Some(refused), _) => PlanError::Refused(refused),
        (None, Some(_)) => PlanError::storage(&file.path, error),
        (None, None) => PlanError::InvalidParquet {
            path: file.path.clone(),
            detail: error.to_string(),
        },
    };
    let fetch = FetchFrom {
        store: store.objects(),
        location: store.location(&file)?,
    };
    let metadata = ParquetMetaDataReader::new()
        .with_prefetch_hint(Some(FOOTER_HINT_BYTES))
        .load_and_finish(fetch, file.size_bytes)
        .await
        .map_err(|error| invalid(&error))?;
    let metadata = columns_of(Arc::new(metadata), &file.path)?;
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

/// Reads the columns. The reader of the Arrow schema that writers embed panics at types that it has never heard of.
fn columns_of(
    metadata: Arc<ParquetMetaData>,
    path: &str,
) -> Result<ArrowReaderMetadata, PlanError> {
    let unknown = |detail: String| PlanError::UnknownTypes {
        path: path.to_owned(),
        detail,
    };
    let read = || ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new());
    let read = catch_unwind(AssertUnwindSafe(read));
    read.map_err(|panic| unknown(text_of(panic.as_ref()).to_owned()))?
        .map_err(|error| unknown(error.to_string()))
}

/// Ranges of one file.
struct FetchFrom {
    store: Arc<dyn ObjectStore>,
    location: Path,
}

impl MetadataFetch for FetchFrom {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.store
            .get_range(&self.location, range)
            .map_err(|error| ParquetError::External(Box::new(error)))
            .boxed()
    }
}
