//! `UNPIVOT`: a row for each column, with the column's name and its value.
//!
//! Each column is a branch of a union that goes through the whole input, with other columns and filters pushed into it, so that the
//! branches need not share a stage. They must get the same rows all the same: what a run chooses or numbers as rows come is refused.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result, plan_err};
use datafusion_expr::planner::RelationPlannerContext;
use datafusion_expr::type_coercion::binary::type_union_coercion;
use datafusion_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Union, WindowFunctionDefinition, lit,
};
use datafusion_sql::sqlparser::ast::{Expr as SqlExpr, ExprWithAlias, Ident, NullInclusion};

use super::nodes::relation::{Relation, RelationNode};
use super::pivot::{check_names, others, unqualified};

pub(super) struct Unpivot<'a> {
    /// The names of the columns with values.
    pub(super) value: &'a SqlExpr,
    /// The column with names.
    pub(super) name: String,
    pub(super) columns: &'a [ExprWithAlias],
    pub(super) nulls: Option<NullInclusion>,
}

/// What becomes one row.
struct Branch {
    label: String,
    values: Vec<Expr>,
}

impl Unpivot<'_> {
    /// The columns that are not named, once for each that is.
    pub(super) fn over(
        &self,
        input: LogicalPlan,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let schema = Arc::clone(input.schema());
        let names = self.value_names(context)?;
        let branches = self.branches(&schema, names.len(), context)?;
        if branches.len() > 1 {
            check_same_rows(&input)?;
        }
        let kept = others(&schema, branches.iter().flat_map(|branch| &branch.values));
        let types = self.types(&branches, &schema, &names)?;
        let mut plans = Vec::with_capacity(branches.len());
        for branch in branches {
            let mut columns: Vec<Expr> = kept.iter().map(unqualified).collect();
            columns.push(lit(branch.label).alias(&self.name));
            let mut is_there = lit(false);
            for ((value, name), kind) in branch.values.into_iter().zip(&names).zip(&types) {
                is_there = is_there.or(value.clone().is_not_null());
                columns.push(value.cast_to(kind, &schema)?.alias(name));
            }
            check_names("UNPIVOT", &columns)?;
            let mut rows = LogicalPlanBuilder::from(input.clone());
            if self.nulls != Some(NullInclusion::IncludeNulls) {
                rows = rows.filter(is_there)?;
            }
            plans.push(Arc::new(rows.project(columns)?.build()?));
        }
        match plans.len() {
            1 => Ok(Arc::unwrap_or_clone(plans.remove(0))),
            _ => Ok(LogicalPlan::Union(Union::try_new(plans)?)),
        }
    }

    fn value_names(&self, context: &mut dyn RelationPlannerContext) -> Result<Vec<String>> {
        let written = match self.value {
            SqlExpr::Tuple(names) => names.as_slice(),
            one => std::slice::from_ref(one),
        };
        let name = |written: &SqlExpr| match written {
            SqlExpr::Identifier(name) => Ok(context.normalize_ident(name.clone())),
            other => plan_err!(
                "UNPIVOT: {other} is no name of a column: write UNPIVOT (value FOR name IN (a, b))"
            ),
        };
        written.iter().map(name).collect()
    }

    fn branches(
        &self,
        schema: &DFSchema,
        width: usize,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Vec<Branch>> {
        let mut branches = Vec::with_capacity(self.columns.len());
        for ExprWithAlias { expr, alias } in self.columns {
            let written = match expr {
                SqlExpr::Tuple(columns) => columns.as_slice(),
                one => std::slice::from_ref(one),
            };
            if written.len() != width {
                return plan_err!(
                    "UNPIVOT: there are {width} columns for values, and {expr} in IN has {}: write as many, \
                     UNPIVOT ((x, y) FOR name IN ((a, b), (c, d)))",
                    written.len()
                );
            }
            let values = written.iter().map(|one| column(one, schema, context));
            let values: Vec<Expr> = values.collect::<Result<_>>()?;
            let label = match alias {
                Some(Ident { value, .. }) => value.clone(),
                None => joined(&values),
            };
            branches.push(Branch { label, values });
        }
        Ok(branches)
    }

    /// The types that the values of all branches fit into.
    fn types(
        &self,
        branches: &[Branch],
        schema: &DFSchema,
        names: &[String],
    ) -> Result<Vec<DataType>> {
        let common = |(place, name): (usize, &String)| {
            let mut common = None;
            for branch in branches {
                let own = branch.values[place].get_type(schema)?;
                common = Some(match common {
                    None => own,
                    Some(before) => match type_union_coercion(&before, &own) {
                        Some(both) => both,
                        None => {
                            return plan_err!(
                                "UNPIVOT: the values of '{}' are {own}, and those before it {before}, which no column '{name}' \
                                 can hold: give them one type before, FROM (SELECT CAST(...)) UNPIVOT",
                                joined(&branch.values)
                            );
                        }
                    },
                });
            }
            Ok(common.unwrap_or(DataType::Null))
        };
        names.iter().enumerate().map(common).collect()
    }
}

/// Fails for an input that may have other rows for one branch than for the next.
fn check_same_rows(input: &LogicalPlan) -> Result<()> {
    let mut found = None;
    input.apply_with_subqueries(|node| {
        found = differs(node);
        Ok(match found {
            Some(_) => TreeNodeRecursion::Stop,
            None => TreeNodeRecursion::Continue,
        })
    })?;
    match found {
        Some(what) => plan_err!(
            "UNPIVOT goes through its input once for each column, and {what} need not be the same every time: materialize() the \
             input before, t=ds.materialize(), or t=aktis.data.sql(...).materialize() for a query in FROM, and unpivot t"
        ),
        None => Ok(()),
    }
}

/// What the node chooses or numbers by the order in which rows come, or by chance.
fn differs(node: &LogicalPlan) -> Option<&'static str> {
    let has = |is: fn(&Expr) -> bool| {
        let exprs = node.expressions();
        let mut exprs = exprs.iter();
        // The walk itself cannot fail.
        exprs.any(|expr| expr.exists(|part| Ok(is(part))).unwrap_or(true))
    };
    match node {
        LogicalPlan::Limit(_) => Some("the rows that LIMIT or OFFSET leaves"),
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any().downcast_ref::<RelationNode>()?;
            let Relation::Sample { seed, .. } = node.relation else {
                return None;
            };
            // A seed chooses by the numbers of rows, which are the same as long as nothing changes their order.
            let is_same = seed.is_some() && !node.sources().iter().any(reorders);
            (!is_same).then_some("the rows that random_sample() chooses")
        }
        _ if has(goes_by_order) => {
            Some("the result of a window function without ORDER BY in its OVER")
        }
        _ if has(Expr::is_volatile_node) => {
            Some("the result of a function of chance or of a row's number")
        }
        _ => None,
    }
}

fn reorders(plan: &LogicalPlan) -> bool {
    let is_one = |node: &LogicalPlan| {
        Ok(match node {
            LogicalPlan::Aggregate(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::Window(_) => true,
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any().downcast_ref::<RelationNode>();
                node.is_some_and(|node| !matches!(node.relation, Relation::Sample { .. }))
            }
            _ => false,
        })
    };
    // The walk itself cannot fail.
    plan.exists(is_one).unwrap_or(true)
}

/// Whether it is a window function that sees rows in an order, and was told none.
fn goes_by_order(expr: &Expr) -> bool {
    let Expr::WindowFunction(call) = expr else {
        return false;
    };
    let frame = &call.params.window_frame;
    let sees_all = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
    let is_numbering = matches!(call.fun, WindowFunctionDefinition::WindowUDF(_));
    call.params.order_by.is_empty() && (is_numbering || !sees_all)
}

fn column(
    written: &SqlExpr,
    schema: &DFSchema,
    context: &mut dyn RelationPlannerContext,
) -> Result<Expr> {
    match context.sql_to_expr(written.clone(), schema)? {
        column @ Expr::Column(_) => Ok(column),
        _ => plan_err!(
            "UNPIVOT: {written} is no column: compute it before, FROM (SELECT *, {written} AS name FROM ...) UNPIVOT"
        ),
    }
}

fn joined(columns: &[Expr]) -> String {
    let names = columns.iter().map(|column| column.qualified_name().1);
    names.collect::<Vec<_>>().join("_")
}
