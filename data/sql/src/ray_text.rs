//! What Ray writes in an expression and SQL does not: names with dots without quotes, and text in double quotes.
//!
//! In SQL, `a.b` is the column `b` of the table `a` or the field of a struct, and `"x"` is a column. Both keep that meaning wherever
//! they can have it: only a column that has the whole name, and a name beside a comparison that no column has, are meant as Ray does.

use std::ops::ControlFlow;

use datafusion_common::DFSchema;
use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Expr, ExprWithAlias, Ident, Value, visit_expressions_mut,
};

/// Puts SQL in the place of what Ray writes, over the columns of `schema`.
pub(crate) fn to_sql(mut written: ExprWithAlias, schema: &DFSchema) -> ExprWithAlias {
    let _ = visit_expressions_mut(&mut written.expr, |expr| {
        match expr {
            Expr::CompoundIdentifier(parts) => {
                if let Some(column) = dotted(parts, schema) {
                    *expr = Expr::Identifier(column);
                }
            }
            Expr::BinaryOp { left, op, right } if is_comparison(op) && is_value(left, schema) => {
                quoted_to_text(right, schema);
            }
            Expr::InList { expr, list, .. } if is_value(expr, schema) => {
                list.iter_mut()
                    .for_each(|item| quoted_to_text(item, schema));
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    written
}

fn dotted(parts: &[Ident], schema: &DFSchema) -> Option<Ident> {
    let names: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
    let whole = names.join(".");
    let is_whole = schema.has_column_with_unqualified_name(&whole);
    let is_field = schema.has_column_with_unqualified_name(names.first()?);
    (is_whole && !is_field).then(|| Ident::with_quote('"', whole))
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// Whether it depends on a row, as far as can be told: a comparison of two texts is a mistake.
fn is_value(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Identifier(name) => schema.has_column_with_unqualified_name(&name.value),
        Expr::CompoundIdentifier(parts) => dotted(parts, schema).is_some(),
        Expr::Value(_) => false,
        _ => true,
    }
}

fn quoted_to_text(expr: &mut Expr, schema: &DFSchema) {
    if let Expr::Identifier(name) = expr
        && name.quote_style == Some('"')
        && !schema.has_column_with_unqualified_name(&name.value)
    {
        *expr = Expr::Value(Value::SingleQuotedString(name.value.clone()).into());
    }
}
