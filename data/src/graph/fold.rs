//! Aggregation as a query in SQL asks for it: any function of the engine, over columns that the plan knows.

use arrow::datatypes::SchemaRef;

use super::fragment::AggregatePhase;
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
    /// What is told of each group, behind the keys.
    pub calls: Vec<FoldCall>,
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
    /// Whether equal rows count once.
    pub is_distinct: bool,
    /// Whether nulls are left out by a function that would take them.
    pub ignores_nulls: bool,
    /// The column of the result.
    pub name: String,
}
