//! Relational steps over columns that nobody knows yet.
//!
//! After a function whose output columns are unknown, `filter(expr=...)`, `select_columns` and the like cannot be bound
//! to types. They travel by name in these nodes and are bound by the worker to the first block. Where all their columns
//! are known, the ordinary nodes of the planner are used instead.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use datafusion_common::{DFSchema, DFSchemaRef, Result};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::openness::is_open;
use crate::graph::Unnest;
use crate::plan::Expression;

/// A step bound at run time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LateStep {
    /// Rows for which the expression is true.
    Filter(Expression),
    /// These columns, in this order.
    Select(Vec<String>),
    /// All but these columns.
    Drop(Vec<String>),
    /// Old name, new name.
    Rename(Vec<(String, String)>),
    /// These columns besides, or in the place of those of their name.
    Compute(Vec<(String, Expression)>),
    /// A row for each element of these lists.
    Unnest(Unnest),
    /// The rows have these columns, and no others: somebody has seen the first of them.
    Declare(SchemaRef),
}

impl LateStep {
    /// The name of a column after this step, if it is still there.
    fn rename<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self {
            Self::Filter(_) => Some(name),
            Self::Declare(columns) => columns.index_of(name).is_ok().then_some(name),
            Self::Select(names) => names.iter().any(|kept| kept == name).then_some(name),
            Self::Drop(names) => (!names.iter().any(|dropped| dropped == name)).then_some(name),
            Self::Rename(pairs) => {
                let pair = pairs.iter().find(|(old, _)| old == name);
                Some(pair.map_or(name, |(_, new)| new.as_str()))
            }
            // The type of its elements is known when they are taken.
            Self::Unnest(unnest) => {
                (!unnest.columns.iter().any(|column| column == name)).then_some(name)
            }
            // Its type is known when it is computed.
            Self::Compute(columns) => columns
                .iter()
                .all(|(computed, _)| computed != name)
                .then_some(name),
        }
    }

    /// The step over an input of which some columns are no longer read: it must not ask for them.
    fn without(&self, is_unread: impl Fn(&str) -> bool) -> Self {
        let read = |names: &[String]| {
            let read = names.iter().filter(|name| !is_unread(name));
            read.cloned().collect()
        };
        match self {
            Self::Select(names) => Self::Select(read(names)),
            Self::Drop(names) => Self::Drop(read(names)),
            Self::Rename(pairs) => {
                let read = pairs.iter().filter(|(old, _)| !is_unread(old));
                Self::Rename(read.cloned().collect())
            }
            Self::Filter(_) | Self::Compute(_) | Self::Declare(_) | Self::Unnest(_) => self.clone(),
        }
    }
}

/// [`LateStep`] over an input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LateNode {
    /// What to do.
    pub step: LateStep,
    input: LogicalPlan,
    schema: DFSchemaRef,
}

impl LateNode {
    /// The node that does `step` over `input`.
    pub fn try_new(step: LateStep, input: LogicalPlan) -> Result<Self> {
        if let LateStep::Declare(columns) = &step {
            let schema = Arc::new(DFSchema::try_from(Arc::clone(columns))?);
            return Ok(Self {
                step,
                input,
                schema,
            });
        }
        let mut fields = Vec::new();
        for (qualifier, field) in input.schema().iter() {
            let Some(name) = step.rename(field.name()) else {
                continue;
            };
            if name == field.name() {
                fields.push((qualifier.cloned(), Arc::clone(field)));
            } else {
                fields.push((None, Arc::new(Field::clone(field).with_name(name))));
            }
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self {
            step,
            input,
            schema,
        })
    }

    /// What the node reads from.
    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }

    /// Whether columns may come out that the schema does not know.
    pub fn is_open(&self) -> bool {
        !matches!(self.step, LateStep::Declare(_)) && is_open(&self.input)
    }
}

impl PartialOrd for LateNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for LateNode {
    fn name(&self) -> &str {
        "Late"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let renamed = match &self.step {
            LateStep::Rename(pairs) => pairs.iter().map(|(_, new)| new.clone()).collect(),
            LateStep::Compute(columns) => columns.iter().map(|(name, _)| name.clone()).collect(),
            LateStep::Unnest(unnest) => unnest.columns.iter().cloned().collect(),
            // Their types are those that were declared behind this node alone.
            LateStep::Declare(columns) => {
                let names = columns.fields().iter().map(|field| field.name().clone());
                names.collect()
            }
            _ => HashSet::new(),
        };
        let unknown_below = self
            .schema
            .fields()
            .iter()
            .map(|field| field.name().clone());
        let below = self.input.schema();
        renamed
            .into_iter()
            .chain(unknown_below.filter(|name| below.field_with_unqualified_name(name).is_err()))
            .collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.step {
            LateStep::Filter(predicate) => write!(f, "Filter (bound at run time): {predicate}"),
            LateStep::Select(names) => {
                write!(f, "Select (bound at run time): {}", names.join(", "))
            }
            LateStep::Drop(names) => write!(f, "Drop (bound at run time): {}", names.join(", ")),
            LateStep::Rename(pairs) => {
                let pairs: Vec<_> = pairs
                    .iter()
                    .map(|(old, new)| format!("{old} AS {new}"))
                    .collect();
                write!(f, "Rename (bound at run time): {}", pairs.join(", "))
            }
            LateStep::Compute(columns) => {
                let columns: Vec<_> = columns
                    .iter()
                    .map(|(name, expression)| format!("{expression} AS {name}"))
                    .collect();
                write!(f, "Compute (bound at run time): {}", columns.join(", "))
            }
            LateStep::Unnest(unnest) => {
                write!(
                    f,
                    "Unnest (bound at run time): {}",
                    unnest.columns.join(", ")
                )
            }
            LateStep::Declare(columns) => {
                let names: Vec<&str> = columns
                    .fields()
                    .iter()
                    .map(|field| field.name().as_str())
                    .collect();
                write!(f, "Declare: {}", names.join(", "))
            }
        }
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.swap_remove(0);
        let has =
            |plan: &LogicalPlan, name: &str| plan.schema().has_column_with_unqualified_name(name);
        let step = self
            .step
            .without(|name| has(&self.input, name) && !has(&input, name));
        Self::try_new(step, input)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // The columns of a filter may only be known by its text; and all that were declared must come.
        if matches!(self.step, LateStep::Filter(_) | LateStep::Declare(_)) {
            return None;
        }
        let wanted: HashSet<&str> = output_columns
            .iter()
            .map(|&index| self.schema.field(index).name().as_str())
            .collect();
        let mut read = HashSet::new();
        if let LateStep::Compute(columns) = &self.step {
            for (name, expression) in columns {
                // What is replaced tells where it stands.
                read.insert(name.as_str());
                read.extend(expression.columns()?);
            }
        }
        if let LateStep::Unnest(unnest) = &self.step {
            read.extend(unnest.columns.iter().map(String::as_str));
        }
        let fields = self.input.schema().fields().iter().enumerate();
        let needed = fields
            .filter(|(_, field)| {
                let new = self.step.rename(field.name());
                new.is_some_and(|new| wanted.contains(new)) || read.contains(field.name().as_str())
            })
            .map(|(index, _)| index);
        Some(vec![needed.collect()])
    }

    fn supports_limit_pushdown(&self) -> bool {
        !matches!(self.step, LateStep::Filter(_) | LateStep::Unnest(_))
    }
}
