//! Rows in an order of keys.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion_common::{Result, plan_err};
use datafusion_physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::sorts::sort::SortExec;

use super::aggregate::key;
use super::drive::{Run, leaf};
use super::environment::Environment;
use crate::graph::{Fragment, RangeKey, Sort};
use crate::operators::packed::sorted;

/// Sorts; rows with equal keys in any order. `rows`: how many there are at least, and their bytes.
pub(super) fn sort(
    sort: &Sort,
    schema: &SchemaRef,
    rows: (u64, u64),
    environment: &Environment,
) -> Result<Run> {
    let (slot, leaf) = leaf(schema)?;
    let order = order_of(&sort.keys, schema)?;
    let plan = match first(sort, rows, environment) {
        None => sorted(&order, leaf),
        some => Arc::new(SortExec::new(order, leaf).with_fetch(some)),
    };
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
