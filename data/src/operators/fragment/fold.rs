//! Functions of SQL over groups of rows whose columns are known.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array, new_null_array};
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::SchemaRef;
use datafusion_common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion_physical_expr::expressions::lit;
use datafusion_physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion_physical_plan::common::collect;
use datafusion_physical_plan::empty::EmptyExec;
use tokio::runtime::Builder;

use super::aggregate::{column, final_mode, key};
use super::drive::{Run, Slot, leaf};
use super::environment::Environment;
use super::feed::{FragmentFeed, nullable};
use super::order::sort_by;
use crate::graph::{AggregatePhase, Fold, FoldCall, Fragment};
use crate::operators::packed;
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
    let keys = grouping(fold, schema)?;
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
    let (calls, filters) = (calls?, filters?);
    let is_hard = |call: &Arc<AggregateFunctionExpr>| call.order_sensitivity().hard_requires();
    let needs_order = fold.phase == AggregatePhase::Partial && calls.iter().any(is_hard);
    let plan = |rows| {
        let (keys, calls, filters) = (keys.clone(), calls.clone(), filters.clone());
        AggregateExec::try_new(mode, keys, calls, filters, rows, Arc::clone(&columns))
    };
    let unordered = plan(Arc::clone(&rows))?;
    let mut wanted = unordered.required_input_ordering().into_iter().flatten();
    match wanted.next().filter(|_| needs_order) {
        Some(order) => {
            let order = LexOrdering::from(order.into_single());
            Ok(Arc::new(plan(packed::sorted(&order, rows))?))
        }
        None => Ok(Arc::new(unordered)),
    }
}

/// What rows are grouped by.
fn grouping(fold: &Fold, schema: &SchemaRef) -> Result<PhysicalGroupBy> {
    let named = |name: &String| Ok((key(name, schema)?, name.clone()));
    let keys: Result<Vec<_>> = fold.keys.iter().map(named).collect();
    if fold.sets.is_empty() {
        return Ok(PhysicalGroupBy::new_single(keys?));
    }
    let null = |name: &String| {
        let kind = schema.field_with_name(name)?.data_type();
        Ok((lit(ScalarValue::try_from(kind)?), name.clone()))
    };
    let nulls: Result<Vec<_>> = fold.keys.iter().map(null).collect();
    let sets = fold.sets.clone();
    Ok(PhysicalGroupBy::new(keys?, nulls?, sets, true))
}

/// What sets without keys tell of no rows at all, as rows of the fold's results; `None`: it has no such set.
pub(super) fn totals_of_nothing(
    fold: &Fold,
    environment: &Environment,
) -> Result<Option<RecordBatch>> {
    let totals = fold.totals();
    if totals == 0 || fold.phase == AggregatePhase::Partial {
        return Ok(None);
    }
    let whole = Fold {
        keys: Vec::new(),
        sets: Vec::new(),
        ..fold.clone()
    };
    let nothing = Arc::new(EmptyExec::new(columns_of(&whole)?));
    let total = run_alone(&over(&whole, nothing)?, environment)?;
    let (_, own) = planned(fold, &columns_of(fold)?)?;
    let schema = own.schema();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in &schema.fields()[..fold.keys.len()] {
        columns.push(new_null_array(field.data_type(), totals));
    }
    // All keys are null; sets that are equal are counted in the bits before.
    let count = fold.keys.len();
    let ids = (0..totals as u64).map(|copy| (copy << count) | ((1 << count) - 1));
    let ids: ArrayRef = Arc::new(UInt64Array::from_iter_values(ids));
    columns.push(cast(&ids, schema.field(count).data_type())?);
    let copies = UInt64Array::from(vec![0; totals]);
    for column in total.columns() {
        columns.push(take(column, &copies, None)?);
    }
    Ok(Some(RecordBatch::try_new(schema, columns)?))
}

/// All rows of a plan that reads nothing.
fn run_alone(plan: &Arc<dyn ExecutionPlan>, environment: &Environment) -> Result<RecordBatch> {
    let runtime = Builder::new_current_thread()
        .build()
        .map_err(DataFusionError::IoError)?;
    let context = environment.context(1)?;
    let rows = runtime.block_on(async { collect(plan.execute(0, context)?).await })?;
    concat_batches(&plan.schema(), &rows).map_err(DataFusionError::from)
}

fn bound(call: &FoldCall, columns: &SchemaRef) -> Result<Arc<AggregateFunctionExpr>> {
    let Some(function) = aggregate_function(&call.function) else {
        return plan_err!("there is no function {}()", call.function);
    };
    let arguments = call.arguments.iter().map(|argument| argument.bind(columns));
    let arguments: Result<Vec<Arc<dyn PhysicalExpr>>> = arguments.collect();
    let order = call.order.iter().map(|key| sort_by(key, columns));
    let order: Result<Vec<PhysicalSortExpr>> = order.collect();
    let built = AggregateExprBuilder::new(function, arguments?)
        .schema(Arc::clone(columns))
        .alias(&call.name)
        .order_by(order?)
        .with_distinct(call.is_distinct)
        .with_ignore_nulls(call.ignores_nulls)
        .build()?;
    Ok(Arc::new(built))
}
