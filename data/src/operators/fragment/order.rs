//! Rows in an order: of keys, or by chance.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::{DataFusionError, Result, plan_err};
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion_physical_plan::sorts::sort::SortExec;

use super::aggregate::column;
use super::drive::{Run, leaf};
use super::environment::Environment;
use crate::graph::RangeKey;
use crate::operators::chance::mixed;

/// The column that a shuffle sorts by while it does.
const CHANCE: &str = "chance of a row";

/// Sorts; rows with equal keys in any order.
pub(super) fn sort(
    keys: &[RangeKey],
    schema: &SchemaRef,
    environment: &Environment,
) -> Result<Run> {
    let key = |key: &RangeKey| {
        let options = SortOptions {
            descending: key.is_descending,
            nulls_first: key.has_nulls_first,
        };
        Ok(PhysicalSortExpr::new(column(&key.column, schema)?, options))
    };
    let keys: Result<Vec<PhysicalSortExpr>> = keys.iter().map(key).collect();
    let Some(order) = LexOrdering::new(keys?) else {
        return plan_err!("there is no key to sort by");
    };
    let (slot, rows) = leaf(schema)?;
    let plan: Arc<dyn datafusion_physical_plan::ExecutionPlan> =
        Arc::new(SortExec::new(order, rows));
    Run::new("Sort", &plan, slot, environment)
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
    let plan: Arc<dyn datafusion_physical_plan::ExecutionPlan> =
        Arc::new(SortExec::new(order, rows));
    let run = Run::new("Shuffle", &plan, slot, environment)?;
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
