//! Expressions: text to logical to physical, and to text where they leave the process.
//!
//! Between processes an expression travels as SQL text (ADR 014). The worker binds it to the columns that a block really has,
//! so that the same path serves expressions over columns whose types nobody knows before a function has returned them.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, DataFusionError};
use datafusion_expr::Expr;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_sql::unparser::Unparser;
use datafusion_sql::unparser::dialect::CustomDialectBuilder;

use crate::plan::planner::planner;

/// Reads `text` as an expression over `schema`.
pub(crate) fn parse(text: &str, schema: &DFSchema) -> Result<Expr, DataFusionError> {
    let expr = planner().logical(text, schema)?;
    // Binding proves that the types fit together.
    planner().physical(expr.clone(), schema)?;
    Ok(expr)
}

/// Fails if `text` is not an expression at all, whatever the columns are.
pub(crate) fn check_syntax(text: &str) -> Result<(), DataFusionError> {
    planner().syntax(text).map(|_| ())
}

/// An expression on its way from the plan to the worker that computes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// Over columns that the plan knows.
    Planned(Expr),
    /// As SQL text, over columns that only a run will show.
    Text(String),
}

impl Expression {
    /// The text from which a worker makes the same expression again.
    pub(crate) fn to_text(&self) -> Result<String, DataFusionError> {
        match self {
            Self::Planned(expr) => unparse(expr),
            Self::Text(text) => Ok(text.clone()),
        }
    }

    /// Makes it executable over batches of `schema`.
    pub(crate) fn bind(&self, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        match self {
            Self::Planned(expr) => {
                let schema = DFSchema::try_from(schema.clone())?;
                planner().physical(unqualified(expr)?, &schema)
            }
            Self::Text(text) => bind(text, schema),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planned(expr) => write!(f, "{expr}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Without the names of tables, and without other names for the whole.
fn unqualified(expr: &Expr) -> Result<Expr, DataFusionError> {
    let transformed = expr.clone().transform(|node| {
        Ok(match node {
            Expr::Column(column) if column.relation.is_some() => {
                Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
            }
            Expr::Alias(alias) => Transformed::yes(*alias.expr),
            other => Transformed::no(other),
        })
    })?;
    Ok(transformed.data)
}

/// The text from which [`bind`] makes the same expression again.
pub(crate) fn unparse(expr: &Expr) -> Result<String, DataFusionError> {
    let dialect = CustomDialectBuilder::new()
        .with_identifier_quote_style('"')
        .build();
    let sql = Unparser::new(&dialect).expr_to_sql(&unqualified(expr)?)?;
    Ok(sql.to_string())
}

/// Makes `text` executable over batches of `schema`.
pub(crate) fn bind(text: &str, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let schema = DFSchema::try_from(schema.clone())?;
    let expr = planner().logical(text, &schema)?;
    planner().physical(expr, &schema)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, TimeUnit};

    use super::*;

    fn schema() -> DFSchema {
        let fields = vec![
            Field::new("Id", DataType::Int32, true),
            Field::new("text", DataType::Utf8, true),
            Field::new("a.b", DataType::Float64, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ];
        DFSchema::try_from(Schema::new(fields)).expect("names are distinct")
    }

    #[test]
    fn expressions_survive_the_way_through_text() {
        for text in [
            "Id > 3",
            "Id == 3 AND text <> 'it''s'",
            "\"a.b\" / 2 >= 0.25 OR text IS NULL",
            "text LIKE 'a%' AND length(text) < 10",
            "Id IN (1, 2, 3)",
            "at >= '2026-01-01T00:00:00'",
            "CAST(Id AS VARCHAR) = '7'",
            "NOT (Id BETWEEN 1 AND 5)",
        ] {
            let expr = parse(text, &schema()).expect(text);
            let again = unparse(&expr).expect(text);
            let reparsed = parse(&again, &schema()).expect(&again);
            assert_eq!(unparse(&reparsed).expect(text), again);
        }
    }

    #[test]
    fn capitals_in_names_are_kept() {
        assert!(parse("id > 3", &schema()).is_err());
        assert!(parse("Id > 3", &schema()).is_ok());
    }
}
