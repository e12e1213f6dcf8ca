//! `VALUES (1, 'a'), (2, 'b')` as a table: what stands there is computed where the query is read, and its rows are a source as all others.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{Field, Schema};
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result, plan_err};
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Values, ident};

use super::dataset::Dataset;
use super::planner::planner;

/// The plan with tables in the place of values. `is_left`: whether an expression is for somebody else to compute.
pub(super) fn with_values(
    plan: LogicalPlan,
    is_left: impl Fn(&Expr) -> bool,
) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Values(values) if !values.values.iter().flatten().any(&is_left) => {
            table(&values).map(Transformed::yes)
        }
        other => Ok(Transformed::no(other)),
    });
    replaced.map(|replaced| replaced.data)
}

fn table(values: &Values) -> Result<LogicalPlan> {
    let fields = values.schema.fields().iter();
    let fields: Vec<Field> = fields
        .map(|field| Field::clone(field).with_nullable(true))
        .collect();
    let mut columns = Vec::with_capacity(fields.len());
    for (place, field) in fields.iter().enumerate() {
        let cells = values.values.iter().map(|row| value(&row[place]));
        let cells: Vec<ArrayRef> = cells
            .map(|cell| Ok(cast(&cell?, field.data_type())?))
            .collect::<Result<_>>()?;
        let cells: Vec<&dyn Array> = cells.iter().map(AsRef::as_ref).collect();
        columns.push(match cells.is_empty() {
            true => new_empty_array(field.data_type()),
            false => concat(&cells)?,
        });
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let rows = Dataset::from_batches(Arc::clone(&schema), vec![batch]);
    let rows = rows.map_err(|error| datafusion_common::DataFusionError::External(error.into()))?;
    // Nobody above knows the source's name.
    let unnamed = schema
        .fields()
        .iter()
        .map(|field| ident(field.name()).alias(field.name()));
    LogicalPlanBuilder::from(rows.plan().clone())
        .project(unnamed)?
        .build()
}

/// The only value of an expression without columns.
fn value(expr: &Expr) -> Result<ArrayRef> {
    let physical = planner().physical(expr.clone(), &DFSchema::empty());
    let Ok(physical) = physical else {
        return plan_err!(
            "VALUES takes values, and {} is none: select it, SELECT {0} UNION ALL SELECT ...",
            expr.human_display()
        );
    };
    let one_row = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &one_row)?;
    physical.evaluate(&row)?.into_array(1)
}
