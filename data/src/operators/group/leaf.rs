//! Rows of a source: its splits, each read by whichever thread comes next.

use std::collections::VecDeque;
use std::sync::Arc;

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_common::{DataFusionError, Result};
use datafusion_execution::SendableRecordBatchStream;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::metrics::BaselineMetrics;
use datafusion_physical_plan::stream::RecordBatchReceiverStreamBuilder;
use parking_lot::Mutex;

use crate::block::data_bytes;
use crate::columns;
use crate::operators::fragment::cut;
use crate::operators::node::{Beginning, StepNode};
use crate::operators::relational::assemble;
use crate::operators::stream::BatchStream;
use crate::sources::{Opened, SourceReader};

/// Batches that are read before somebody wants them.
const AHEAD: usize = 2;

/// The splits that nobody has read yet, and what reads them.
pub(super) struct Splits {
    /// One that was begun to see how long its rows are.
    begun: Mutex<Option<BegunSplit>>,
    left: Mutex<VecDeque<Opened>>,
    reader: Mutex<Box<dyn SourceReader>>,
    /// Batches are not larger than this: operators can spill nothing smaller.
    piece_bytes: u64,
}

/// A split, and its first rows.
struct BegunSplit {
    first: Option<RecordBatch>,
    rows: Box<dyn BatchStream>,
}

/// Tells the bytes that were read from storage so far.
pub(super) type BytesRead = Box<dyn Fn() -> u64 + Send>;

/// The rows of the splits, with these columns, in at most so many partitions.
pub(super) fn leaf(
    splits: &Arc<Splits>,
    schema: &SchemaRef,
    partitions: usize,
) -> (Arc<dyn ExecutionPlan>, BytesRead) {
    let partitions = partitions.min(splits.left.lock().len()).max(1);
    let (splits, counted) = (Arc::clone(splits), Arc::clone(splits));
    let bytes_read = Box::new(move || counted.reader.lock().bytes_read());
    let own = Arc::clone(schema);
    let work = move |_: Vec<SendableRecordBatchStream>, beginning: Beginning| {
        let (splits, schema) = (Arc::clone(&splits), Arc::clone(&own));
        let mut rows = RecordBatchReceiverStreamBuilder::new(Arc::clone(&own), AHEAD);
        let sender = rows.tx();
        // Readers wait for files, and have runtimes of their own: no place for either on the threads of operators.
        rows.spawn_blocking(move || {
            splits.read(&schema, &beginning.metrics, |batch| {
                sender.blocking_send(Ok(batch)).is_ok()
            })
        });
        Ok(rows.build())
    };
    let columns = (Arc::clone(schema), partitions);
    let leaf = StepNode::plan("Read", Vec::new(), columns, Arc::new(work));
    (leaf, bytes_read)
}

impl Splits {
    /// Those of a source. `piece_bytes`: no batch is larger.
    pub(super) fn new(
        reader: Box<dyn SourceReader>,
        splits: VecDeque<Opened>,
        piece_bytes: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            begun: Mutex::new(None),
            left: Mutex::new(splits),
            reader: Mutex::new(reader),
            piece_bytes,
        })
    }

    /// Reads the first rows; how many bytes each of them has, about. Nobody reads before.
    pub(super) fn row_bytes(&self) -> std::result::Result<u64, TaskFailure> {
        let Some(split) = self.left.lock().pop_front() else {
            return Ok(0);
        };
        let mut rows = self.reader.lock().open(split, None)?;
        let first = rows.next()?;
        let row_bytes = first.as_ref().map_or(0, |batch| {
            data_bytes(batch).div_ceil(batch.num_rows().max(1) as u64)
        });
        *self.begun.lock() = Some(BegunSplit { first, rows });
        Ok(row_bytes)
    }

    /// The next split that nobody reads.
    fn next(&self) -> std::result::Result<Option<BegunSplit>, TaskFailure> {
        if let Some(begun) = self.begun.lock().take() {
            return Ok(Some(begun));
        }
        let Some(split) = self.left.lock().pop_front() else {
            return Ok(None);
        };
        let rows = self.reader.lock().open(split, None)?;
        Ok(Some(BegunSplit { first: None, rows }))
    }

    /// Reads until nothing is left, or nobody takes it.
    fn read(
        &self,
        schema: &SchemaRef,
        metrics: &BaselineMetrics,
        mut take: impl FnMut(RecordBatch) -> bool,
    ) -> Result<()> {
        loop {
            let Some(mut split) = self.next().map_err(external)? else {
                return Ok(());
            };
            loop {
                let batch = match split.first.take() {
                    Some(first) => Some(first),
                    None => {
                        let _timed = metrics.elapsed_compute().timer();
                        split.rows.next().map_err(external)?
                    }
                };
                let Some(batch) = batch else { break };
                let mut rest = Some(formed(&batch, schema)?);
                while let Some(batch) = rest {
                    let (piece, others) = cut(batch, self.piece_bytes).map_err(external)?;
                    metrics.record_output(piece.num_rows());
                    if !take(piece) {
                        return Ok(());
                    }
                    rest = others;
                }
            }
        }
    }
}

/// The batch with just these columns.
pub(super) fn formed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let own = batch.schema();
    let are_alike = own.fields().len() == schema.fields().len()
        && own
            .fields()
            .iter()
            .zip(schema.fields())
            .all(|(one, other)| one.name() == other.name() && one.data_type() == other.data_type());
    if are_alike {
        let columns = batch.columns().to_vec();
        return assemble(Arc::clone(schema), columns, batch.num_rows()).map_err(external);
    }
    columns::conform(batch, schema)
        .map_err(|misfit| DataFusionError::Plan(misfit.between("in some rows", "in others")))
}

pub(super) fn external(failure: TaskFailure) -> DataFusionError {
    DataFusionError::External(Box::new(failure))
}
