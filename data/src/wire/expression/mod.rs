//! Expressions on their way to workers, without loss: what arrives is what left, but for the names of tables (ADR 099).

mod decode;
mod encode;
mod spec;
mod symbols;
#[cfg(test)]
mod tests;

use datafusion_common::Result;

use crate::plan::Expression;

pub(crate) use decode::decode_expression;
pub(crate) use encode::encode_expression;
pub(crate) use spec::ExpressionSpec;

impl ExpressionSpec {
    /// The message of an expression, planned or not.
    pub(crate) fn of(expression: &Expression) -> Result<Self> {
        match expression {
            Expression::Planned(expr) => encode_expression(expr),
            Expression::Text(text) => Ok(Self {
                text: text.clone(),
                ..Self::default()
            }),
        }
    }

    /// The expression of the message.
    pub(crate) fn into_expression(self) -> Result<Expression> {
        if self.nodes.is_empty() {
            return Ok(Expression::Text(self.text));
        }
        decode_expression(self).map(Expression::Planned)
    }
}
