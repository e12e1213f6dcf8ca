//! `IN (SELECT key ... GROUP BY key HAVING ...)` is looked at before rows are joined, and not after.
//!
//! The engine puts such a subquery over all joins of its query. A condition on groups leaves few of them, as a rule: whoever looks at it
//! first joins few rows.
//!
//! ```text
//!       semi                      join
//!      /    \                    /    \
//!    join    few    becomes    semi    b
//!   /    \                    /    \
//!  a      b                  a      few
//! ```

use std::sync::Arc;

use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::{Expr, Filter, Join, JoinType, LogicalPlan, Projection, SubqueryAlias};
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

/// The rule.
#[derive(Debug)]
pub(super) struct PushSemiJoinBelowJoin;

impl OptimizerRule for PushSemiJoinBelowJoin {
    fn name(&self) -> &'static str {
        "push_semi_join_below_join"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(semi) = &plan else {
            return Ok(Transformed::no(plan));
        };
        match pushed(semi)? {
            Some(pushed) => Ok(Transformed::yes(pushed)),
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// The join with the semi-join on the side whose columns it looks at; `None`: it stays.
fn pushed(semi: &Join) -> Result<Option<LogicalPlan>> {
    let is_plain = semi.join_type == JoinType::LeftSemi
        && semi.filter.is_none()
        && !semi.on.is_empty()
        && !semi.on.iter().any(|(own, _)| own.is_volatile());
    let LogicalPlan::Join(below) = semi.left.as_ref() else {
        return Ok(None);
    };
    if !is_plain || below.join_type != JoinType::Inner || !are_chosen_groups(&semi.right) {
        return Ok(None);
    }
    let looks_at = |side: &LogicalPlan| {
        let mut keys = semi.on.iter().map(|(own, _)| own);
        keys.all(|key| has_all(side.schema(), key))
    };
    let over = |side: &Arc<LogicalPlan>| {
        let semi = Join::try_new(
            Arc::clone(side),
            Arc::clone(&semi.right),
            semi.on.clone(),
            None,
            JoinType::LeftSemi,
            semi.join_constraint,
            semi.null_equality,
            false,
        );
        semi.map(|semi| Arc::new(LogicalPlan::Join(semi)))
    };
    let mut below = below.clone();
    if looks_at(&below.left) {
        below.left = over(&below.left)?;
    } else if looks_at(&below.right) {
        below.right = over(&below.right)?;
    } else {
        return Ok(None);
    }
    Ok(Some(LogicalPlan::Join(below)))
}

fn has_all(schema: &DFSchema, key: &Expr) -> bool {
    let columns = key.column_refs();
    !columns.is_empty() && columns.iter().all(|column| schema.has_column(column))
}

/// Whether it gives groups for which something is true.
fn are_chosen_groups(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
        | LogicalPlan::Projection(Projection { input, .. }) => are_chosen_groups(input),
        LogicalPlan::Filter(Filter { input, .. }) => is_grouped(input),
        _ => false,
    }
}

fn is_grouped(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => is_grouped(input),
        LogicalPlan::Aggregate(aggregate) => !aggregate.group_expr.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::Dataset;

    /// How many of the two joins of the query come after the condition was looked at.
    fn place(condition: &str) -> usize {
        let numbers = |name: &str| {
            let range = Dataset::range(10).expect("plans");
            let renamed = range.rename(&[("id".to_owned(), name.to_owned())]);
            (name.to_owned(), renamed.expect("plans"))
        };
        let tables = ["a", "b", "c", "d"].map(numbers);
        let query =
            format!("SELECT a, b, c FROM a, b, c WHERE a = b AND b + 1 = c AND {condition}");
        let plan = Dataset::sql(&query, &tables).expect("plans");
        let plan = plan.optimized().expect("can be optimised");
        let text = plan.display_indent().to_string();
        let depth = |line: &str| line.len() - line.trim_start().len();
        let is_semi =
            |line: &&str| line.contains("LeftSemi Join:") || line.contains("LeftAnti Join:");
        let lines: Vec<&str> = text.lines().collect();
        let semi = lines.iter().position(is_semi);
        let semi = semi.expect("is there");
        let (mut above, mut inner) = (depth(lines[semi]), 0);
        for line in lines[..semi].iter().rev() {
            if depth(line) < above {
                above = depth(line);
                inner += usize::from(line.contains("Inner Join:"));
            }
        }
        inner
    }

    #[test]
    fn chosen_groups_are_looked_at_before_rows_are_joined() {
        let groups =
            |key: &str| format!("{key} IN (SELECT d % 3 FROM d GROUP BY d % 3 HAVING sum(d) > 12)");
        assert_eq!(place(&groups("a")), 2);
        assert_eq!(place(&groups("b")), 2);
        assert_eq!(place(&groups("c")), 1);
        // It looks at both sides of the upper join, and at one of the lower.
        assert_eq!(place(&groups("a + c")), 0);
        assert_eq!(place(&groups("a + b")), 1);
        // Nobody knows that these are few.
        assert_eq!(place("a IN (SELECT d FROM d)"), 0);
        assert_eq!(place("a IN (SELECT d FROM d GROUP BY d)"), 0);
        assert_eq!(place("a IN (SELECT max(d) FROM d HAVING max(d) > 2)"), 0);
        // What is left out would come back.
        assert_eq!(place(&format!("NOT {}", groups("a"))), 0);
    }
}
