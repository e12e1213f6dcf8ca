//! Expressions: text to logical to physical.
//!
//! An expression is a tree from where it is written to where it is computed, and travels as one (ADR 099). Only text over columns
//! that nobody knows before a function has returned them stays text: the worker reads and binds it to the columns that a batch
//! really has.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, DataFusionError};
use datafusion_expr::Expr;
use datafusion_expr::expr::LambdaVariable;
use datafusion_physical_expr::PhysicalExpr;

use crate::plan::functions::with_row_numbers;
use crate::plan::planner::planner;
use crate::wire;

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expression {
    /// A tree. Its types are made to fit when it is bound.
    Planned(Expr),
    /// As SQL text, over columns that only a run will show.
    Text(String),
}

impl Expression {
    /// `expr` over the columns of batches, which belong to no table. Fails if it holds what no worker can compute.
    pub(crate) fn planned(expr: &Expr) -> Result<Self, DataFusionError> {
        let planned = unqualified(expr)?;
        wire::expression::encode_expression(&planned)?;
        Ok(Self::Planned(planned))
    }

    /// Makes it executable over batches of `schema`.
    pub(crate) fn bind(&self, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        let schema = DFSchema::try_from(schema.clone())?;
        planner().physical(self.resolved(&schema)?, &schema)
    }

    /// The same over batches that have the numbers of their rows as one column more if the answer is true.
    pub(crate) fn bind_with_rows(
        &self,
        schema: &Schema,
    ) -> Result<(Arc<dyn PhysicalExpr>, bool), DataFusionError> {
        let known = DFSchema::try_from(schema.clone())?;
        let expr = self.resolved(&known)?;
        match with_row_numbers(&expr, schema)? {
            Some((expr, schema)) => {
                let schema = DFSchema::try_from(schema)?;
                Ok((planner().physical(expr, &schema)?, true))
            }
            None => Ok((planner().physical(expr, &known)?, false)),
        }
    }

    fn resolved(&self, schema: &DFSchema) -> Result<Expr, DataFusionError> {
        match self {
            Self::Planned(expr) => unqualified(expr),
            Self::Text(text) => planner().logical(text, schema),
        }
    }

    /// The columns that it reads; `None`: only a run will show.
    pub(crate) fn columns(&self) -> Option<Vec<&str>> {
        match self {
            Self::Planned(expr) => {
                let columns = expr.column_refs().into_iter();
                Some(columns.map(|column| column.name.as_str()).collect())
            }
            Self::Text(_) => None,
        }
    }
}

impl From<&str> for Expression {
    /// SQL.
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planned(expr) => write!(f, "{}", expr.human_display()),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Without the names of tables, without other names for the whole, and without types of what lambdas get, which batches tell.
fn unqualified(expr: &Expr) -> Result<Expr, DataFusionError> {
    let transformed = expr.clone().transform(|node| {
        Ok(match node {
            Expr::Column(column) if column.relation.is_some() => {
                Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
            }
            Expr::Alias(alias) => Transformed::yes(*alias.expr),
            Expr::LambdaVariable(variable) => Transformed::yes(Expr::LambdaVariable(
                LambdaVariable::new(variable.name, None),
            )),
            other => Transformed::no(other),
        })
    })?;
    Ok(transformed.data)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn schema() -> DFSchema {
        let fields = vec![Field::new("Id", DataType::Int32, true)];
        DFSchema::try_from(Schema::new(fields)).expect("names are distinct")
    }

    #[test]
    fn capitals_in_names_are_kept() {
        assert!(parse("id > 3", &schema()).is_err());
        assert!(parse("Id > 3", &schema()).is_ok());
    }

    #[test]
    fn what_no_worker_can_compute_is_refused_where_it_is_planned() {
        let placeholder = Expr::Placeholder(datafusion_expr::expr::Placeholder::new_with_field(
            "$1".to_owned(),
            None,
        ));
        let failure = Expression::planned(&placeholder).expect_err("has no value");
        assert!(
            failure
                .to_string()
                .contains("cannot be computed by workers")
        );
    }
}
