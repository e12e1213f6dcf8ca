//! A step of a plan for which the engine has no operator: rows of its inputs made into others by a function.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{Result, internal_err};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion_physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

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
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Arc::new(Self {
            name,
            inputs,
            work,
            properties: Arc::new(properties),
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
            let partitions = self.properties.output_partitioning().partition_count();
            return Ok(Self::plan(
                self.name,
                children,
                (self.schema(), partitions),
                Arc::clone(&self.work),
            ));
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
