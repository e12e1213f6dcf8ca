//! Rows of readers that are opened one after the other.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;
use datafusion_execution::SendableRecordBatchStream;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::BoxFuture;
use futures::stream;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader};

use super::adapt::Adapter;

/// What opens readers.
pub(super) trait NextReader: Send {
    /// The next reader, of so many rows at most; `None`: there are no more.
    fn next_reader(
        &mut self,
        most_rows: Option<usize>,
    ) -> BoxFuture<'_, Result<Option<ParquetRecordBatchReader>, DataFusionError>>;
}

/// Which columns readers are to give.
#[derive(Clone)]
pub(super) struct ReadColumns {
    /// By their places in the file.
    roots: Vec<usize>,
    /// Readers give columns in the file's order; this is where each that is wanted is found; empty: they are in that order.
    order: Vec<usize>,
    schema: SchemaRef,
}

impl ReadColumns {
    pub(super) fn new(adapter: &Adapter) -> Result<Self, ArrowError> {
        let read = &adapter.read;
        let mut roots = read.clone();
        roots.sort_unstable();
        let place = |root: &usize| roots.binary_search(root).expect("is one of them");
        let order = match read.is_sorted() {
            true => Vec::new(),
            false => read.iter().map(place).collect(),
        };
        Ok(Self {
            order,
            roots,
            schema: Arc::new(adapter.as_read.project(read)?),
        })
    }

    /// What a reader of a file with this footer reads.
    pub(super) fn mask(&self, metadata: &ArrowReaderMetadata) -> ProjectionMask {
        let described = metadata.metadata().file_metadata().schema_descr();
        ProjectionMask::roots(described, self.roots.iter().copied())
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

/// All rows of the readers, or the first `row_limit`.
pub(super) fn stream(
    readers: impl NextReader + 'static,
    columns: ReadColumns,
    row_limit: Option<usize>,
) -> SendableRecordBatchStream {
    let schema = Arc::clone(&columns.schema);
    let turns = Turns {
        readers,
        columns,
        rows_left: row_limit,
        open: None,
    };
    let batches = stream::try_unfold(turns, |mut turns| async {
        let batch = turns.next().await?;
        Ok(batch.map(|batch| (batch, turns)))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

struct Turns<R> {
    readers: R,
    columns: ReadColumns,
    rows_left: Option<usize>,
    open: Option<ParquetRecordBatchReader>,
}

impl<R: NextReader> Turns<R> {
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
            // What it holds shall be gone before there is another one.
            self.open = None;
            self.open = self.readers.next_reader(self.rows_left).await?;
            if self.open.is_none() {
                return Ok(None);
            }
        }
    }
}
