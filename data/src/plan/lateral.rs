//! `FROM docs, UNNEST(docs.tags)`: a list of the rows beside it, whose elements stand beside their own row.
//!
//! The engine plans it as a join with a query that sees columns of the other side, and has no rule that makes a join of it that can be
//! run. None is needed: what it selects from is the one row beside, so that all of it is done with the rows themselves.
//!
//! ```text
//! Join                                      Projection: docs.*, t1 AS t.tag
//!   Scan: docs                                Unnest: t1
//!   SubqueryAlias: t                            Projection: docs.*, docs.tags AS t1
//!     Subquery                          ->        Scan: docs
//!       Projection: UNNEST(..) AS tag
//!         Unnest
//!           Projection: outer(docs.tags)
//!             EmptyRelation: one row
//! ```
//!
//! It is done to the plan as it was written, so that functions that a list is computed by can be made steps of.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, NullHandling, Result, ScalarValue, TableReference, plan_err};
use datafusion_expr::logical_plan::{Subquery, Unnest};
use datafusion_expr::{
    EmptyRelation, Expr, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection,
    SubqueryAlias,
};

/// What names of columns have that are made on the way: a character for private use, which no user's has.
const MADE_ON_THE_WAY: char = '\u{e001}';

/// The plan with steps in the place of joins with lists of the rows beside.
pub(super) fn unnested_beside(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut made = 0;
    let replaced = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Join(join) = &node else {
            return Ok(Transformed::no(node));
        };
        Ok(match unnested(join, &mut made)? {
            Some(plan) => Transformed::yes(plan),
            None => Transformed::no(node),
        })
    });
    replaced.map(|replaced| replaced.data)
}

fn unnested(join: &Join, made: &mut usize) -> Result<Option<LogicalPlan>> {
    if let Some(beside) = Beside::of(join)? {
        return beside.replaced(made).map(Some);
    }
    // FROM a, UNNEST(a.list) JOIN b: the list is joined with b first, as it is written, and has to stand beside a before.
    let (JoinType::Inner, true, None, LogicalPlan::Join(rest)) = (
        join.join_type,
        join.on.is_empty(),
        &join.filter,
        join.right.as_ref(),
    ) else {
        return Ok(None);
    };
    if !matches!(rest.join_type, JoinType::Inner | JoinType::Left) {
        return Ok(None);
    }
    let first = LogicalPlanBuilder::from(LogicalPlan::clone(&join.left))
        .cross_join(LogicalPlan::clone(&rest.left))?
        .build()?;
    let LogicalPlan::Join(first) = first else {
        return Ok(None);
    };
    let Some(first) = unnested(&first, made)? else {
        return Ok(None);
    };
    let joined = Join::try_new(
        Arc::new(first),
        Arc::clone(&rest.right),
        rest.on.clone(),
        rest.filter.clone(),
        rest.join_type,
        rest.join_constraint,
        rest.null_equality,
        rest.null_aware,
    )?;
    Ok(Some(LogicalPlan::Join(joined)))
}

/// A join with what is selected from the one row beside.
struct Beside<'a> {
    join: &'a Join,
    /// The name of the table that it makes.
    table: Option<&'a TableReference>,
    /// What it does, the last step first.
    steps: Vec<&'a LogicalPlan>,
}

impl<'a> Beside<'a> {
    fn of(join: &'a Join) -> Result<Option<Self>> {
        let (table, subquery) = match join.right.as_ref() {
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
                (Some(alias), input.as_ref())
            }
            other => (None, other),
        };
        let LogicalPlan::Subquery(Subquery {
            subquery,
            outer_ref_columns,
            ..
        }) = subquery
        else {
            return Ok(None);
        };
        let own = join.left.schema();
        let is_own = |outer: &Expr| match outer {
            Expr::OuterReferenceColumn(_, column) => own.has_column(column),
            _ => false,
        };
        if !outer_ref_columns.iter().all(is_own) {
            return Ok(None);
        }
        let Some(steps) = steps_of(subquery) else {
            return Ok(None);
        };
        let is_left = join.join_type == JoinType::Left;
        if !(is_left || join.join_type == JoinType::Inner) || !join.on.is_empty() {
            return plan_err!(
                "UNNEST of a column stands beside its own row: write it behind a comma, or with CROSS JOIN or LEFT JOIN ... ON true"
            );
        }
        let is_plain = steps.iter().all(|step| match step {
            LogicalPlan::Filter(_) => false,
            LogicalPlan::Projection(projection) => {
                is_first(projection) || projection.expr.iter().all(is_plain)
            }
            _ => true,
        });
        if is_left && !(is_plain && join.filter.as_ref().is_none_or(is_true)) {
            return plan_err!(
                "LEFT JOIN with UNNEST keeps rows without elements, and can ask for nothing of the elements: write ON true, and \
                 conditions and computed columns into the query around it"
            );
        }
        Ok(Some(Self { join, table, steps }))
    }

    fn replaced(&self, made: &mut usize) -> Result<LogicalPlan> {
        let own: Vec<Expr> = columns_of(&self.join.left);
        let mut rows = RowsBeside {
            plan: LogicalPlan::clone(&self.join.left),
            own: own.clone(),
            names: Vec::new(),
            keeps_empty: self.join.join_type == JoinType::Left,
            made,
        };
        for step in self.steps.iter().rev() {
            rows.add(step)?;
        }
        let schema = self.join.right.schema();
        let beside = rows
            .names
            .iter()
            .zip(schema.iter())
            .map(|(name, (_, field))| {
                let column = Expr::Column(Column::new_unqualified(name));
                column.alias_qualified(self.table.cloned(), field.name())
            });
        let columns: Vec<Expr> = own.into_iter().chain(beside).collect();
        let joined = LogicalPlanBuilder::from(rows.plan).project(columns)?;
        match &self.join.filter {
            Some(filter) if self.join.join_type == JoinType::Inner => {
                joined.filter(filter.clone())?.build()
            }
            _ => joined.build(),
        }
    }
}

/// What is done with one row and its lists, the last step first, if it is nothing else.
fn steps_of(plan: &LogicalPlan) -> Option<Vec<&LogicalPlan>> {
    let mut steps = Vec::new();
    let mut next = plan;
    loop {
        next = match next {
            LogicalPlan::Projection(Projection { input, .. })
            | LogicalPlan::Filter(Filter { input, .. })
            | LogicalPlan::Unnest(Unnest { input, .. }) => {
                steps.push(next);
                input
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => {
                steps.push(next);
                input
            }
            LogicalPlan::EmptyRelation(EmptyRelation {
                produce_one_row: true,
                ..
            }) => return Some(steps),
            _ => return None,
        };
    }
}

fn is_first(projection: &Projection) -> bool {
    matches!(projection.input.as_ref(), LogicalPlan::EmptyRelation(_))
}

fn is_plain(expr: &Expr) -> bool {
    matches!(expr.clone().unalias(), Expr::Column(_))
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect()
}

/// The rows, with what the steps have made of them.
struct RowsBeside<'a> {
    plan: LogicalPlan,
    /// Their own columns, which come first.
    own: Vec<Expr>,
    /// Behind them: of each column of the last step, its name here.
    names: Vec<String>,
    keeps_empty: bool,
    made: &'a mut usize,
}

impl RowsBeside<'_> {
    fn add(&mut self, step: &LogicalPlan) -> Result<()> {
        let rows = LogicalPlanBuilder::from(self.plan.clone());
        self.plan = match step {
            LogicalPlan::Projection(projection) => {
                let mut columns = self.own.clone();
                let mut names = Vec::with_capacity(projection.expr.len());
                for expr in &projection.expr {
                    let name = self.new_name();
                    columns.push(
                        self.here(expr.clone().unalias(), &projection.input)?
                            .alias(&name),
                    );
                    names.push(name);
                }
                self.names = names;
                rows.project(columns)?.build()?
            }
            LogicalPlan::Filter(filter) => rows
                .filter(self.here(filter.predicate.clone(), &filter.input)?)?
                .build()?,
            LogicalPlan::Unnest(unnest) => {
                let plan = self.unnest(unnest)?;
                let made = plan.schema().fields().iter().skip(self.own.len());
                self.names = made.map(|field| field.name().clone()).collect();
                plan
            }
            // Columns are known by their places.
            _ => return Ok(()),
        };
        Ok(())
    }

    fn unnest(&mut self, unnest: &Unnest) -> Result<LogicalPlan> {
        let input = unnest.input.schema();
        let column = |column: &Column| {
            let place = input.index_of_column(column)?;
            Ok(Column::new_unqualified(&self.names[place]))
        };
        let columns: Result<Vec<Column>> = unnest.exec_columns.iter().map(column).collect();
        let mut options = unnest.options.clone();
        for recursion in &mut options.recursions {
            recursion.input_column = column(&recursion.input_column)?;
        }
        if self.keeps_empty {
            options.null_handling = NullHandling::PreserveAndExpandEmpty;
        }
        for recursion in &mut options.recursions {
            recursion.output_column = Column::new_unqualified(self.new_name());
        }
        LogicalPlanBuilder::from(self.plan.clone())
            .unnest_columns_with_options(columns?, options)?
            .build()
    }

    /// The expression over these rows. What was a column of the row beside is one of its own.
    fn here(&self, expr: Expr, input: &LogicalPlan) -> Result<Expr> {
        let here = expr.transform(|part| {
            Ok(match part {
                Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
                Expr::Column(column) => {
                    let place = input.schema().index_of_column(&column)?;
                    let name = &self.names[place];
                    Transformed::yes(Expr::Column(Column::new_unqualified(name)))
                }
                other => Transformed::no(other),
            })
        });
        here.map(|here| here.data)
    }

    fn new_name(&mut self) -> String {
        *self.made += 1;
        format!("{MADE_ON_THE_WAY}{}", self.made)
    }
}
