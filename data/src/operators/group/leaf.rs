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

use crate::columns;
use crate::operators::fragment::cut;
use crate::operators::node::{Beginning, StepNode};
use crate::operators::relational::assemble;
use crate::sources::{Opened, SourceReader};

/// Batches that are read before somebody wants them.
const AHEAD: usize = 2;

/// The splits that nobody has read yet, and what reads them.
struct Splits {
    left: Mutex<VecDeque<Opened>>,
    reader: Mutex<Box<dyn SourceReader>>,
    /// Batches are not larger than this: operators can spill nothing smaller.
    piece_bytes: u64,
}

/// Tells the bytes that were read from storage so far.
pub(super) type BytesRead = Box<dyn Fn() -> u64 + Send>;

/// The rows of the splits, with these columns, in at most so many partitions.
pub(super) fn leaf(
    reader: Box<dyn SourceReader>,
    splits: VecDeque<Opened>,
    schema: &SchemaRef,
    (partitions, piece_bytes): (usize, u64),
) -> (Arc<dyn ExecutionPlan>, BytesRead) {
    let partitions = partitions.min(splits.len()).max(1);
    let splits = Arc::new(Splits {
        left: Mutex::new(splits),
        reader: Mutex::new(reader),
        piece_bytes,
    });
    let counted = Arc::clone(&splits);
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
    /// Reads until nothing is left, or nobody takes it.
    fn read(
        &self,
        schema: &SchemaRef,
        metrics: &BaselineMetrics,
        mut take: impl FnMut(RecordBatch) -> bool,
    ) -> Result<()> {
        loop {
            let Some(split) = self.left.lock().pop_front() else {
                return Ok(());
            };
            let opened = self.reader.lock().open(split, None);
            let mut rows = opened.map_err(external)?;
            loop {
                let batch = {
                    let _timed = metrics.elapsed_compute().timer();
                    rows.next().map_err(external)?
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
