//! What is told of each row by the rows around it.
//!
//! ```text
//!  rows ──► SortExec ──► every function sees one row after another: BoundedWindowAggExec, which holds what frames need
//!           spills  └──► one of them needs all rows of a group: WholeGroups, which holds the group
//! ```

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion_common::{Result, plan_err};
use datafusion_expr::WindowFunctionDefinition;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion_physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion_physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion_physical_plan::windows::{BoundedWindowAggExec, WindowExpr, create_window_expr};
use datafusion_physical_plan::{ExecutionPlan, ExecutionPlanProperties, InputOrderMode};

use super::aggregate::{column, key};
use super::drive::{Run, leaf};
use super::environment::Environment;
use super::feed::{FragmentFeed, nullable};
use super::order::order_of;
use super::whole_groups::WholeGroups;
use crate::graph::{Fragment, RangeKey, Window, WindowCall};
use crate::operators::packed;
use crate::plan::{aggregate_function, window_function};

/// Begins to look at the rows of a feed.
pub(super) fn begin(
    window: &Window,
    feed: &mut FragmentFeed,
    environment: &Environment,
) -> Result<Run> {
    let schema = nullable(&window.rows);
    let (slot, rows) = leaf(&schema)?;
    let plan = over(window, rows, environment.window_bytes(1))?;
    feed.bring_into(&schema);
    let step = Fragment::Window(window.clone()).step();
    Run::new(step, &plan, vec![slot], environment)
}

/// The columns that come out. Fails for what the engine cannot do.
pub(crate) fn columns_of(window: &Window) -> Result<SchemaRef> {
    let (_, rows) = leaf(&nullable(&window.rows))?;
    for call in &window.calls {
        check_frame(call, &rows.schema())?;
    }
    Ok(nullable(&over(window, rows, 0)?.schema()))
}

/// The operators over rows with the columns of the window. Rows that are seen together are in one partition; where all are, they
/// are brought together here. `sure_bytes`: see [`WholeGroups::sure_bytes`].
pub(crate) fn over(
    window: &Window,
    rows: Arc<dyn ExecutionPlan>,
    sure_bytes: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = rows.schema();
    let rows = in_order(window, rows)?;
    let partition = window.partition.iter().map(|name| key(name, &schema));
    let partition: Vec<Arc<dyn PhysicalExpr>> = partition.collect::<Result<_>>()?;
    let calls = window.calls.iter();
    let calls = calls.map(|call| bound(call, &partition, &schema));
    let calls: Vec<Arc<dyn WindowExpr>> = calls.collect::<Result<_>>()?;
    if calls.iter().all(|call| call.uses_bounded_memory()) {
        let mode = InputOrderMode::Sorted;
        return Ok(Arc::new(BoundedWindowAggExec::try_new(
            calls, rows, mode, false,
        )?));
    }
    let keys = window.partition.iter().map(|name| schema.index_of(name));
    WholeGroups {
        keys: keys.collect::<std::result::Result<_, _>>()?,
        calls,
        sure_bytes,
    }
    .over(rows)
}

/// Rows of a group one after another, in the order that the calls see them in.
fn in_order(window: &Window, rows: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let ascending = |name: &String| RangeKey {
        column: name.clone(),
        is_descending: false,
        has_nulls_first: false,
    };
    let mut keys: Vec<RangeKey> = window.partition.iter().map(ascending).collect();
    for key in window.calls.iter().flat_map(|call| &call.order) {
        // Within a group, columns of the partition are in any order.
        if keys.iter().all(|known| known.column != key.column) {
            keys.push(key.clone());
        }
    }
    let is_one_group = window.partition.is_empty();
    let partitions = rows.output_partitioning().partition_count();
    if keys.is_empty() {
        return Ok(match partitions {
            1 => rows,
            _ => Arc::new(CoalescePartitionsExec::new(rows)),
        });
    }
    let order = order_of(&keys, &rows.schema())?;
    let sorted = packed::sorted(&order, rows);
    if is_one_group && partitions > 1 {
        return Ok(Arc::new(SortPreservingMergeExec::new(order, sorted)));
    }
    Ok(sorted)
}

fn bound(
    call: &WindowCall,
    partition: &[Arc<dyn PhysicalExpr>],
    schema: &SchemaRef,
) -> Result<Arc<dyn WindowExpr>> {
    let order: Vec<PhysicalSortExpr> = match call.order.as_slice() {
        [] => Vec::new(),
        keys => order_of(keys, schema)?.into(),
    };
    let filter = call.filter.as_ref().map(|name| column(name, schema));
    create_window_expr(
        &function_of(call)?,
        call.name.clone(),
        &arguments_of(call, schema)?,
        partition,
        &order,
        Arc::new(call.frame.clone()),
        Arc::clone(schema),
        call.ignores_nulls,
        call.is_distinct,
        filter.transpose()?,
    )
}

fn function_of(call: &WindowCall) -> Result<WindowFunctionDefinition> {
    let function = if call.is_aggregate {
        aggregate_function(&call.function).map(WindowFunctionDefinition::AggregateUDF)
    } else {
        window_function(&call.function).map(WindowFunctionDefinition::WindowUDF)
    };
    match function {
        Some(function) => Ok(function),
        None => plan_err!("there is no function {}()", call.function),
    }
}

fn arguments_of(call: &WindowCall, schema: &Schema) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    let arguments = call.arguments.iter();
    arguments.map(|argument| argument.bind(schema)).collect()
}

/// Fails if rows that leave the frame cannot be taken out of what the function has made of those that were in it.
fn check_frame(call: &WindowCall, schema: &SchemaRef) -> Result<()> {
    let function = function_of(call)?;
    let WindowFunctionDefinition::AggregateUDF(function) = function else {
        return Ok(());
    };
    if call.frame.is_ever_expanding() {
        return Ok(());
    }
    let built = AggregateExprBuilder::new(function, arguments_of(call, schema)?)
        .schema(Arc::clone(schema))
        .alias(&call.name)
        .with_distinct(call.is_distinct)
        .with_ignore_nulls(call.ignores_nulls)
        .build()?;
    if built.create_sliding_accumulator().is_err() {
        return plan_err!(
            "{}{}() OVER (... {}) cannot be computed: rows that leave the frame cannot be taken out of its result; begin the \
             frame with UNBOUNDED PRECEDING, or use groupby(key).map_groups(f)",
            call.function,
            if call.is_distinct { "(DISTINCT)" } else { "" },
            call.frame
        );
    }
    Ok(())
}
