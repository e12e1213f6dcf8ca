//! Aggregation as a query in SQL asks for it: any function of the engine, over columns that the plan knows.

use arrow::datatypes::SchemaRef;
use datafusion_expr::Aggregate;

use super::fragment::AggregatePhase;
use super::partition::RangeKey;
use crate::plan::Expression;

/// One row for all rows with the same keys; one for all rows where there are no keys.
///
/// Beside [`Aggregate`](super::Aggregate), whose columns may only be known at run, this one carries the columns of its rows: both
/// halves make the same functions of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// Which half of the work this is.
    pub phase: AggregatePhase,
    /// The columns of the rows, of both halves.
    pub rows: SchemaRef,
    /// Those of the keys. Nulls are equal to each other.
    pub keys: Vec<String>,
    /// Rows are grouped once for each of these, and the keys of which it says so are null; empty: once, by all keys.
    pub sets: Vec<Vec<bool>>,
    /// What is told of each group, behind the keys.
    pub calls: Vec<FoldCall>,
}

impl Fold {
    /// Of which set a group is, where there are several.
    pub(crate) const GROUPING_ID: &str = Aggregate::INTERNAL_GROUPING_ID;

    /// The columns of states and results that tell groups apart.
    pub(crate) fn group_columns(&self) -> Vec<String> {
        let mut columns = self.keys.clone();
        if !self.sets.is_empty() {
            columns.push(Self::GROUPING_ID.to_owned());
        }
        columns
    }

    /// How many of its sets have no key: each of them is a row, also where there are no rows.
    pub(crate) fn totals(&self) -> usize {
        let is_total = |set: &&Vec<bool>| set.iter().all(|is_null| *is_null);
        self.sets.iter().filter(is_total).count()
    }
}

/// One result per group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldCall {
    /// The function, by its name in SQL.
    pub function: String,
    /// Columns and values.
    pub arguments: Vec<Expression>,
    /// The column that tells which rows count; `None`: all do.
    pub filter: Option<String>,
    /// The order in which it sees the rows.
    pub order: Vec<RangeKey>,
    /// Whether equal rows count once.
    pub is_distinct: bool,
    /// Whether nulls are left out by a function that would take them.
    pub ignores_nulls: bool,
    /// The column of the result.
    pub name: String,
}
