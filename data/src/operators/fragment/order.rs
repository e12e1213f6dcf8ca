//! Rows in an order: of keys, or by chance.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::{DataFusionError, Result, plan_err};
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::sorts::sort::SortExec;

use super::aggregate::key;
use super::drive::{Run, leaf};
use super::environment::Environment;
use crate::graph::{Fragment, RangeKey, Sort};
use crate::operators::chance::mixed;

/// The column that a shuffle sorts by while it does.
const CHANCE: &str = "chance of a row";

/// Sorts; rows with equal keys in any order. `rows`: how many there are at least, and their bytes.
pub(super) fn sort(
    sort: &Sort,
    schema: &SchemaRef,
    rows: (u64, u64),
    environment: &Environment,
) -> Result<Run> {
    let (slot, leaf) = leaf(schema)?;
    let plan = SortExec::new(order_of(&sort.keys, schema)?, leaf);
    let plan: Arc<dyn ExecutionPlan> = Arc::new(plan.with_fetch(first(sort, rows, environment)));
    let step = Fragment::Sort(sort.clone()).step();
    Run::new(step, &plan, vec![slot], environment)
}

/// The first rows of an order, or all as they come where so many cannot be held.
pub(super) fn first_rows(
    sort: &Sort,
    schema: &SchemaRef,
    rows: (u64, u64),
    environment: &Environment,
) -> Result<Run> {
    let (slot, leaf) = leaf(schema)?;
    let plan: Arc<dyn ExecutionPlan> = match first(sort, rows, environment) {
        None => leaf,
        some => Arc::new(SortExec::new(order_of(&sort.keys, schema)?, leaf).with_fetch(some)),
    };
    let step = Fragment::First(sort.clone()).step();
    Run::new(step, &plan, vec![slot], environment)
}

/// How many rows are wanted, if they can be held: they are not spilled.
fn first(sort: &Sort, (rows, bytes): (u64, u64), environment: &Environment) -> Option<usize> {
    let limit = sort.limit?;
    let wanted = limit.saturating_mul(bytes.div_ceil(rows.max(1)));
    let can_hold = environment.can_hold((limit, wanted));
    usize::try_from(limit).ok().filter(|_| can_hold)
}

/// An order of columns by name.
pub(crate) fn order_of(keys: &[RangeKey], schema: &SchemaRef) -> Result<LexOrdering> {
    let keys: Result<Vec<PhysicalSortExpr>> = keys.iter().map(|key| sort_by(key, schema)).collect();
    let Some(order) = LexOrdering::new(keys?) else {
        return plan_err!("there is no key to sort by");
    };
    Ok(order)
}

pub(super) fn sort_by(by: &RangeKey, schema: &SchemaRef) -> Result<PhysicalSortExpr> {
    let options = SortOptions {
        descending: by.is_descending,
        nulls_first: by.has_nulls_first,
    };
    Ok(PhysicalSortExpr::new(key(&by.column, schema)?, options))
}

/// Sorts by a number that belongs to the seed, the partition and the place of a row: the same every time.
pub(super) fn shuffle(seed: u64, schema: &SchemaRef, environment: &Environment) -> Result<Run> {
    let place = schema.fields().len();
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(CHANCE, DataType::UInt64, false)));
    let with_chance: SchemaRef = Arc::new(Schema::new(fields));
    let key = PhysicalSortExpr::new_default(Arc::new(Column::new(CHANCE, place)));
    let Some(order) = LexOrdering::new([key]) else {
        return plan_err!("there is no key to sort by");
    };
    let (slot, rows) = leaf(&with_chance)?;
    let plan: Arc<dyn ExecutionPlan> = Arc::new(SortExec::new(order, rows));
    let run = Run::new("Shuffle", &plan, vec![slot], environment)?;
    let mut next = mixed(seed ^ mixed(u64::from(environment.partition)));
    let before = move |batch: RecordBatch| {
        let chances = (0..batch.num_rows()).map(|_| {
            next = next.wrapping_add(1);
            mixed(next)
        });
        let chances: ArrayRef = Arc::new(UInt64Array::from_iter_values(chances));
        let mut columns = batch.columns().to_vec();
        columns.push(chances);
        RecordBatch::try_new(Arc::clone(&with_chance), columns).map_err(DataFusionError::from)
    };
    let own: Vec<usize> = (0..place).collect();
    let after = move |batch: RecordBatch| batch.project(&own).map_err(DataFusionError::from);
    Ok(run.dressed(Box::new(before), Box::new(after), Arc::clone(schema)))
}
