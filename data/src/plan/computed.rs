//! [`Dataset`]: what is computed from columns.

use std::collections::HashSet;

use arrow::datatypes::DataType;
use datafusion_common::{DFSchema, DataFusionError, SchemaError};
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlanBuilder};

use super::dataset::{Dataset, check_distinct};
use super::expectation::Expectation;
use super::expressions::{self, Expression};
use super::nodes::expect::ExpectNode;
use super::nodes::late::LateStep;
use super::planner::planner;
use crate::error::{PlanError, reason_of};

impl Dataset {
    /// The rows for which the expression is true.
    pub fn filter(&self, predicate: impl Into<Expression>) -> Result<Self, PlanError> {
        match predicate.into() {
            Expression::Text(text) => self.filter_text(&text),
            Expression::Planned(expr) => self.filter_tree(expr),
        }
    }

    fn filter_text(&self, text: &str) -> Result<Self, PlanError> {
        let invalid = |error: &DataFusionError| self.unreadable("filter(expr=...)", text, error);
        match expressions::parse(text, self.plan().schema()) {
            Ok(predicate) => {
                let builder = self.builder().filter(predicate);
                builder
                    .and_then(LogicalPlanBuilder::build)
                    .map(Self::from_plan)
                    .map_err(|error| invalid(&error))
            }
            Err(_) if self.is_open() => {
                expressions::check_syntax(text).map_err(|error| invalid(&error))?;
                self.late(LateStep::Filter(Expression::from(text)))
            }
            Err(error) => Err(invalid(&error)),
        }
    }

    fn filter_tree(&self, expr: Expr) -> Result<Self, PlanError> {
        const OPERATION: &str = "filter()";
        // Where only true counts, a condition says it as well as its test for being true, and can be pushed down.
        let conditions = split_conjunction_owned(expr).into_iter().map(bare);
        let Some(predicate) = conjunction(conditions) else {
            return Ok(self.clone());
        };
        self.check_known(OPERATION, [&predicate])?;
        match self.fitted(&predicate) {
            Ok(fitted) => Self::build(self.builder().filter(fitted)),
            Err(_) if self.is_open() => {
                let predicate = Expression::planned(&predicate).map_err(PlanError::planner)?;
                self.late(LateStep::Filter(predicate))
            }
            Err(error) => Err(self.misfit(OPERATION, &predicate, &error)),
        }
    }

    /// The same rows, which are judged as they pass by.
    pub fn expect(&self, expectation: Expectation) -> Result<Self, PlanError> {
        const OPERATION: &str = "expect()";
        let schema = self.plan().schema();
        let expr = match &expectation.expression {
            Expression::Planned(expr) => {
                self.check_known(OPERATION, [expr])?;
                match self.fitted(expr) {
                    Ok(fitted) => Some(fitted),
                    Err(_) if self.is_open() => None,
                    Err(error) => return Err(self.misfit(OPERATION, expr, &error)),
                }
            }
            Expression::Text(text) => match expressions::parse(text, schema) {
                Ok(expr) => Some(expr),
                Err(_) if self.is_open() => {
                    let checked = expressions::check_syntax(text);
                    checked.map_err(|error| self.unreadable(OPERATION, text, &error))?;
                    None
                }
                Err(error) => return Err(self.unreadable(OPERATION, text, &error)),
            },
        };
        let expression = match &expr {
            Some(expr) => {
                self.check_condition(OPERATION, expr)?;
                Expression::planned(expr).map_err(PlanError::planner)?
            }
            None => expectation.expression,
        };
        let expectation = Expectation {
            expression,
            ..expectation
        };
        let input = self.plan().clone();
        Ok(Self::extend(ExpectNode::new(expectation, input)))
    }

    /// Fails if the expression is known to give something else than true and false.
    fn check_condition(&self, operation: &'static str, expr: &Expr) -> Result<(), PlanError> {
        let kind = expr.get_type(self.plan().schema());
        match kind.map_err(PlanError::planner)? {
            DataType::Boolean | DataType::Null => Ok(()),
            kind => Err(PlanError::InvalidArgument(format!(
                "{operation}: {} gives {kind} and not true or false",
                expr.human_display()
            ))),
        }
    }

    fn unreadable(
        &self,
        operation: &'static str,
        text: &str,
        error: &DataFusionError,
    ) -> PlanError {
        let available = self.known_columns();
        let root = error.find_root();
        if let DataFusionError::SchemaError(reason, _) = root
            && let SchemaError::FieldNotFound { field, .. } = reason.as_ref()
        {
            let missing = vec![field.flat_name()];
            return PlanError::UnknownColumns {
                operation,
                missing,
                available,
            };
        }
        let detail = match root {
            DataFusionError::SQL(..) => {
                format!("Invalid syntax in the expression: {}", reason_of(error))
            }
            _ => reason_of(error),
        };
        PlanError::InvalidExpression {
            operation,
            expression: text.to_owned(),
            detail,
            available,
        }
    }

    /// With these columns: one that is there is replaced, others stand behind those that are there.
    pub fn with_columns(&self, columns: &[(String, Expression)]) -> Result<Self, PlanError> {
        const OPERATION: &str = "with_columns()";
        check_distinct(OPERATION, columns.iter().map(|(name, _)| name))?;
        let trees = |(name, expression): &(String, Expression)| match expression {
            Expression::Planned(expr) => Ok((name.clone(), expr.clone())),
            Expression::Text(text) => Err(PlanError::InvalidArgument(format!(
                "{OPERATION} takes expressions and not the text {text:?}"
            ))),
        };
        let columns: Vec<(String, Expr)> = columns.iter().map(trees).collect::<Result<_, _>>()?;
        self.check_known(OPERATION, columns.iter().map(|(_, expr)| expr))?;
        if self.is_open() {
            return self.compute_late(&columns);
        }
        let mut projected = Vec::new();
        for name in self.known_columns() {
            let computed = columns.iter().find(|(computed, _)| *computed == name);
            projected.push(match computed {
                Some((name, expr)) => self.computed(OPERATION, name, expr)?,
                None => self.column(&name)?,
            });
        }
        let known = self.known_columns();
        for (name, expr) in columns.iter().filter(|(name, _)| !known.contains(name)) {
            projected.push(self.computed(OPERATION, name, expr)?);
        }
        Self::build(self.builder().project(projected))
    }

    fn compute_late(&self, columns: &[(String, Expr)]) -> Result<Self, PlanError> {
        let planned = |(name, expr): &(String, Expr)| {
            let expression = Expression::planned(expr).map_err(PlanError::planner)?;
            Ok((name.clone(), expression))
        };
        let columns: Result<_, PlanError> = columns.iter().map(planned).collect();
        self.late(LateStep::Compute(columns?))
    }

    /// The expression as a column of this name.
    fn computed(
        &self,
        operation: &'static str,
        name: &str,
        expr: &Expr,
    ) -> Result<Expr, PlanError> {
        let fitted = self.fitted(expr);
        let fitted = fitted.map_err(|error| self.misfit(operation, expr, &error))?;
        Ok(fitted.alias(name))
    }

    /// The expression with all types made to fit. Fails if they do not.
    fn fitted(&self, expr: &Expr) -> Result<Expr, DataFusionError> {
        let schema = self.plan().schema();
        let fitted = planner().joined(expr.clone(), schema)?;
        planner().physical(fitted.clone(), schema)?;
        Ok(fitted)
    }

    /// Fails if a column is certainly not there.
    fn check_known<'a>(
        &self,
        operation: &'static str,
        expressions: impl IntoIterator<Item = &'a Expr>,
    ) -> Result<(), PlanError> {
        let columns = expressions.into_iter().flat_map(Expr::column_refs);
        let names: HashSet<&String> = columns.map(|column| &column.name).collect();
        let mut names: Vec<&String> = names.into_iter().collect();
        names.sort();
        self.check_columns(operation, &names)
    }

    fn misfit(&self, operation: &'static str, expr: &Expr, error: &DataFusionError) -> PlanError {
        PlanError::Misfit {
            operation,
            expression: expr.human_display().to_string(),
            detail: reason_of(error),
            types: types_of(expr, self.plan().schema()),
        }
    }
}

/// The condition inside of its test for being true.
fn bare(condition: Expr) -> Expr {
    match condition {
        Expr::IsTrue(inner) => bare(*inner),
        other => other,
    }
}

/// The columns of the expression with their types, for messages.
fn types_of(expr: &Expr, schema: &DFSchema) -> Vec<String> {
    let mut types: Vec<String> = expr
        .column_refs()
        .into_iter()
        .filter_map(|column| {
            let field = schema.field_with_unqualified_name(&column.name).ok()?;
            Some(format!("{} is {}", column.name, field.data_type()))
        })
        .collect();
    types.sort();
    types
}
