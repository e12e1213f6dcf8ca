//! A query in SQL over datasets.
//!
//! The text becomes the same plan that methods make, with a dataset's plan in the place of each table. What no method does cannot be
//! asked for here either, and is refused by the name of its clause.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::{
    AggregateUDF, HigherOrderUDF, Limit, LogicalPlan, ScalarUDF, SkipType, TableSource, WindowUDF,
};
use datafusion_sql::planner::SqlToRel;

use super::dataset::Dataset;
use super::expressions::Expression;
use super::planner::{Planner, planner};
use crate::error::{PlanError, first_line};

/// Functions over many rows, as SQL calls them.
const AGGREGATES: [&str; 12] = [
    "count",
    "sum",
    "avg",
    "mean",
    "min",
    "max",
    "median",
    "stddev",
    "var",
    "array_agg",
    "row_number",
    "rank",
];

impl Dataset {
    /// The rows that `query` selects from datasets, which it knows by these names.
    pub fn sql(query: &str, tables: &[(String, Self)]) -> Result<Self, PlanError> {
        for (name, dataset) in tables {
            if dataset.is_open() {
                return Err(refused(&format!(
                    "the columns of '{name}' are known only when its functions have run: give {name}.materialize()"
                )));
            }
        }
        let tables = tables.iter().map(|(name, dataset)| {
            let source: Arc<dyn TableSource> = Arc::new(Table::of(dataset));
            (name.clone(), source)
        });
        let tables = Tables {
            planner: planner(),
            tables: tables.collect(),
        };
        let plan = planned(query, &tables).map_err(|error| explained(&first_line(&error)))?;
        check(&plan)?;
        Ok(Self::from_plan(plan))
    }
}

fn refused(why: &str) -> PlanError {
    PlanError::InvalidArgument(format!("sql(): {why}"))
}

/// The planner's words, and for functions over many rows better ones.
fn explained(words: &str) -> PlanError {
    let asked = words.split('\'').nth(1).unwrap_or_default();
    if words.contains("Invalid function") && AGGREGATES.contains(&asked) {
        return unsupported(&format!("{asked}()"));
    }
    refused(words)
}

fn unsupported(clause: &str) -> PlanError {
    refused(&format!(
        "{clause} is not there yet: SELECT with expressions, WHERE, LIMIT and subqueries in FROM are"
    ))
}

fn planned(query: &str, tables: &Tables<'_>) -> Result<LogicalPlan> {
    let mut statements = tables.planner.statements(query)?;
    let (Some(statement), true) = (statements.pop_front(), statements.is_empty()) else {
        return plan_err!("it takes one query");
    };
    SqlToRel::new_with_options(tables, tables.planner.parser_options()).statement_to_plan(statement)
}

/// Fails if there is a node that no method of a dataset makes, or an expression that no worker can compute.
fn check(plan: &LogicalPlan) -> Result<(), PlanError> {
    let mut failure = None;
    let walked = plan.apply(|node| {
        failure = clause_of(node).map(|clause| unsupported(&clause));
        if failure.is_none() {
            let mut expressions = node.expressions().into_iter();
            let failed = expressions.find_map(|expr| Expression::planned(&expr).err());
            failure = failed.map(|error| refused(&first_line(&error)));
        }
        Ok(if failure.is_some() {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    walked.map_err(PlanError::planner)?;
    failure.map_or(Ok(()), Err)
}

/// What of SQL the node comes from, if it cannot be run.
fn clause_of(node: &LogicalPlan) -> Option<String> {
    let clause = match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Extension(_) => return None,
        LogicalPlan::Limit(limit) if has_no_offset(limit) => return None,
        LogicalPlan::Limit(_) => "OFFSET",
        LogicalPlan::Sort(_) => "ORDER BY",
        LogicalPlan::Aggregate(_) => "GROUP BY",
        LogicalPlan::Distinct(_) => "DISTINCT",
        LogicalPlan::Join(_) => "JOIN",
        LogicalPlan::Union(_) => "UNION",
        LogicalPlan::Window(_) => "OVER",
        LogicalPlan::Values(_) => "VALUES",
        LogicalPlan::Unnest(_) => "UNNEST",
        other => return Some(other.display().to_string()),
    };
    Some(clause.to_owned())
}

fn has_no_offset(limit: &Limit) -> bool {
    matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)))
}

/// A dataset in the place of a table.
#[derive(Debug)]
struct Table {
    plan: LogicalPlan,
    schema: SchemaRef,
}

impl Table {
    fn of(dataset: &Dataset) -> Self {
        let plan = dataset.plan().clone();
        let schema = Arc::new(Schema::new(plan.schema().fields().clone()));
        Self { plan, schema }
    }
}

impl TableSource for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

/// What a query may name: the planner's functions, and the datasets.
struct Tables<'a> {
    planner: &'a Planner,
    tables: HashMap<String, Arc<dyn TableSource>>,
}

impl ContextProvider for Tables<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if let Some(table) = self.tables.get(name.table()) {
            return Ok(Arc::clone(table));
        }
        let mut known: Vec<&str> = self.tables.keys().map(String::as_str).collect();
        known.sort_unstable();
        plan_err!(
            "there is no dataset '{name}'; given are {}",
            known.join(", ")
        )
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.planner.get_expr_planners()
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.planner.get_function_meta(name)
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.planner.get_higher_order_meta(name)
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.planner.get_aggregate_meta(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.planner.get_window_meta(name)
    }

    fn get_variable_type(&self, names: &[String]) -> Option<DataType> {
        self.planner.get_variable_type(names)
    }

    fn options(&self) -> &ConfigOptions {
        self.planner.options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.planner.udf_names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.planner.higher_order_function_names()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.planner.udaf_names()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.planner.udwf_names()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(query: &str) -> Result<Dataset, String> {
        let tables = [("docs".to_owned(), Dataset::range(10).expect("is a table"))];
        Dataset::sql(query, &tables).map_err(|error| error.to_string())
    }

    #[test]
    fn query_becomes_the_plan_that_methods_make() {
        let dataset =
            sql("SELECT id + 1 AS next FROM docs WHERE id > 3 LIMIT 2").expect("is whole");
        assert_eq!(dataset.known_columns(), ["next"]);
        crate::graph::plan_job(&dataset, &crate::Sink::Consumer).expect("can be run");
        let nested = sql("SELECT a.x FROM (SELECT id AS x FROM docs) AS a WHERE a.x % 2 = 0");
        let nested = nested.expect("is whole");
        crate::graph::plan_job(&nested, &crate::Sink::Consumer).expect("can be run");
    }

    #[test]
    fn clause_that_cannot_be_run_is_named() {
        for (query, clause) in [
            ("SELECT id FROM docs ORDER BY id", "ORDER BY"),
            ("SELECT DISTINCT id FROM docs", "DISTINCT"),
            ("SELECT id FROM docs GROUP BY id", "GROUP BY"),
            ("SELECT count(id) FROM docs", "count()"),
            ("SELECT a.id FROM docs a JOIN docs b ON a.id = b.id", "JOIN"),
            ("SELECT id FROM docs UNION ALL SELECT id FROM docs", "UNION"),
            ("SELECT id FROM docs LIMIT 1 OFFSET 2", "OFFSET"),
        ] {
            let message = sql(query).expect_err(query);
            assert!(
                message.contains(&format!("{clause} is not there yet")),
                "{message}"
            );
        }
        let message = sql("SELECT id FROM docs WHERE id IN (SELECT id FROM docs)");
        assert!(
            message
                .expect_err("is a subquery")
                .contains("cannot be computed by workers")
        );
    }

    #[test]
    fn mistakes_are_told() {
        for (query, words) in [
            (
                "SELECT id FROM dcos",
                "there is no dataset 'dcos'; given are docs",
            ),
            ("SELECT nope FROM docs", "nope"),
            (
                "SELECT id FROM docs; SELECT id FROM docs",
                "it takes one query",
            ),
            ("DROP TABLE docs", "sql()"),
        ] {
            let message = sql(query).expect_err(query);
            assert!(message.contains(words), "{message}");
        }
    }
}
