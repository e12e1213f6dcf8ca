//! Functions of SQL over groups of rows whose columns are known.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::{Result, plan_err};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};

use super::aggregate::{column, final_mode};
use super::drive::{Run, Slot, leaf};
use super::environment::Environment;
use super::feed::{FragmentFeed, nullable};
use crate::graph::{AggregatePhase, Fold, FoldCall, Fragment};
use crate::plan::aggregate_function;

/// Begins to fold the rows of a feed, or what workers have made of them.
pub(super) fn begin(
    fold: &Fold,
    feed: &mut FragmentFeed,
    environment: &Environment,
) -> Result<Run> {
    let schema = columns_of(fold)?;
    let (slot, plan) = planned(fold, &schema)?;
    feed.bring_into(&schema);
    let step = Fragment::Fold(fold.clone()).step();
    Run::new(step, &plan, vec![slot], environment)
}

/// The columns that the first half makes.
fn states_of(fold: &Fold) -> Result<SchemaRef> {
    let first = Fold {
        phase: AggregatePhase::Partial,
        ..fold.clone()
    };
    let (_, plan) = planned(&first, &nullable(&fold.rows))?;
    Ok(nullable(&plan.schema()))
}

/// The columns that rows, or states of them, are to have.
pub(crate) fn columns_of(fold: &Fold) -> Result<SchemaRef> {
    match fold.phase {
        AggregatePhase::Partial => Ok(nullable(&fold.rows)),
        AggregatePhase::Final => states_of(fold),
    }
}

fn planned(fold: &Fold, schema: &SchemaRef) -> Result<(Arc<Slot>, Arc<dyn ExecutionPlan>)> {
    let (slot, rows) = leaf(schema)?;
    Ok((slot, over(fold, rows)?))
}

/// The operator over rows, or states of them, with the columns of [`columns_of`]: in as many partitions as they have.
pub(crate) fn over(fold: &Fold, rows: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = &rows.schema();
    let key = |name: &String| Ok((column(name, schema)?, name.clone()));
    let keys: Result<Vec<_>> = fold.keys.iter().map(key).collect();
    let keys = PhysicalGroupBy::new_single(keys?);
    let columns = nullable(&fold.rows);
    let calls = fold.calls.iter().map(|call| bound(call, &columns));
    let calls: Result<Vec<Arc<AggregateFunctionExpr>>> = calls.collect();
    let filter = |call: &FoldCall| {
        // Rows that do not count are left out by the first half.
        let name = call
            .filter
            .as_ref()
            .filter(|_| fold.phase == AggregatePhase::Partial);
        name.map(|name| column(name, schema)).transpose()
    };
    let filters: Result<Vec<Option<Arc<dyn PhysicalExpr>>>> =
        fold.calls.iter().map(filter).collect();
    let (mode, keys) = match fold.phase {
        AggregatePhase::Partial => (AggregateMode::Partial, keys),
        AggregatePhase::Final => (final_mode(&rows), keys.as_final()),
    };
    let plan = AggregateExec::try_new(mode, keys, calls?, filters?, rows, columns)?;
    Ok(Arc::new(plan))
}

fn bound(call: &FoldCall, columns: &SchemaRef) -> Result<Arc<AggregateFunctionExpr>> {
    let Some(function) = aggregate_function(&call.function) else {
        return plan_err!("there is no function {}()", call.function);
    };
    let arguments = call.arguments.iter().map(|argument| argument.bind(columns));
    let arguments: Result<Vec<Arc<dyn PhysicalExpr>>> = arguments.collect();
    let built = AggregateExprBuilder::new(function, arguments?)
        .schema(Arc::clone(columns))
        .alias(&call.name)
        .with_distinct(call.is_distinct)
        .with_ignore_nulls(call.ignores_nulls)
        .build()?;
    Ok(Arc::new(built))
}
