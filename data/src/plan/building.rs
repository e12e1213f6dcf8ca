//! Making expressions piece by piece, for whoever writes them in another language than SQL.

use arrow::array::RecordBatch;
use arrow::datatypes::FieldRef;
use bytes::Bytes;
use datafusion_common::{Column, DataFusionError, ScalarValue};
use datafusion_expr::expr::{BinaryExpr, Cast, InList, Like, TryCast};
use datafusion_expr::{Expr, Operator};
use prost::Message;

use super::expressions::Expression;
use super::planner::planner;
use crate::error::{PlanError, reason_of};
use crate::wire::expression::ExpressionSpec;

/// Operators between two, as they are written.
const OPERATORS: [(&str, Operator); 17] = [
    ("+", Operator::Plus),
    ("-", Operator::Minus),
    ("*", Operator::Multiply),
    ("/", Operator::Divide),
    ("=", Operator::Eq),
    ("!=", Operator::NotEq),
    ("<", Operator::Lt),
    ("<=", Operator::LtEq),
    (">", Operator::Gt),
    (">=", Operator::GtEq),
    ("and", Operator::And),
    ("or", Operator::Or),
    ("is not distinct from", Operator::IsNotDistinctFrom),
    ("~", Operator::RegexMatch),
    ("~*", Operator::RegexIMatch),
    ("&", Operator::BitwiseAnd),
    ("|", Operator::BitwiseOr),
];

fn invalid(why: String) -> PlanError {
    PlanError::InvalidArgument(why)
}

impl Expression {
    /// The column of this name.
    pub fn column(name: &str) -> Self {
        Self::Planned(Expr::Column(Column::new_unqualified(name)))
    }

    /// The value in the only column and the only row of `value`.
    pub fn literal(value: &RecordBatch) -> Result<Self, PlanError> {
        let values = values_of(value)?;
        match <[ScalarValue; 1]>::try_from(values) {
            Ok([value]) => Ok(Self::Planned(Expr::Literal(value, None))),
            Err(values) => Err(invalid(format!("a value is one and not {}", values.len()))),
        }
    }

    /// An operator between two.
    pub fn binary(symbol: &str, left: &Self, right: &Self) -> Result<Self, PlanError> {
        let known = OPERATORS.iter().find(|(known, _)| *known == symbol);
        let (_, op) = known.ok_or_else(|| invalid(format!("there is no operator {symbol}")))?;
        let (left, right) = (Box::new(left.tree()?), Box::new(right.tree()?));
        Ok(Self::Planned(Expr::BinaryExpr(BinaryExpr {
            left,
            op: *op,
            right,
        })))
    }

    /// A test or a sign of one.
    pub fn unary(symbol: &str, expression: &Self) -> Result<Self, PlanError> {
        let expr = Box::new(expression.tree()?);
        Ok(Self::Planned(match symbol {
            "not" => Expr::Not(expr),
            "-" => Expr::Negative(expr),
            "is null" => Expr::IsNull(expr),
            "is not null" => Expr::IsNotNull(expr),
            "is true" => Expr::IsTrue(expr),
            _ => return Err(invalid(format!("there is no operator {symbol}"))),
        }))
    }

    /// A function by its name in SQL.
    pub fn call(name: &str, args: &[Self]) -> Result<Self, PlanError> {
        let function = planner().scalar(name);
        let function = function.ok_or_else(|| invalid(format!("there is no function {name}()")))?;
        let args: Result<Vec<Expr>, PlanError> = args.iter().map(Self::tree).collect();
        Ok(Self::Planned(function.call(args?)))
    }

    /// The value as another type; `is_try`: null where it does not fit.
    pub fn cast(expression: &Self, field: FieldRef, is_try: bool) -> Result<Self, PlanError> {
        let expr = Box::new(expression.tree()?);
        Ok(Self::Planned(if is_try {
            Expr::TryCast(TryCast { expr, field })
        } else {
            Expr::Cast(Cast { expr, field })
        }))
    }

    /// Whether the value is one of those in the only column of `values`.
    pub fn in_list(expression: &Self, values: &RecordBatch) -> Result<Self, PlanError> {
        let values = values_of(values)?.into_iter();
        Ok(Self::Planned(Expr::InList(InList {
            expr: Box::new(expression.tree()?),
            list: values.map(|value| Expr::Literal(value, None)).collect(),
            negated: false,
        })))
    }

    /// Whether a text is like a pattern.
    pub fn like(
        expression: &Self,
        pattern: &Self,
        case_insensitive: bool,
    ) -> Result<Self, PlanError> {
        Ok(Self::Planned(Expr::Like(Like {
            negated: false,
            expr: Box::new(expression.tree()?),
            pattern: Box::new(pattern.tree()?),
            escape_char: None,
            case_insensitive,
        })))
    }

    /// As bytes that [`Self::from_bytes`] reads, in this process or in another of the same build.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlanError> {
        let spec = ExpressionSpec::of(self).map_err(PlanError::planner)?;
        Ok(spec.encode_to_vec())
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, PlanError> {
        let spec = ExpressionSpec::decode(Bytes::from(bytes));
        let spec = spec.map_err(|error| invalid(format!("read an expression: {error}")))?;
        spec.into_expression().map_err(PlanError::planner)
    }

    fn tree(&self) -> Result<Expr, PlanError> {
        match self {
            Self::Planned(expr) => Ok(expr.clone()),
            Self::Text(text) => Err(invalid(format!("{text:?} is text and no part of a tree"))),
        }
    }
}

/// The values of the only column.
fn values_of(batch: &RecordBatch) -> Result<Vec<ScalarValue>, PlanError> {
    let [column] = batch.columns() else {
        return Err(invalid("values are one column".to_owned()));
    };
    let value = |row| ScalarValue::try_from_array(column, row);
    let values: Result<_, DataFusionError> = (0..column.len()).map(value).collect();
    values.map_err(|error| invalid(format!("read a value: {}", reason_of(&error))))
}
