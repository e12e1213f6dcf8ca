//! From a message to the expression.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use bytes::Bytes;
use datafusion_common::metadata::FieldMetadata;
use datafusion_common::{Column, Result, ScalarValue, internal_datafusion_err};
use datafusion_expr::Expr;
use datafusion_expr::expr::{
    Alias, Between, BinaryExpr, Case, Cast, HigherOrderFunction, InList, Lambda, LambdaVariable,
    Like, ScalarFunction, TryCast,
};

use super::spec::{
    AliasNode, CaseNode, CastNode, ExpressionSpec, LikeNode, LiteralNode, NodeKind, UnaryKind,
};
use super::symbols;
use crate::block;
use crate::plan::planner::planner;

/// The expression of a message that [`encode_expression`](super::encode_expression) made.
pub(crate) fn decode_expression(spec: ExpressionSpec) -> Result<Expr> {
    let streams = spec.literals.into_iter().map(stream);
    let streams: Vec<(FieldRef, ArrayRef)> = streams.collect::<Result<_>>()?;
    // From the last node to the first, so that the children of a node are there when it is read: its first child on top.
    let mut ready: Vec<Expr> = Vec::new();
    for node in spec.nodes.into_iter().rev() {
        let kind = node.kind.ok_or_else(|| broken("a node has no kind"))?;
        let first = usize::try_from(node.children)
            .ok()
            .and_then(|children| ready.len().checked_sub(children))
            .ok_or_else(|| broken("a node has fewer children than it says"))?;
        let children = Children(ready.split_off(first));
        ready.push(expression(kind, children, &streams)?);
    }
    match (ready.pop(), ready.is_empty()) {
        (Some(root), true) => Ok(root),
        _ => Err(broken("it has not one root")),
    }
}

fn broken(what: &str) -> datafusion_common::DataFusionError {
    internal_datafusion_err!("read an expression: {what}")
}

fn stream(bytes: Bytes) -> Result<(FieldRef, ArrayRef)> {
    let (schema, batches) = block::decode(bytes)?;
    let (Some(field), Some(batch)) = (schema.fields().first(), batches.first()) else {
        return Err(broken("a stream of values is empty"));
    };
    Ok((Arc::clone(field), Arc::clone(batch.column(0))))
}

fn field(bytes: Bytes) -> Result<FieldRef> {
    let schema = block::decode_schema(bytes)?;
    let field = schema.fields().first();
    field
        .map(Arc::clone)
        .ok_or_else(|| broken("a type is missing"))
}

/// The children of a node that have not been taken yet, the last one first.
struct Children(Vec<Expr>);

impl Children {
    fn next(&mut self) -> Result<Expr> {
        self.0.pop().ok_or_else(|| broken("a node lacks a child"))
    }

    fn boxed(&mut self) -> Result<Box<Expr>> {
        self.next().map(Box::new)
    }

    fn rest(&mut self) -> Vec<Expr> {
        std::mem::take(&mut self.0).into_iter().rev().collect()
    }
}

fn expression(
    kind: NodeKind,
    mut children: Children,
    streams: &[(FieldRef, ArrayRef)],
) -> Result<Expr> {
    let expr = match kind {
        NodeKind::Column(name) => Expr::Column(Column::new_unqualified(name)),
        NodeKind::Literal(node) => literal(node, streams)?,
        NodeKind::Binary(number) => {
            let op = symbols::operator(number).ok_or_else(|| broken("an operator is unknown"))?;
            let (left, right) = (children.boxed()?, children.boxed()?);
            Expr::BinaryExpr(BinaryExpr { left, op, right })
        }
        NodeKind::Unary(kind) => unary(kind, children.boxed()?)?,
        NodeKind::Like(node) => like(&node, &mut children)?,
        NodeKind::Between(negated) => Expr::Between(Between {
            negated,
            expr: children.boxed()?,
            low: children.boxed()?,
            high: children.boxed()?,
        }),
        NodeKind::InList(negated) => Expr::InList(InList {
            expr: children.boxed()?,
            list: children.rest(),
            negated,
        }),
        NodeKind::Case(node) => case(node, &mut children)?,
        NodeKind::Cast(node) => cast(node, children.boxed()?)?,
        NodeKind::Call(name) => {
            let func = planner().scalar(&name);
            let func = func.ok_or_else(|| broken(&format!("there is no function {name}")))?;
            let args = children.rest();
            Expr::ScalarFunction(ScalarFunction { func, args })
        }
        NodeKind::HigherOrderCall(name) => {
            let func = planner().higher_order(&name);
            let func = func.ok_or_else(|| broken(&format!("there is no function {name}")))?;
            Expr::HigherOrderFunction(HigherOrderFunction::new(func, children.rest()))
        }
        NodeKind::Lambda(node) => Expr::Lambda(Lambda::new(node.params, children.next()?)),
        NodeKind::LambdaVariable(name) => Expr::LambdaVariable(LambdaVariable::new(name, None)),
        NodeKind::Alias(node) => alias(node, children.boxed()?),
    };
    if children.0.is_empty() {
        Ok(expr)
    } else {
        Err(broken("a node has too many children"))
    }
}

fn literal(node: LiteralNode, streams: &[(FieldRef, ArrayRef)]) -> Result<Expr> {
    let stream = streams.get(node.stream as usize);
    let row = node.row as usize;
    let Some((field, values)) = stream.filter(|(_, values)| row < values.len()) else {
        return Err(broken("a value is missing"));
    };
    let value = ScalarValue::try_from_array(values, row)?;
    let metadata = node
        .has_metadata
        .then(|| FieldMetadata::new(field.metadata().clone().into_iter().collect()));
    Ok(Expr::Literal(value, metadata))
}

fn unary(kind: i32, expr: Box<Expr>) -> Result<Expr> {
    let kind = UnaryKind::try_from(kind).map_err(|_| broken("a test is unknown"))?;
    Ok(match kind {
        UnaryKind::Not => Expr::Not(expr),
        UnaryKind::Negative => Expr::Negative(expr),
        UnaryKind::IsNull => Expr::IsNull(expr),
        UnaryKind::IsNotNull => Expr::IsNotNull(expr),
        UnaryKind::IsTrue => Expr::IsTrue(expr),
        UnaryKind::IsNotTrue => Expr::IsNotTrue(expr),
        UnaryKind::IsFalse => Expr::IsFalse(expr),
        UnaryKind::IsNotFalse => Expr::IsNotFalse(expr),
        UnaryKind::IsUnknown => Expr::IsUnknown(expr),
        UnaryKind::IsNotUnknown => Expr::IsNotUnknown(expr),
    })
}

fn like(node: &LikeNode, children: &mut Children) -> Result<Expr> {
    let escape = node.escape.map(char::from_u32);
    let like = Like {
        negated: node.is_negated,
        expr: children.boxed()?,
        pattern: children.boxed()?,
        escape_char: escape
            .map(|escape| escape.ok_or_else(|| broken("an escape is no character")))
            .transpose()?,
        case_insensitive: node.ignores_case,
    };
    Ok(if node.is_similar {
        Expr::SimilarTo(like)
    } else {
        Expr::Like(like)
    })
}

fn case(node: CaseNode, children: &mut Children) -> Result<Expr> {
    let expr = node.has_operand.then(|| children.boxed()).transpose()?;
    let mut when_then_expr = Vec::new();
    while children.0.len() > usize::from(node.has_else) {
        when_then_expr.push((children.boxed()?, children.boxed()?));
    }
    let else_expr = node.has_else.then(|| children.boxed()).transpose()?;
    Ok(Expr::Case(Case {
        expr,
        when_then_expr,
        else_expr,
    }))
}

fn cast(node: CastNode, expr: Box<Expr>) -> Result<Expr> {
    let field = field(node.field)?;
    Ok(if node.is_try {
        Expr::TryCast(TryCast { expr, field })
    } else {
        Expr::Cast(Cast { expr, field })
    })
}

fn alias(node: AliasNode, expr: Box<Expr>) -> Expr {
    let sorted = |metadata: HashMap<String, String>| metadata.into_iter().collect();
    Expr::Alias(Alias {
        expr,
        relation: None,
        name: node.name,
        metadata: node
            .has_metadata
            .then(|| FieldMetadata::new(sorted(node.metadata))),
    })
}
