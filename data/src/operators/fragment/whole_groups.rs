//! Functions that must see all rows of a group before they can tell anything of the first one.
//!
//! The engine's own operator for them holds all rows of its input, and asks no pool of memory for that. This one calls the same
//! functions, group by group, and holds one group and what came with its end.

use std::iter;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat, concat_batches, partition};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::Result;
use datafusion_execution::SendableRecordBatchStream;
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion_physical_plan::metrics::BaselineMetrics;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::windows::WindowExpr;
use datafusion_physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;

use crate::block::data_bytes;
use crate::operators::comparable::comparable;
use crate::operators::node::{Beginning, StepNode};

/// Rows of a group lie there as they came, and put together.
const COPIES: u64 = 2;
/// A result of each function is about so large.
const RESULT_BYTES: u64 = 16;

/// Functions over the rows of each group.
#[derive(Clone)]
pub(super) struct WholeGroups {
    /// The columns that tell groups apart, rows of which come one after another.
    pub(super) keys: Vec<usize>,
    pub(super) calls: Vec<Arc<dyn WindowExpr>>,
    /// What is taken of the memory before rows come: the sort before this one takes all that is left.
    pub(super) sure_bytes: usize,
}

impl WholeGroups {
    /// The functions over sorted rows, in as many partitions as these have.
    pub(super) fn over(self, rows: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = rows.schema();
        let mut fields = input.fields().to_vec();
        for call in &self.calls {
            fields.push(Arc::new(
                Field::clone(&*call.field()?).with_name(call.name()),
            ));
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let partitions = rows.output_partitioning().partition_count();
        let own = Arc::clone(&schema);
        let work = move |mut inputs: Vec<SendableRecordBatchStream>, beginning: Beginning| {
            let consumer = MemoryConsumer::new("rows of a group under a window");
            let room = consumer.register(&beginning.context.runtime_env().memory_pool);
            // With less, it asks for more when it needs it.
            let has_room = room.try_grow(self.sure_bytes).is_ok();
            let groups = Groups {
                work: self.clone(),
                schema: Arc::clone(&own),
                rows: Some(inputs.remove(0)),
                held: Vec::new(),
                held_bytes: 0,
                sure_bytes: if has_room { self.sure_bytes } else { 0 },
                room,
                metrics: beginning.metrics,
            };
            let made = futures::stream::try_unfold(groups, |mut groups| async move {
                let batch = groups.next().await?;
                Ok(batch.map(|batch| (batch, groups)))
            });
            let made = RecordBatchStreamAdapter::new(Arc::clone(&own), made);
            Ok(Box::pin(made) as SendableRecordBatchStream)
        };
        let columns = (schema, partitions);
        Ok(StepNode::plan(
            "WholeGroups",
            vec![rows],
            columns,
            Arc::new(work),
        ))
    }
}

/// One partition under way.
struct Groups {
    work: WholeGroups,
    schema: SchemaRef,
    /// `None`: they are at their end.
    rows: Option<SendableRecordBatchStream>,
    /// The rows of the group that has not come to its end.
    held: Vec<RecordBatch>,
    /// With what is made of them.
    held_bytes: u64,
    sure_bytes: usize,
    room: MemoryReservation,
    metrics: BaselineMetrics,
}

impl Groups {
    /// The groups that are whole with the next rows.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(rows) = &mut self.rows {
            let Some(batch) = rows.next().await.transpose()? else {
                self.rows = None;
                break;
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let begun = last_group(&self.keys_of(&batch)?)?;
            let rest = batch.slice(begun, batch.num_rows() - begun);
            if begun > 0 {
                self.hold(batch.slice(0, begun))?;
            }
            if self.held.is_empty() || (begun == 0 && !self.is_other(&rest)?) {
                self.hold(rest)?;
                continue;
            }
            let made = self.made()?;
            self.hold(rest)?;
            return Ok(Some(made));
        }
        if self.held.is_empty() {
            return Ok(None);
        }
        self.made().map(Some)
    }

    fn keys_of(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let keys = batch.project(&self.work.keys)?;
        let values = keys.columns().iter().map(comparable).collect();
        let rows = RecordBatchOptions::new().with_row_count(Some(keys.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            keys.schema(),
            values,
            &rows,
        )?)
    }

    /// Whether the rows belong to another group than those that are held.
    fn is_other(&self, rows: &RecordBatch) -> Result<bool> {
        let Some(last) = self.held.last() else {
            return Ok(false);
        };
        let ends = [
            self.keys_of(&last.slice(last.num_rows() - 1, 1))?,
            self.keys_of(&rows.slice(0, 1))?,
        ];
        let ends = concat_batches(&ends[0].schema(), &ends)?;
        Ok(last_group(&ends)? > 0)
    }

    fn hold(&mut self, rows: RecordBatch) -> Result<()> {
        let results = rows.num_rows() as u64 * RESULT_BYTES * self.work.calls.len() as u64;
        self.held_bytes += data_bytes(&rows) * COPIES + results;
        let needed = usize::try_from(self.held_bytes).unwrap_or(usize::MAX);
        self.room.try_resize(needed.max(self.sure_bytes))?;
        self.held.push(rows);
        Ok(())
    }

    /// What the functions make of the groups that are held, which are whole.
    fn made(&mut self) -> Result<RecordBatch> {
        let elapsed = self.metrics.elapsed_compute().clone();
        let _timed = elapsed.timer();
        let batch = concat_batches(&self.held[0].schema(), &self.held)?;
        self.held.clear();
        self.held_bytes = 0;
        let ranges = groups_of(&self.keys_of(&batch)?)?;
        let mut columns = batch.columns().to_vec();
        for call in &self.work.calls {
            let made = ranges.iter().map(|range| {
                let group = batch.slice(range.start, range.end - range.start);
                call.evaluate(&group)
            });
            let made: Vec<ArrayRef> = made.collect::<Result<_>>()?;
            let made: Vec<&dyn Array> = made.iter().map(AsRef::as_ref).collect();
            columns.push(concat(&made)?);
        }
        self.metrics.record_output(batch.num_rows());
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// The rows of each group.
fn groups_of(keys: &RecordBatch) -> Result<Vec<Range<usize>>> {
    match keys.columns() {
        [] => Ok(iter::once(0..keys.num_rows()).collect()),
        keys => Ok(partition(keys)?.ranges()),
    }
}

/// Where the last group begins.
fn last_group(keys: &RecordBatch) -> Result<usize> {
    Ok(groups_of(keys)?.last().map_or(0, |group| group.start))
}
