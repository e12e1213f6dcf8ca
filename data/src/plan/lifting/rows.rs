//! Rows on their way to a node, with what was made of them for it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion_common::{Column, DFSchema, Result, TableReference};
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder};

/// What a node gets of the one below it.
pub(super) struct LiftedRows {
    plan: LogicalPlan,
    /// Conditions on columns of an outer query. The engine finds them at the top alone, so they stay there while functions go below.
    outer: Vec<Expr>,
    /// Calls whose results are columns, over columns of these rows.
    pub(super) known: HashMap<Expr, Expr>,
    /// Whether there are columns that were made on the way.
    pub(super) is_wider: bool,
}

impl LiftedRows {
    pub(super) fn of(plan: LogicalPlan) -> Result<Self> {
        let mut rows = Self {
            plan,
            outer: Vec::new(),
            known: HashMap::new(),
            is_wider: false,
        };
        if let LogicalPlan::Filter(filter) = &rows.plan
            && filter.predicate.contains_outer()
        {
            let Filter {
                predicate, input, ..
            } = filter.clone();
            rows.plan = Arc::unwrap_or_clone(input);
            rows.filter(split_conjunction_owned(predicate))?;
        }
        Ok(rows)
    }

    /// Leaves out rows for which one of these is not true.
    pub(super) fn filter(&mut self, conditions: Vec<Expr>) -> Result<()> {
        let (outer, own): (Vec<Expr>, Vec<Expr>) =
            conditions.into_iter().partition(Expr::contains_outer);
        self.outer.extend(outer);
        self.plan = filtered(self.plan.clone(), own)?;
        Ok(())
    }

    /// All that was made, for a node above.
    pub(super) fn take(&mut self) -> Result<Arc<LogicalPlan>> {
        let plan = filtered(self.plan.clone(), std::mem::take(&mut self.outer))?;
        Ok(Arc::new(plan))
    }

    /// A node over what was made, whose rows have the same columns.
    pub(super) fn set(&mut self, plan: LogicalPlan) {
        self.plan = plan;
    }

    /// A step over what was made.
    pub(super) fn widen(&mut self, plan: LogicalPlan) {
        self.plan = plan;
        self.is_wider = true;
    }

    pub(super) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    pub(super) fn schema(&self) -> &DFSchema {
        self.plan.schema()
    }

    /// The calls whose arguments are among the columns of a projection, which then has their results, too.
    pub(super) fn known_beside(&mut self, columns: &mut Vec<Expr>) -> HashMap<Expr, Expr> {
        let mut known = std::mem::take(&mut self.known);
        known.retain(|call, _| {
            let mut arguments = call.column_refs().into_iter();
            arguments.all(|column| columns.contains(&Expr::Column(column.clone())))
        });
        let made = known.values().flat_map(Expr::column_refs);
        let mut made: Vec<Expr> = made.cloned().map(Expr::Column).collect();
        made.sort_by_key(ToString::to_string);
        made.dedup();
        made.retain(|column| !columns.contains(column));
        columns.extend(made);
        known
    }

    /// Adds columns.
    pub(super) fn compute(&mut self, columns: Vec<Expr>) -> Result<()> {
        if columns.is_empty() {
            return Ok(());
        }
        let all = columns_of(self.plan.schema()).chain(columns);
        let all: Vec<Expr> = all.collect();
        let builder = LogicalPlanBuilder::from(self.plan.clone());
        self.widen(builder.project(all)?.build()?);
        Ok(())
    }

    /// What batches call the column, if that is its name whatever else there is.
    pub(super) fn name_of(&self, column: &Column) -> Option<String> {
        let fields = self.plan.schema().fields().iter();
        let namesakes = fields.filter(|field| *field.name() == column.name).count();
        (namesakes == 1).then(|| column.name.clone())
    }
}

fn filtered(plan: LogicalPlan, conditions: Vec<Expr>) -> Result<LogicalPlan> {
    match conjunction(conditions) {
        Some(condition) => Filter::try_new(condition, Arc::new(plan)).map(LogicalPlan::Filter),
        None => Ok(plan),
    }
}

/// All columns, as expressions.
pub(super) fn columns_of(schema: &DFSchema) -> impl Iterator<Item = Expr> {
    let column = |(table, field): (Option<&TableReference>, &Arc<Field>)| {
        Expr::Column(Column::new(table.cloned(), field.name()))
    };
    schema.iter().map(column)
}
