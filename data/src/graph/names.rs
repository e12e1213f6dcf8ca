//! Names of columns where tables are joined: a plan tells `a.id` and `b.id` apart by their tables, a batch has no tables.

use std::collections::HashMap;

use arrow::datatypes::FieldRef;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, TableReference};
use datafusion_expr::Expr;

use crate::error::PlanError;
use crate::plan::Expression;

/// What the columns are called in batches, in their order: as they are, and with the table before it where others have the
/// same name.
pub(crate) fn names_of(schema: &DFSchema) -> Vec<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for field in schema.fields() {
        *counts.entry(field.name()).or_default() += 1;
    }
    let name = |(table, field): (Option<&TableReference>, &FieldRef)| match table {
        Some(table) if counts[field.name().as_str()] > 1 => format!("{table}.{}", field.name()),
        _ => field.name().clone(),
    };
    schema.iter().map(name).collect()
}

/// The expression over the columns of `schema`, as they are called in batches.
pub(super) fn over(expr: &Expr, schema: &DFSchema) -> Result<Expression, PlanError> {
    over_names(expr, schema, &names_of(schema))
}

/// The same, with names that were given to them.
pub(super) fn over_names(
    expr: &Expr,
    schema: &DFSchema,
    names: &[String],
) -> Result<Expression, PlanError> {
    let named = expr.clone().transform(|node| {
        Ok(match node {
            Expr::Column(column) => {
                let name = match schema.maybe_index_of_column(&column) {
                    Some(index) => names[index].clone(),
                    // A column that only a run will show.
                    None => column.name,
                };
                Transformed::yes(Expr::Column(Column::new_unqualified(name)))
            }
            other => Transformed::no(other),
        })
    });
    let planned = named.and_then(|named| Expression::planned(&named.data));
    planned.map_err(PlanError::planner)
}

/// The name of the column that the expression is, if it is nothing but that.
pub(super) fn column_of(expression: &Expression) -> Option<&str> {
    match expression {
        Expression::Planned(Expr::Column(column)) => Some(&column.name),
        _ => None,
    }
}
