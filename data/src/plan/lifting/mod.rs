//! Calls of functions in a query become steps of their own below the node that calls them.
//!
//! ```text
//! Projection: f(a + 1) * 2 AS b         Projection: t1 * 2 AS b
//!   Scan                                  Map: f reads t0, makes t1
//!                                           Projection: *, a + 1 AS t0
//!                                             Scan
//! ```
//!
//! It is done to the plan as it was written, before the rules of the engine: behind it there are maps, which these rules know. Filters on
//! columns that pass by go below them, and columns that nobody wants are left out.
//!
//! Conditions that call no function are looked at before any is called, the others one after the other, as they are written: each call
//! gets the rows that are left. The same call in several places of a `SELECT`, also in its `WHERE`, is one step.

mod calls;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DataFusionError, Result, plan_err};
use datafusion_expr::expr::GroupingSet;
use datafusion_expr::logical_plan::Subquery;
use datafusion_expr::utils::split_conjunction_owned;
use datafusion_expr::{
    Aggregate, Expr, Filter, Join, Limit, LogicalPlan, LogicalPlanBuilder, Projection, Sort,
    SortExpr, Window,
};

use self::rows::{LiftedRows, columns_of};
use super::query_functions::QueryFunctions;
use crate::error::PlanError;

/// The plan with steps in the place of calls of `functions`.
pub(super) fn lifted(
    plan: LogicalPlan,
    functions: &QueryFunctions<'_>,
    explain: impl Fn(&DataFusionError) -> PlanError,
) -> Result<LogicalPlan, PlanError> {
    if functions.is_empty() {
        return Ok(plan);
    }
    let mut lifting = Lifting {
        functions,
        made: HashMap::new(),
        keeps_known: false,
        failure: None,
    };
    let lifted = lifting.whole(plan).and_then(|plan| {
        lifting.check(&plan)?;
        Ok(plan)
    });
    lifted.map_err(|error| match lifting.failure.take() {
        Some(failure) => failure,
        None => explain(&error),
    })
}

struct Lifting<'a> {
    functions: &'a QueryFunctions<'a>,
    /// How often a name was made.
    made: HashMap<String, usize>,
    /// Whether the node above the next one wants to know what was called below that.
    keeps_known: bool,
    /// Why a call can be no step.
    failure: Option<PlanError>,
}

impl<'a> Lifting<'a> {
    /// The plan with the columns that it had.
    fn whole(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let schema = Arc::clone(plan.schema());
        let mut rows = self.rows(plan)?;
        let plan = Arc::unwrap_or_clone(rows.take()?);
        if !rows.is_wider {
            return Ok(plan);
        }
        let own = columns_of(&schema).collect::<Vec<_>>();
        LogicalPlanBuilder::from(plan).project(own)?.build()
    }

    fn rows(&mut self, plan: LogicalPlan) -> Result<LiftedRows> {
        let keeps_known = std::mem::take(&mut self.keeps_known);
        if self.call_in(&plan)?.is_none() {
            return LiftedRows::of(plan);
        }
        let plan = plan
            .map_subqueries(|plan| self.subquery(plan).map(Transformed::yes))?
            .data;
        match plan {
            LogicalPlan::Projection(projection) => self.projection(projection, keeps_known),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Sort(sort) => self.sort(sort),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Limit(limit) => {
                let mut rows = self.rows(Arc::unwrap_or_clone(limit.input))?;
                let input = rows.take()?;
                rows.set(LogicalPlan::Limit(Limit { input, ..limit }));
                Ok(rows)
            }
            other => {
                let lifted = other.map_children(|input| self.whole(input).map(Transformed::yes))?;
                lifted.data.recompute_schema().and_then(LiftedRows::of)
            }
        }
    }

    fn subquery(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let LogicalPlan::Subquery(subquery) = plan else {
            return Ok(plan);
        };
        let inner = self.whole(Arc::unwrap_or_clone(subquery.subquery))?;
        Ok(LogicalPlan::Subquery(Subquery {
            subquery: Arc::new(inner),
            ..subquery
        }))
    }

    fn projection(&mut self, projection: Projection, keeps_known: bool) -> Result<LiftedRows> {
        let mut rows = self.rows(Arc::unwrap_or_clone(projection.input))?;
        let mut columns = self.named(projection.expr, &mut rows)?;
        let known = match keeps_known {
            true => rows.known_beside(&mut columns),
            false => HashMap::new(),
        };
        let projection = Projection::try_new(columns, rows.take()?)?;
        let mut rows = LiftedRows::of(LogicalPlan::Projection(projection))?;
        rows.is_wider = !known.is_empty();
        rows.known = known;
        Ok(rows)
    }

    fn filter(&mut self, filter: Filter) -> Result<LiftedRows> {
        let mut rows = self.rows(Arc::unwrap_or_clone(filter.input))?;
        let conditions = split_conjunction_owned(filter.predicate).into_iter();
        let (calling, plain): (Vec<Expr>, Vec<Expr>) =
            conditions.partition(|condition| self.functions.name_in(condition).is_some());
        rows.filter(plain)?;
        for condition in calling {
            let condition = self.replaced(condition, &mut rows)?;
            rows.filter(vec![condition])?;
        }
        Ok(rows)
    }

    fn aggregate(&mut self, aggregate: Aggregate) -> Result<LiftedRows> {
        let mut rows = self.rows(Arc::unwrap_or_clone(aggregate.input))?;
        let mut keys = Vec::with_capacity(aggregate.group_expr.len());
        for key in aggregate.group_expr {
            keys.push(match key {
                Expr::GroupingSet(sets) => Expr::GroupingSet(self.sets(sets, &mut rows)?),
                key => self.key(key, &mut rows)?,
            });
        }
        let calls = self.named(aggregate.aggr_expr, &mut rows)?;
        let aggregate = Aggregate::try_new(rows.take()?, keys, calls)?;
        LiftedRows::of(LogicalPlan::Aggregate(aggregate))
    }

    fn sets(&mut self, sets: GroupingSet, rows: &mut LiftedRows) -> Result<GroupingSet> {
        let mut keys = |keys: Vec<Expr>| -> Result<Vec<Expr>> {
            keys.into_iter().map(|key| self.key(key, rows)).collect()
        };
        Ok(match sets {
            GroupingSet::Rollup(all) => GroupingSet::Rollup(keys(all)?),
            GroupingSet::Cube(all) => GroupingSet::Cube(keys(all)?),
            GroupingSet::GroupingSets(sets) => {
                let sets: Result<_> = sets.into_iter().map(keys).collect();
                GroupingSet::GroupingSets(sets?)
            }
        })
    }

    /// A key of groups; one that calls functions is a column of the name that the key has behind the groups.
    fn key(&mut self, key: Expr, rows: &mut LiftedRows) -> Result<Expr> {
        if self.functions.name_in(&key).is_none() {
            return Ok(key);
        }
        let column = Column::new_unqualified(key.schema_name().to_string());
        if !rows.schema().has_column(&column) {
            let computed = self.replaced(key, rows)?.alias(&column.name);
            rows.compute(vec![computed])?;
        }
        Ok(Expr::Column(column))
    }

    fn window(&mut self, window: Window) -> Result<LiftedRows> {
        let mut rows = self.rows(Arc::unwrap_or_clone(window.input))?;
        let calls = self.named(window.window_expr, &mut rows)?;
        let window = Window::try_new(calls, rows.take()?)?;
        rows.set(LogicalPlan::Window(window));
        Ok(rows)
    }

    fn sort(&mut self, sort: Sort) -> Result<LiftedRows> {
        let mut called = sort.expr.iter();
        self.keeps_known = called.any(|key| self.functions.name_in(&key.expr).is_some());
        let mut rows = self.rows(Arc::unwrap_or_clone(sort.input))?;
        let mut keys = Vec::with_capacity(sort.expr.len());
        for key in sort.expr {
            let expr = self.replaced(key.expr, &mut rows)?;
            keys.push(SortExpr { expr, ..key });
        }
        let input = rows.take()?;
        rows.set(LogicalPlan::Sort(Sort {
            expr: keys,
            input,
            fetch: sort.fetch,
        }));
        Ok(rows)
    }

    /// A function of a condition is called on the side that it looks at, before rows meet.
    fn join(&mut self, join: Join) -> Result<LiftedRows> {
        let mut sides = [
            self.rows(Arc::unwrap_or_clone(join.left))?,
            self.rows(Arc::unwrap_or_clone(join.right))?,
        ];
        let mut on = Vec::with_capacity(join.on.len());
        for (one, other) in join.on {
            let one = self.replaced(one, &mut sides[0])?;
            on.push((one, self.replaced(other, &mut sides[1])?));
        }
        let filter = match join.filter {
            Some(filter) => Some(self.replaced_beside(filter, &mut sides)?),
            None => None,
        };
        let is_wider = sides.iter().any(|side| side.is_wider);
        let [left, right] = &mut sides;
        let joined = Join::try_new(
            left.take()?,
            right.take()?,
            on,
            filter,
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        let mut rows = LiftedRows::of(LogicalPlan::Join(joined))?;
        rows.is_wider = is_wider;
        Ok(rows)
    }

    /// The name of a function that the plan calls, its subqueries included.
    fn call_in(&self, plan: &LogicalPlan) -> Result<Option<String>> {
        let mut found = None;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                found = found.take().or_else(|| self.functions.name_in(expr));
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(found)
    }

    /// Fails if there is a call in a place that no step can be made for.
    fn check(&mut self, plan: &LogicalPlan) -> Result<()> {
        match self.call_in(plan)? {
            None => Ok(()),
            Some(name) => self.refuse(format!(
                "{name}() cannot be called here: call it in a subquery, (SELECT *, {name}(...) AS y FROM ...), and write y"
            )),
        }
    }

    /// Fails for these reasons.
    fn refuse<T>(&mut self, why: String) -> Result<T> {
        self.failure = Some(PlanError::InvalidArgument(format!("sql(): {why}")));
        plan_err!("{why}")
    }
}
