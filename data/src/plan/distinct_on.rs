//! `SELECT DISTINCT ON (k) ... ORDER BY k, t`: the first row of each group, whole.
//!
//! The engine takes the first value of each column by itself, which are those of several rows where the order leaves it open. A
//! number for each row of a group keeps them together.

use datafusion_common::tree_node::Transformed;
use datafusion_common::{Column, Result};
use datafusion_expr::expr::WindowFunction;
use datafusion_expr::logical_plan::DistinctOn;
use datafusion_expr::{
    Distinct, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, WindowFunctionDefinition, lit,
};

use super::planner::planner;

/// The plan without `DISTINCT ON`.
pub(super) fn first_of_each(plan: LogicalPlan) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Distinct(Distinct::On(distinct)) => first_rows(distinct).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    });
    replaced.map(|replaced| replaced.data)
}

fn first_rows(distinct: DistinctOn) -> Result<LogicalPlan> {
    let row_number = planner().window("row_number");
    let row_number = row_number.expect("it is a function of the engine");
    let order = distinct.sort_expr.unwrap_or_default();
    let call = WindowFunction::new(WindowFunctionDefinition::WindowUDF(row_number), vec![]);
    let mut number = Expr::from(call).partition_by(distinct.on_expr);
    if !order.is_empty() {
        number = number.order_by(order.clone());
    }
    let number = number.build()?;
    let name = Column::new_unqualified(number.schema_name().to_string());
    let mut first = LogicalPlanBuilder::from(distinct.input)
        .window(vec![number])?
        .filter(Expr::Column(name).eq(lit(1_u64)))?;
    if !order.is_empty() {
        first = first.sort(order)?;
    }
    let columns = distinct.select_expr.into_iter().zip(distinct.schema.iter());
    let columns = columns
        .map(|(expr, (table, field))| expr.unalias().alias_qualified(table.cloned(), field.name()));
    first.project(columns.collect::<Vec<Expr>>())?.build()
}
