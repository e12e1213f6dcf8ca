//! A query in SQL over datasets.
//!
//! The text becomes a plan of the engine, with a dataset's plan in the place of each table, is optimised by the engine's rules, and
//! cut into the same fragments that methods become. What cannot be cut is refused by the name of its clause.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner};
use datafusion_expr::{
    AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};

use super::dataset::Dataset;
use super::distinct_on::first_of_each;
use super::lateral::unnested_beside;
use super::lifting::lifted;
use super::pivot::PivotPlanner;
use super::planner::{Planner, planner};
use super::query_functions::{QueryFunction, QueryFunctions};
use super::unnest::{UnnestPlanner, with_names_of_fields};
use super::values::with_values;
use crate::error::{PlanError, reason_of};
use crate::graph::plan_job;
use crate::sinks::Sink;

impl Dataset {
    /// The rows that `query` selects from datasets, which it knows by these names.
    #[cfg(test)]
    pub(crate) fn sql(query: &str, tables: &[(String, Self)]) -> Result<Self, PlanError> {
        Self::sql_calling(query, tables, &[])
    }

    /// The rows that `query` selects from datasets, which it knows by these names; and it may call these functions, too, which the engine
    /// does not have.
    pub fn sql_calling(
        query: &str,
        tables: &[(String, Self)],
        functions: &[QueryFunction<'_>],
    ) -> Result<Self, PlanError> {
        let functions = QueryFunctions::of(functions)?;
        for (name, dataset) in tables {
            if dataset.is_open() {
                return Err(refused(&format!(
                    "the columns of '{name}' are known only when its functions have run: call {name}.schema() before, which runs \
                     them on a few rows, or give {name}.materialize()"
                )));
            }
        }
        let tables = tables.iter().map(|(name, dataset)| {
            let source: Arc<dyn TableSource> = Arc::new(Table::of(dataset));
            (name.clone(), source)
        });
        let tables = Tables {
            planner: planner(),
            relations: [Arc::new(PivotPlanner), Arc::new(UnnestPlanner)],
            tables: tables.collect(),
            functions: &functions,
        };
        let plan = aktis_sql::query(query, &tables, &|name| functions.known(name).is_some())
            .and_then(with_names_of_fields)
            .and_then(first_of_each)
            .and_then(unnested_beside)
            .and_then(|plan| with_values(plan, |expr| functions.name_in(expr).is_some()))
            .map_err(|error| explained(&reason_of(&error)))?;
        let plan = lifted(plan, &functions, |error| refused(&reason_of(error)))?;
        let is_lateral = |node: &LogicalPlan| Ok(matches!(node, LogicalPlan::Subquery(_)));
        let has_lateral = plan.exists(is_lateral).map_err(PlanError::planner)?;
        let dataset = Self::from_plan(plan);
        check_names(&dataset)?;
        // What cannot be run is told now, and not when rows are taken.
        plan_job(&dataset, &Sink::Consumer).map_err(|error| match error {
            PlanError::Planner { source, .. } if has_lateral => {
                refused(&format!("{LATERAL}: {}", reason_of(&source)))
            }
            PlanError::Planner { source, .. } => refused(&reason_of(&source)),
            other => other,
        })?;
        Ok(dataset)
    }
}

/// What of the query goes in rounds, for somebody else to run; `None`: it is not `WITH RECURSIVE`.
pub fn in_rounds(query: &str) -> Result<Option<aktis_sql::InRounds>, PlanError> {
    let options = &ContextProvider::options(planner()).sql_parser;
    aktis_sql::in_rounds(query, options).map_err(|error| explained(&reason_of(&error)))
}

/// What is told of a query beside rows that the engine makes no join of.
pub(crate) const LATERAL: &str = "a LATERAL query of this form cannot be run; lists beside a row are UNNEST(row.list), rows of another \
    table are found where columns are equal, WHERE b.k = a.k, and the first of them by QUALIFY row_number() OVER (PARTITION BY k ORDER BY \
    ...)";

fn refused(why: &str) -> PlanError {
    PlanError::InvalidArgument(format!("sql(): {why}"))
}

/// The planner's words, and for a pivot in a place where it is not read, the place where it is.
fn explained(words: &str) -> PlanError {
    let shouted = words.to_ascii_uppercase();
    if shouted.contains("FOUND: PIVOT AT") || shouted.contains("FOUND: UNPIVOT AT") {
        return refused(&format!(
            "{words}. A pivot is written behind a name or a query: FROM t PIVOT (sum(v) FOR k IN ('a', 'b')), \
             FROM (SELECT ... FROM t JOIN u ...) UNPIVOT (v FOR name IN (a, b))"
        ));
    }
    let unknown = words.split("Invalid function '").nth(1);
    match unknown.and_then(|rest| rest.split('\'').next()) {
        Some(name) => refused(&format!(
            "there is no function {name}() in SQL; one of your own is given as functions={{'{name}': ...}}"
        )),
        None => refused(words),
    }
}

/// A batch knows its columns by their names alone.
fn check_names(dataset: &Dataset) -> Result<(), PlanError> {
    let mut seen = HashSet::new();
    let names = dataset.known_columns();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(refused(&format!(
            "there would be two columns named '{name}': name the columns that you want, and give one of these another name with AS"
        ))),
        None => Ok(()),
    }
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

/// What a query may name: the planner's functions, those that were given, and the datasets.
struct Tables<'a> {
    planner: &'a Planner,
    relations: [Arc<dyn RelationPlanner>; 2],
    tables: HashMap<String, Arc<dyn TableSource>>,
    functions: &'a QueryFunctions<'a>,
}

impl ContextProvider for Tables<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if let Some(table) = self.tables.get(name.table()) {
            return Ok(Arc::clone(table));
        }
        let mut known: Vec<&str> = self.tables.keys().map(String::as_str).collect();
        known.sort_unstable();
        let given = match known.as_slice() {
            [] => "give it by this name: sql(query, name=dataset)".to_owned(),
            names => format!("given are {}", names.join(", ")),
        };
        plan_err!("there is no dataset '{name}'; {given}")
    }

    fn create_cte_work_table(&self, _: &str, _: SchemaRef) -> Result<Arc<dyn TableSource>> {
        plan_err!(
            "WITH RECURSIVE in the middle of a query is not there yet: write it at the beginning"
        )
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.planner.get_expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relations
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let own = self.functions.known(name);
        own.or_else(|| self.planner.get_function_meta(name))
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.planner.get_higher_order_meta(name)
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.planner.aggregate(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.planner.window(name)
    }

    fn get_variable_type(&self, names: &[String]) -> Option<DataType> {
        self.planner.get_variable_type(names)
    }

    fn options(&self) -> &ConfigOptions {
        self.planner.options()
    }

    fn udf_names(&self) -> Vec<String> {
        let own = self.functions.names().cloned();
        own.chain(self.planner.udf_names()).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.planner.higher_order_function_names()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.planner.aggregate_names()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.planner.window_names()
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
    fn pivot_is_a_group_by_and_unpivot_a_union() {
        let wide = "SELECT * FROM (SELECT id, id % 2 AS half, id % 5 AS rest FROM docs) PIVOT (sum(id) FOR rest IN (0, 1 AS one))";
        let pivot = sql(wide).expect("is whole");
        assert_eq!(pivot.known_columns(), ["half", "0", "one"]);
        let long = sql(&format!(
            "SELECT * FROM ({wide}) UNPIVOT (v FOR name IN (\"0\", one))"
        ));
        let long = long.expect("is whole");
        assert_eq!(long.known_columns(), ["half", "name", "v"]);
        crate::graph::plan_job(&long, &crate::Sink::Consumer).expect("can be run");
    }

    #[test]
    fn clause_that_cannot_be_run_is_named() {
        for (query, clause) in [
            (
                "SELECT * FROM (WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT n FROM t)",
                "WITH RECURSIVE in the middle",
            ),
            ("SELECT * FROM docs TABLESAMPLE (10 PERCENT)", "TABLESAMPLE"),
            (
                "SELECT * FROM (SELECT id FROM docs) AS d TABLESAMPLE (3 ROWS)",
                "TABLESAMPLE",
            ),
            (
                "WITH few AS (SELECT * FROM docs PREWHERE id > 3) SELECT * FROM few",
                "PREWHERE",
            ),
            ("SELECT id FROM docs CONNECT BY PRIOR id = id", "CONNECT BY"),
            (
                "SELECT id FROM docs WHERE id IN (SELECT id FROM docs PARTITION (p))",
                "a part of a table",
            ),
            ("SELECT id FROM docs LIMIT 3 BY id", "LIMIT ... BY"),
            ("SELECT id FROM docs FETCH FIRST 3 ROWS ONLY", "FETCH"),
            ("SELECT TOP 3 id FROM docs", "TOP"),
            ("FROM docs", "FROM without SELECT"),
            (
                "SELECT id FROM docs UNION ALL (SELECT id FROM docs EXCEPT ALL SELECT id FROM docs)",
                "EXCEPT ALL",
            ),
        ] {
            let message = sql(query).expect_err(query);
            assert!(
                message.contains(clause) && message.contains("is not there yet: "),
                "{message}"
            );
        }
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
            (
                "INSERT INTO docs VALUES (1)",
                "it takes a query, SELECT ..., and not INSERT",
            ),
            ("SHOW TABLES", "it takes a query, SELECT ..., and not SHOW"),
        ] {
            let message = sql(query).expect_err(query);
            assert!(message.contains(words), "{message}");
        }
    }
}
