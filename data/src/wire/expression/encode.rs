//! From an expression to its message.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{Field, FieldRef, Schema};
use bytes::Bytes;
use datafusion_common::metadata::FieldMetadata;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::expr::{Alias, Case, Like};
use datafusion_expr::{Expr, HigherOrderUDF, ScalarUDF};

use super::spec::{
    AliasNode, CaseNode, CastNode, ExpressionSpec, LambdaNode, LikeNode, LiteralNode, Node,
    NodeKind, UnaryKind,
};
use super::symbols;
use crate::block;
use crate::plan::planner::planner;

/// The message of `expr`. Fails if it holds what no worker can compute. Columns go by their names: a batch knows no tables.
pub(crate) fn encode_expression(expr: &Expr) -> Result<ExpressionSpec> {
    let mut encoder = Encoder::default();
    expr.apply(|node| {
        let kind = encoder.kind(node)?;
        let mut children = 0;
        node.apply_children(|_| {
            children += 1;
            Ok(TreeNodeRecursion::Continue)
        })?;
        encoder.nodes.push(Node {
            children,
            kind: Some(kind),
        });
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(ExpressionSpec {
        nodes: encoder.nodes,
        literals: encoder
            .streams
            .into_iter()
            .map(Stream::encode)
            .collect::<Result<_>>()?,
        text: String::new(),
    })
}

#[derive(Default)]
struct Encoder {
    nodes: Vec<Node>,
    streams: Vec<Stream>,
}

/// Values of one type.
struct Stream {
    field: FieldRef,
    values: Vec<ArrayRef>,
}

impl Stream {
    fn encode(self) -> Result<Bytes> {
        let values: Vec<&dyn arrow::array::Array> = self.values.iter().map(AsRef::as_ref).collect();
        let column = concat(&values)?;
        let schema = Arc::new(Schema::new(vec![self.field]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column])?;
        Ok(block::encode(&schema, &[batch])?)
    }
}

impl Encoder {
    fn kind(&mut self, expr: &Expr) -> Result<NodeKind> {
        Ok(match expr {
            Expr::Column(column) => NodeKind::Column(column.name.clone()),
            Expr::Literal(value, metadata) => {
                NodeKind::Literal(self.literal(value, metadata.as_ref())?)
            }
            Expr::BinaryExpr(binary) => match symbols::number(binary.op) {
                Some(number) => NodeKind::Binary(number),
                None => return refused(expr, &format!("nothing computes {}", binary.op)),
            },
            Expr::Like(node) => NodeKind::Like(like(node, false)),
            Expr::SimilarTo(node) => NodeKind::Like(like(node, true)),
            Expr::Between(between) => NodeKind::Between(between.negated),
            Expr::InList(in_list) => NodeKind::InList(in_list.negated),
            Expr::Case(node) => NodeKind::Case(case(node)),
            Expr::Cast(node) => NodeKind::Cast(cast(&node.field, false)?),
            Expr::TryCast(node) => NodeKind::Cast(cast(&node.field, true)?),
            Expr::ScalarFunction(call) => {
                check_known(expr, &call.func)?;
                NodeKind::Call(call.func.name().to_owned())
            }
            Expr::HigherOrderFunction(call) => {
                check_known_higher_order(expr, &call.func)?;
                NodeKind::HigherOrderCall(call.func.name().to_owned())
            }
            Expr::Lambda(lambda) => NodeKind::Lambda(LambdaNode {
                params: lambda.params.clone(),
            }),
            Expr::LambdaVariable(variable) => NodeKind::LambdaVariable(variable.name.clone()),
            Expr::Alias(node) => NodeKind::Alias(alias(node)),
            other => match unary(other) {
                Some(kind) => NodeKind::Unary(kind.into()),
                None => {
                    return refused(
                        expr,
                        &format!("{} is no value of one row", other.variant_name()),
                    );
                }
            },
        })
    }

    fn literal(
        &mut self,
        value: &ScalarValue,
        metadata: Option<&FieldMetadata>,
    ) -> Result<LiteralNode> {
        let field = Field::new("value", value.data_type(), true);
        let marks: HashMap<String, String> =
            metadata.map(FieldMetadata::to_hashmap).unwrap_or_default();
        let field = Arc::new(field.with_metadata(marks));
        let known = self
            .streams
            .iter()
            .rposition(|stream| stream.field == field);
        let stream = known.unwrap_or_else(|| {
            self.streams.push(Stream {
                field,
                values: Vec::new(),
            });
            self.streams.len() - 1
        });
        let values = &mut self.streams[stream].values;
        values.push(value.to_array()?);
        let place = |index: usize| u32::try_from(index).expect("fewer than 2^32 values");
        Ok(LiteralNode {
            stream: place(stream),
            row: place(values.len() - 1),
            has_metadata: metadata.is_some(),
        })
    }
}

fn refused<T>(expr: &Expr, why: &str) -> Result<T> {
    plan_err!(
        "{} cannot be computed by workers: {why}",
        expr.human_display()
    )
}

/// Fails if workers would find another function under this name, or none.
fn check_known(expr: &Expr, function: &Arc<ScalarUDF>) -> Result<()> {
    if planner().scalar(function.name()).as_ref() == Some(function) {
        return Ok(());
    }
    refused(expr, &format!("they know no function {}", function.name()))
}

/// The same of a function that takes lambdas.
fn check_known_higher_order(expr: &Expr, function: &Arc<HigherOrderUDF>) -> Result<()> {
    if planner().higher_order(function.name()).as_ref() == Some(function) {
        return Ok(());
    }
    refused(expr, &format!("they know no function {}", function.name()))
}

fn like(node: &Like, is_similar: bool) -> LikeNode {
    LikeNode {
        is_negated: node.negated,
        ignores_case: node.case_insensitive,
        is_similar,
        escape: node.escape_char.map(u32::from),
    }
}

fn case(node: &Case) -> CaseNode {
    CaseNode {
        has_operand: node.expr.is_some(),
        has_else: node.else_expr.is_some(),
    }
}

fn cast(field: &FieldRef, is_try: bool) -> Result<CastNode> {
    let schema = Schema::new(vec![Arc::clone(field)]);
    Ok(CastNode {
        field: block::encode_schema(&schema)?,
        is_try,
    })
}

fn alias(node: &Alias) -> AliasNode {
    let metadata = node.metadata.as_ref();
    AliasNode {
        name: node.name.clone(),
        metadata: metadata.map(FieldMetadata::to_hashmap).unwrap_or_default(),
        has_metadata: metadata.is_some(),
    }
}

fn unary(expr: &Expr) -> Option<UnaryKind> {
    Some(match expr {
        Expr::Not(_) => UnaryKind::Not,
        Expr::Negative(_) => UnaryKind::Negative,
        Expr::IsNull(_) => UnaryKind::IsNull,
        Expr::IsNotNull(_) => UnaryKind::IsNotNull,
        Expr::IsTrue(_) => UnaryKind::IsTrue,
        Expr::IsNotTrue(_) => UnaryKind::IsNotTrue,
        Expr::IsFalse(_) => UnaryKind::IsFalse,
        Expr::IsNotFalse(_) => UnaryKind::IsNotFalse,
        Expr::IsUnknown(_) => UnaryKind::IsUnknown,
        Expr::IsNotUnknown(_) => UnaryKind::IsNotUnknown,
        _ => return None,
    })
}
