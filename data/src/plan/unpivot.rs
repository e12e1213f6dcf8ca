//! `UNPIVOT`: a row for each column, with the column's name and its value.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::{DFSchema, Result, plan_err};
use datafusion_expr::planner::RelationPlannerContext;
use datafusion_expr::type_coercion::binary::type_union_coercion;
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Union, lit};
use datafusion_sql::sqlparser::ast::{Expr as SqlExpr, ExprWithAlias, Ident, NullInclusion};

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
