//! Small files that are wanted as a whole.
//!
//! A scan plans each of its files: which row groups, pages and rows, and what to ask the store for. Of a file of a few kilobytes all
//! comes along with its footer anyway, and its rows take less time than the plan.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;
use datafusion_execution::SendableRecordBatchStream;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use super::adapt::Adapter;
use super::spec::FilePart;
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
    let schema = Arc::new(adapter.own.project(&adapter.read)?);
    let small = SmallFiles {
        store: store.clone(),
        files: parts
            .iter()
            .map(|part| SmallFile::of(part, store))
            .collect::<Result<_, _>>()?,
        columns: WantedColumns::new(&adapter.read, &schema),
        batch_rows: usize::try_from(batch_rows).unwrap_or(usize::MAX),
        rows_left: row_limit,
        open: None,
    };
    let batches = stream::try_unfold(small, |mut small| async {
        let batch = small.next().await?;
        Ok(batch.map(|batch| (batch, small)))
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
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

/// Which columns are read.
struct WantedColumns {
    /// By their places in the file.
    roots: Vec<usize>,
    /// Readers give columns in the file's order; this is where each that is wanted is found; empty: they are in that order.
    order: Vec<usize>,
    schema: SchemaRef,
}

impl WantedColumns {
    fn new(read: &[usize], schema: &SchemaRef) -> Self {
        let mut roots = read.to_vec();
        roots.sort_unstable();
        let place = |root: &usize| roots.binary_search(root).expect("is one of them");
        let order = match read.is_sorted() {
            true => Vec::new(),
            false => read.iter().map(place).collect(),
        };
        Self {
            roots,
            order,
            schema: Arc::clone(schema),
        }
    }

    /// A batch as it was read, with the columns as they are wanted.
    fn arrange(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let batch = match self.order.is_empty() {
            true => batch,
            false => batch.project(&self.order)?,
        };
        batch.with_schema(Arc::clone(&self.schema))
    }
}

/// Files that are read one after the other.
struct SmallFiles {
    store: Store,
    files: VecDeque<SmallFile>,
    columns: WantedColumns,
    batch_rows: usize,
    rows_left: Option<usize>,
    open: Option<ParquetRecordBatchReader>,
}

impl SmallFiles {
    async fn next(&mut self) -> Result<Option<RecordBatch>, DataFusionError> {
        loop {
            if let Some(batch) = self.open.as_mut().and_then(Iterator::next) {
                let batch = self.columns.arrange(batch?)?;
                if let Some(rows) = &mut self.rows_left {
                    *rows = rows.saturating_sub(batch.num_rows());
                }
                return Ok(Some(batch));
            }
            if self.rows_left == Some(0) {
                return Ok(None);
            }
            let Some(file) = self.files.pop_front() else {
                return Ok(None);
            };
            self.open = Some(self.begin(&file).await?);
        }
    }

    async fn begin(
        &mut self,
        file: &SmallFile,
    ) -> Result<ParquetRecordBatchReader, DataFusionError> {
        let read = self.store.whole(&file.location, file.size_bytes);
        let bytes = read
            .await
            .map_err(|error| DataFusionError::ObjectStore(Box::new(error)))?;
        let metadata = ArrowReaderMetadata::load(&bytes, Default::default())?;
        if metadata.metadata().file_metadata().num_rows() != i64::try_from(file.rows).unwrap_or(-1)
        {
            let text = "it has changed since its footer was read".to_owned();
            return Err(DataFusionError::from(ParquetError::General(text)));
        }
        let described = metadata.metadata().file_metadata().schema_descr();
        let roots = ProjectionMask::roots(described, self.columns.roots.iter().copied());
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
            .with_projection(roots)
            .with_batch_size(self.batch_rows);
        if let Some(rows) = self.rows_left {
            builder = builder.with_limit(rows);
        }
        Ok(builder.build()?)
    }
}
