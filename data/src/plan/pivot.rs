//! `PIVOT` and `UNPIVOT` of SQL, which DataFusion reads and does not plan.
//!
//! A pivot is a group-by whose functions each see the rows of one value, `sum(v) FILTER (WHERE k = 'a')`. An unpivot is a union with a
//! branch for each column. So both run as those do. Columns are called as DuckDB calls them, and the rows are Spark's and
//! Snowflake's, too:
//!
//! | | its column |
//! |---|---|
//! | `sum(v) FOR k IN ('a', 'b' AS second)` | `a`, `second` |
//! | `sum(v) AS total FOR k IN ('a')` | `a_total` |
//! | `sum(v), max(v) FOR k IN ('a')` | `a_sum(v)`, `a_max(v)` |
//! | `sum(v) FOR (k, year) IN (('a', 2020))` | `a_2020` |

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::{Column, DFSchema, DataFusionError, Result, ScalarValue, plan_err};
use datafusion_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion_sql::sqlparser::ast::{
    Expr as SqlExpr, ExprWithAlias, PivotValueSource, TableFactor,
};

use super::planner::planner;
use super::unpivot;
use crate::error::reason_of;

/// What plans both, wherever a query may name a table.
#[derive(Debug)]
pub(super) struct PivotPlanner;

impl RelationPlanner for PivotPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let (plan, alias) = match relation {
            TableFactor::Pivot {
                table,
                aggregate_functions,
                value_column,
                value_source,
                default_on_null,
                alias,
            } => {
                let input = context.plan(*table)?;
                let pivot = Pivot {
                    functions: &aggregate_functions,
                    columns: &value_column,
                    values: &listed(&value_column, value_source)?,
                    default: default_on_null.as_ref(),
                };
                (pivot.over(input, context)?, alias)
            }
            TableFactor::Unpivot {
                table,
                value,
                name,
                columns,
                null_inclusion,
                alias,
            } => {
                let input = context.plan(*table)?;
                let unpivot = unpivot::Unpivot {
                    value: &value,
                    name: context.normalize_ident(name),
                    columns: &columns,
                    nulls: null_inclusion,
                };
                (unpivot.over(input, context)?, alias)
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let planned = PlannedRelation::new(plan, alias);
        Ok(RelationPlanning::Planned(Box::new(planned)))
    }
}

/// The values, which the columns are known by.
fn listed(columns: &[SqlExpr], values: PivotValueSource) -> Result<Vec<ExprWithAlias>> {
    let written = match values {
        PivotValueSource::List(values) => return Ok(values),
        PivotValueSource::Any(_) => "ANY",
        PivotValueSource::Subquery(_) => "a query",
    };
    let column = columns.first().map(ToString::to_string).unwrap_or_default();
    plan_err!(
        "PIVOT ... IN with {written} would give columns that only a run shows: write the values, FOR {column} IN ('a', 'b'); \
         ds.unique('{column}') tells them"
    )
}

struct Pivot<'a> {
    functions: &'a [ExprWithAlias],
    /// What is compared with the values.
    columns: &'a [SqlExpr],
    values: &'a [ExprWithAlias],
    /// In the place of null.
    default: Option<&'a SqlExpr>,
}

impl Pivot<'_> {
    /// A row for each group, and in it a column for each value and function. What nothing names makes the groups.
    fn over(
        &self,
        input: LogicalPlan,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let schema = Arc::clone(input.schema());
        let functions = self.functions.iter();
        let functions = functions.map(|function| function_of(function, &schema, context));
        let functions: Vec<Expr> = functions.collect::<Result<_>>()?;
        let columns = self.columns.iter();
        let columns = columns.map(|column| context.sql_to_expr(column.clone(), &schema));
        let columns: Vec<Expr> = columns.collect::<Result<_>>()?;
        let keys = others(&schema, functions.iter().chain(&columns));
        let mut results = Vec::new();
        for value in self.values {
            let wanted = self.wanted(value, context)?;
            let condition = is_all_of(&columns, &wanted);
            let label = label(value, &wanted, context)?;
            for (function, written) in functions.iter().zip(self.functions) {
                let name = self.name(&label, written, context);
                results.push((seeing(function, &condition), name));
            }
        }
        let mut made: Vec<Expr> = keys.iter().map(unqualified).collect();
        for (_, name) in &results {
            made.push(self.without_null(name, context)?);
        }
        check_names("PIVOT", &made)?;
        let keys = keys.into_iter().map(Expr::Column);
        let results = results.into_iter().map(|(call, name)| call.alias(name));
        LogicalPlanBuilder::from(input)
            .aggregate(keys, results.collect::<Vec<_>>())?
            .project(made)?
            .build()
    }

    /// What the columns are in the rows that a value means.
    fn wanted(
        &self,
        value: &ExprWithAlias,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Vec<ScalarValue>> {
        let written = match (&value.expr, self.columns) {
            (SqlExpr::Tuple(values), _) => values.as_slice(),
            (one, _) => std::slice::from_ref(one),
        };
        if written.len() != self.columns.len() {
            return plan_err!(
                "PIVOT: FOR has {} columns, and {} in IN has {}: write a value for each, FOR (a, b) IN ((1, 2), (3, 4))",
                self.columns.len(),
                value.expr,
                written.len()
            );
        }
        written.iter().map(|one| constant(one, context)).collect()
    }

    /// The column of a function, of the rows that are called `label`.
    fn name(
        &self,
        label: &str,
        function: &ExprWithAlias,
        context: &mut dyn RelationPlannerContext,
    ) -> String {
        match &function.alias {
            Some(alias) => format!("{label}_{}", context.normalize_ident(alias.clone())),
            None if self.functions.len() > 1 => format!("{label}_{}", function.expr),
            None => label.to_owned(),
        }
    }

    /// The result of this name.
    fn without_null(&self, name: &str, context: &mut dyn RelationPlannerContext) -> Result<Expr> {
        let result = Expr::Column(Column::new_unqualified(name));
        let Some(default) = self.default else {
            return Ok(result);
        };
        let coalesce = planner().scalar("coalesce");
        let coalesce = coalesce.expect("is one of the planner's functions");
        let arguments = vec![result, lit(constant(default, context)?)];
        Ok(coalesce.call(arguments).alias(name))
    }
}

/// The call, which must be one of a function over many rows.
fn function_of(
    function: &ExprWithAlias,
    schema: &DFSchema,
    context: &mut dyn RelationPlannerContext,
) -> Result<Expr> {
    let planned = context.sql_to_expr(function.expr.clone(), schema)?;
    match planned.unalias() {
        call @ Expr::AggregateFunction(_) => Ok(call),
        _ => plan_err!(
            "PIVOT: {} tells nothing of many rows: write functions such as sum(v), and compute with their results in SELECT",
            function.expr
        ),
    }
}

/// The call, which sees no rows but those.
fn seeing(function: &Expr, condition: &Expr) -> Expr {
    let mut function = function.clone();
    if let Expr::AggregateFunction(call) = &mut function {
        let own = call.params.filter.take();
        let condition = condition.clone();
        call.params.filter = Some(Box::new(match own {
            Some(own) => own.and(condition),
            None => condition,
        }));
    }
    function
}

fn is_all_of(columns: &[Expr], wanted: &[ScalarValue]) -> Expr {
    let equal = columns.iter().zip(wanted).map(|(column, value)| {
        if value.is_null() {
            column.clone().is_null()
        } else {
            column.clone().eq(lit(value.clone()))
        }
    });
    equal.reduce(Expr::and).unwrap_or_else(|| lit(true))
}

/// What a column of these values is called.
fn label(
    value: &ExprWithAlias,
    wanted: &[ScalarValue],
    context: &mut dyn RelationPlannerContext,
) -> Result<String> {
    if let Some(alias) = &value.alias {
        return Ok(context.normalize_ident(alias.clone()));
    }
    let texts = wanted
        .iter()
        .map(|value| match value.cast_to(&DataType::Utf8)? {
            ScalarValue::Utf8(Some(text)) => Ok(text),
            _ => Ok("NULL".to_owned()),
        });
    Ok(texts.collect::<Result<Vec<_>>>()?.join("_"))
}

/// What is written, which must be the same for all rows.
fn constant(written: &SqlExpr, context: &mut dyn RelationPlannerContext) -> Result<ScalarValue> {
    let mut evaluated = || {
        let nothing = DFSchema::empty();
        let expr = context.sql_to_expr(written.clone(), &nothing)?;
        let computed = planner().physical(expr, &nothing)?;
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let columns = Arc::new(Schema::empty());
        let row = RecordBatch::try_new_with_options(columns, Vec::new(), &options)?;
        ScalarValue::try_from_array(&computed.evaluate(&row)?.into_array(1)?, 0)
    };
    evaluated().or_else(|error: DataFusionError| {
        plan_err!(
            "PIVOT: {written} is no constant ({}): write values such as 1, or texts in single quotes, 'a'",
            reason_of(&error)
        )
    })
}

/// The columns that none of the expressions names.
pub(super) fn others<'a>(schema: &DFSchema, named: impl Iterator<Item = &'a Expr>) -> Vec<Column> {
    let named: HashSet<&Column> = named.flat_map(Expr::column_refs).collect();
    let all = schema.columns().into_iter();
    all.filter(|column| !named.contains(column)).collect()
}

/// The column under its name alone: what it came from is another table.
pub(super) fn unqualified(column: &Column) -> Expr {
    Expr::Column(column.clone()).alias(column.name.clone())
}

/// Fails for two columns of one name. `clause`: the one that makes them.
pub(super) fn check_names(clause: &str, made: &[Expr]) -> Result<()> {
    let mut seen = HashSet::new();
    let mut names = made.iter().map(|column| column.qualified_name().1);
    match names.find(|name| !seen.insert(name.clone())) {
        Some(name) => plan_err!(
            "{clause} would make two columns named '{name}': give one of them another name with AS"
        ),
        None => Ok(()),
    }
}
