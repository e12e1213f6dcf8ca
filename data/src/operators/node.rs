//! A step of a plan for which the engine has no operator: rows of its inputs made into others by a function.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{Result, internal_err};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::StreamExt;

/// Begins a partition: gets the same partition of every input.
pub(super) type Work = Arc<
    dyn Fn(Vec<SendableRecordBatchStream>, Beginning) -> Result<SendableRecordBatchStream>
        + Send
        + Sync,
>;

/// What a partition begins with.
pub(super) struct Beginning {
    pub(super) context: Arc<TaskContext>,
    pub(super) metrics: BaselineMetrics,
}

/// The step.
pub(super) struct StepNode {
    name: &'static str,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    work: Work,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl StepNode {
    /// A step that gives so many partitions of rows with these columns.
    pub(super) fn plan(
        name: &'static str,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        (schema, partitions): (SchemaRef, usize),
        work: Work,
    ) -> Arc<dyn ExecutionPlan> {
        let columns = EquivalenceProperties::new(schema);
        Self::of(name, inputs, properties(columns, partitions), work)
    }

    fn of(
        name: &'static str,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        properties: Arc<PlanProperties>,
        work: Work,
    ) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self {
            name,
            inputs,
            work,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl fmt::Debug for StepNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl DisplayAs for StepNode {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl ExecutionPlan for StepNode {
    fn name(&self) -> &'static str {
        self.name
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() == self.inputs.len() {
            let (properties, work) = (Arc::clone(&self.properties), Arc::clone(&self.work));
            return Ok(Self::of(self.name, children, properties, work));
        }
        internal_err!("{} has {} inputs", self.name, self.inputs.len())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let inputs = self.inputs.iter();
        let inputs = inputs.map(|input| input.execute(partition, Arc::clone(&context)));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        (self.work)(
            inputs.collect::<Result<_>>()?,
            Beginning { context, metrics },
        )
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Each batch made into another, with these columns.
pub(super) fn each_batch(
    name: &'static str,
    rows: Arc<dyn ExecutionPlan>,
    schema: &SchemaRef,
    change: impl Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
) -> Arc<dyn ExecutionPlan> {
    each_batch_and_end(name, rows, schema, change, || {})
}

/// The same of batches whose rows come in some order, and still do after that.
pub(super) fn each_batch_in_order(
    name: &'static str,
    rows: Arc<dyn ExecutionPlan>,
    schema: &SchemaRef,
    change: impl Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
) -> Arc<dyn ExecutionPlan> {
    let partitions = rows.output_partitioning().partition_count();
    let orders = rows.output_ordering().cloned();
    let columns = EquivalenceProperties::new_with_orderings(Arc::clone(schema), orders);
    let work = changing(schema, change, || {});
    StepNode::of(name, vec![rows], properties(columns, partitions), work)
}

/// [`each_batch`]; `ended` is called at the end of each partition, if it gets there.
pub(super) fn each_batch_and_end(
    name: &'static str,
    rows: Arc<dyn ExecutionPlan>,
    schema: &SchemaRef,
    change: impl Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
    ended: impl Fn() + Send + Sync + 'static,
) -> Arc<dyn ExecutionPlan> {
    let partitions = rows.output_partitioning().partition_count();
    let columns = (Arc::clone(schema), partitions);
    StepNode::plan(name, vec![rows], columns, changing(schema, change, ended))
}

fn properties(columns: EquivalenceProperties, partitions: usize) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        columns,
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

fn changing(
    schema: &SchemaRef,
    change: impl Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
    ended: impl Fn() + Send + Sync + 'static,
) -> Work {
    let (own, change, ended) = (Arc::clone(schema), Arc::new(change), Arc::new(ended));
    let work = move |mut inputs: Vec<SendableRecordBatchStream>, beginning: Beginning| {
        let (change, metrics) = (Arc::clone(&change), beginning.metrics);
        let ended = Arc::clone(&ended);
        let end = futures::stream::poll_fn(move |_| {
            ended();
            Poll::Ready(None)
        });
        let changed = inputs.remove(0).map(move |batch| {
            let _timed = metrics.elapsed_compute().timer();
            let batch = change(batch?)?;
            metrics.record_output(batch.num_rows());
            Ok(batch)
        });
        let rows: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&own),
            changed.chain(end),
        ));
        Ok(rows)
    };
    Arc::new(work)
}
