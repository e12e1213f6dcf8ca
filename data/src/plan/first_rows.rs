//! `ORDER BY ... LIMIT n` chooses rows before functions are called for them, where these do not tell the order.
//!
//! ```text
//! Sort: a, first 10            Projection: b, a
//!   Projection: b, a             Map: makes b, one row for each
//!     Map: makes b                 Sort: a, first 10
//! ```
//!
//! The engine knows that a limit alone may go below a function, and nothing of orders.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, Result};
use datafusion_expr::{Expr, Extension, LogicalPlan, Projection, Sort, SortExpr, SubqueryAlias};
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

use super::nodes::map::MapNode;

/// The rule.
#[derive(Debug)]
pub(super) struct PushFirstRowsBelowMap;

impl OptimizerRule for PushFirstRowsBelowMap {
    fn name(&self) -> &'static str {
        "push_first_rows_below_map"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Sort(Sort {
            expr,
            input,
            fetch: Some(rows),
        }) = &plan
        else {
            return Ok(Transformed::no(plan));
        };
        match chosen(expr.clone(), *rows, input)? {
            Some(pushed) => Ok(Transformed::yes(pushed)),
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// The plan with its first rows chosen below the functions at its top; `None`: there is none that may come behind that.
fn chosen(keys: Vec<SortExpr>, rows: usize, plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    Ok(match plan {
        LogicalPlan::Projection(projection) => {
            let below = |column: &Column| {
                let index = projection.schema.maybe_index_of_column(column)?;
                let expr = projection.expr[index].clone().unalias();
                (!expr.is_volatile()).then_some(expr)
            };
            match over(&keys, below)? {
                Some(keys) => chosen(keys, rows, &projection.input)?
                    .map(|input| Projection::try_new(projection.expr.clone(), Arc::new(input)))
                    .transpose()?
                    .map(LogicalPlan::Projection),
                None => None,
            }
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let below = |column: &Column| {
                let index = alias.schema.maybe_index_of_column(column)?;
                Some(column_at(alias.input.schema(), index))
            };
            match over(&keys, below)? {
                Some(keys) => chosen(keys, rows, &alias.input)?
                    .map(|input| SubqueryAlias::try_new(Arc::new(input), alias.alias.clone()))
                    .transpose()?
                    .map(LogicalPlan::SubqueryAlias),
                None => None,
            }
        }
        LogicalPlan::Extension(extension) => {
            let map = extension.node.as_any().downcast_ref::<MapNode>();
            match map.filter(|map| map.spec.keeps_all_rows() && passes(map, &keys)) {
                Some(map) => Some(before(map, keys, rows)?),
                None => None,
            }
        }
        _ => None,
    })
}

/// The function over the first rows.
fn before(map: &MapNode, keys: Vec<SortExpr>, rows: usize) -> Result<LogicalPlan> {
    let first = match chosen(keys.clone(), rows, map.input())? {
        Some(first) => first,
        None => LogicalPlan::Sort(Sort {
            expr: keys,
            input: Arc::new(map.input().clone()),
            fetch: Some(rows),
        }),
    };
    let node = MapNode::try_new(Arc::clone(&map.spec), first)?;
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(node),
    }))
}

/// Whether the keys look only at columns that the function lets by.
fn passes(map: &MapNode, keys: &[SortExpr]) -> bool {
    let below = map.input().schema();
    let lets_by = |column: &Column| {
        let is_made = map.makes(&column.name);
        !is_made && map.spec.passes(&column.name) && below.has_column(column)
    };
    keys.iter().all(|key| {
        let columns = key.expr.column_refs();
        !key.expr.is_volatile() && columns.into_iter().all(lets_by)
    })
}

/// The keys over what `below` says of their columns; `None`: it says nothing of one.
fn over(
    keys: &[SortExpr],
    below: impl Fn(&Column) -> Option<Expr>,
) -> Result<Option<Vec<SortExpr>>> {
    let mut over = Vec::with_capacity(keys.len());
    for key in keys {
        let mut is_known = true;
        let expr = key.expr.clone().transform(|part| {
            let Expr::Column(column) = &part else {
                return Ok(Transformed::no(part));
            };
            Ok(match below(column) {
                Some(expr) => Transformed::new(expr, true, TreeNodeRecursion::Jump),
                None => {
                    is_known = false;
                    Transformed::no(part)
                }
            })
        })?;
        if !is_known {
            return Ok(None);
        }
        over.push(SortExpr {
            expr: expr.data,
            ..key.clone()
        });
    }
    Ok(Some(over))
}

fn column_at(schema: &DFSchema, index: usize) -> Expr {
    let (table, field) = schema.qualified_field(index);
    Expr::Column(Column::new(table.cloned(), field.name()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field};

    use crate::plan::{Dataset, FailurePolicy, Kept, MapSpec, OnError, Produces};
    use crate::testing::test_map;

    /// Numbers `id`, and what a function makes of them.
    fn mapped(failures: FailurePolicy) -> Dataset {
        let made = Field::new("made", DataType::Int64, true);
        let numbers = Dataset::range(100).expect("plans");
        let spec = MapSpec {
            reads: Some(vec!["id".to_owned()]),
            keeps: Kept::AllExcept(vec!["made".to_owned()]),
            produces: Produces::Fields(vec![Arc::new(made)]),
            keeps_rows: true,
            failures,
            ..test_map("f")
        };
        numbers.map(spec).expect("plans")
    }

    /// Whether the rows are chosen before the function is called.
    fn is_before(query: &str, failures: FailurePolicy) -> bool {
        let tables = [("t".to_owned(), mapped(failures))];
        let plan = Dataset::sql(query, &tables).and_then(|dataset| dataset.optimized());
        let text = plan.expect(query).display_indent().to_string();
        let place = |word: &str| text.find(word).expect(word);
        place("f reads") < place("Sort:")
    }

    #[test]
    fn first_rows_are_chosen_before_a_function_that_does_not_tell_the_order() {
        let all = FailurePolicy::default();
        for (query, expected) in [
            ("SELECT made FROM t ORDER BY id % 7 LIMIT 5", true),
            (
                "SELECT made + 1 AS m, id AS i FROM t ORDER BY i DESC LIMIT 5",
                true,
            ),
            (
                "SELECT m FROM (SELECT made AS m, -id AS i FROM t) ORDER BY i LIMIT 5",
                true,
            ),
            ("SELECT made, id FROM t ORDER BY made LIMIT 5", false),
            (
                "SELECT made, id FROM t ORDER BY id % 7, made LIMIT 5",
                false,
            ),
            ("SELECT made FROM t ORDER BY id % 7", false),
            (
                "SELECT made FROM t WHERE made > 3 ORDER BY id LIMIT 5",
                false,
            ),
        ] {
            assert_eq!(is_before(query, all), expected, "{query}");
        }
    }

    #[test]
    fn rows_are_not_chosen_before_a_function_that_may_leave_some_out() {
        let skips = FailurePolicy {
            on_error: Some(OnError::Skip),
            ..FailurePolicy::default()
        };
        assert!(!is_before("SELECT made FROM t ORDER BY id LIMIT 5", skips));
    }
}
