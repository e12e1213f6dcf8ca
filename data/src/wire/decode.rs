//! From messages to the work of a stage.

use std::num::NonZeroU64;

use aktis_common::error::ErrorCode;
use aktis_inference::ModelSpec;
use aktis_worker::TaskFailure;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion_common::DataFusionError;

use super::expression::ExpressionSpec;
use super::spec::{
    FunctionKind, KeepsKind, MapStep, NamedExpression, ProjectStep, RegisteredSpec, SampleStep,
    StageSpec, Step, StepKind,
};
use super::{expect, failing, fragment, group, partition};
use crate::block;
use crate::error::reason_of;
use crate::graph::{Function, MapCall, Operator, StageTask};
use crate::plan::{CacheSpec, Expression, FailurePolicy, Kept};
use crate::registered::Registered;

/// The work that the message tells.
pub(crate) fn decode_task(spec: StageSpec) -> Result<StageTask, TaskFailure> {
    let source = spec.source.ok_or_else(|| incomplete("a stage", "source"))?;
    let steps: Result<_, TaskFailure> = spec.steps.into_iter().map(operator).collect();
    let partitioner = spec.partitioner.map(partition::decode).transpose()?;
    Ok(StageTask {
        name: spec.name,
        source: registered(source),
        steps: steps?,
        sink: spec.sink.map(registered),
        block_bytes: spec.block_bytes,
        growing_inputs: spec.growing_inputs,
        row_limit: spec.row_limit,
        prefetch_batches: spec.prefetch_batches,
        memory_bytes: spec.memory_bytes,
        even_rows: spec.even_rows,
        partitioner,
        group: spec.group.map(group::decode).transpose()?,
    })
}

pub(super) fn incomplete(message: &str, field: &str) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::Internal,
        format!("read a message for a stage worker: {message} has no {field}"),
    )
}

pub(super) fn registered(spec: RegisteredSpec) -> Registered {
    Registered {
        kind: spec.kind,
        settings: spec.settings,
    }
}

pub(super) fn operator(step: Step) -> Result<Operator, TaskFailure> {
    let kind = step.kind.ok_or_else(|| incomplete("a step", "kind"))?;
    Ok(match kind {
        StepKind::Filter(spec) => Operator::Filter(expression(Some(spec))?),
        StepKind::Project(step) => Operator::Project(named_expressions(step)?),
        StepKind::Compute(step) => Operator::Compute(named_expressions(step)?),
        StepKind::Select(step) => Operator::Select(step.names),
        StepKind::Drop(step) => Operator::Drop(step.names),
        StepKind::Rename(step) => {
            let pairs = step.pairs.into_iter();
            Operator::Rename(pairs.map(|pair| (pair.old, pair.new)).collect())
        }
        StepKind::Map(step) => Operator::Map(map_call(step)?),
        StepKind::Conform(columns) => Operator::Conform(schema(columns)?),
        StepKind::Declare(columns) => Operator::Declare(schema(columns)?),
        StepKind::Sample(SampleStep { share, seed }) => Operator::Sample { share, seed },
        StepKind::BlockRows(rows) => {
            let rows =
                NonZeroU64::new(rows).ok_or_else(|| incomplete("a step", "number of rows"))?;
            Operator::BlockRows(rows)
        }
        StepKind::Expect(step) => Operator::Expect(expect::decode(step)?),
        StepKind::Unnest(step) => Operator::Unnest(step),
        StepKind::Relational(spec) => Operator::Relational(fragment::decode(spec)?),
    })
}

fn named_expressions(step: ProjectStep) -> Result<Vec<crate::graph::NamedExpression>, TaskFailure> {
    let column = |column: NamedExpression| {
        Ok(crate::graph::NamedExpression {
            name: column.name,
            expression: expression(column.expression)?,
        })
    };
    step.columns.into_iter().map(column).collect()
}

pub(super) fn schema(columns: Bytes) -> Result<SchemaRef, TaskFailure> {
    block::decode_schema(columns)
        .map_err(|error| TaskFailure::new(ErrorCode::Internal, format!("read a schema: {error}")))
}

pub(super) fn expression(spec: Option<ExpressionSpec>) -> Result<Expression, TaskFailure> {
    let spec = spec.ok_or_else(|| incomplete("a step", "expression"))?;
    spec.into_expression().map_err(|error| unreadable(&error))
}

/// An expression that another process of this build has written, and that cannot be read.
pub(super) fn unreadable(error: &DataFusionError) -> TaskFailure {
    TaskFailure::new(ErrorCode::Internal, reason_of(error))
}

fn map_call(step: MapStep) -> Result<MapCall, TaskFailure> {
    let keeps = match step.keeps() {
        KeepsKind::Nothing => Kept::Nothing,
        KeepsKind::Named => Kept::Named(step.keeps_names),
        KeepsKind::AllExcept => Kept::AllExcept(step.keeps_names),
    };
    let function = match step.function {
        Some(FunctionKind::Python(definition)) => Function::Python(definition),
        Some(FunctionKind::Model(json)) => Function::Model(Box::new(model(&json)?)),
        None => return Err(incomplete("a map", "function")),
    };
    let failures = step
        .failures
        .map_or_else(FailurePolicy::default, failing::decode);
    let cache = step.cache_folder.zip(step.cache_sign);
    Ok(MapCall {
        name: step.name,
        function,
        reads: step.reads_some.then_some(step.reads),
        keeps,
        is_mask: step.is_mask,
        keeps_rows: step.keeps_rows,
        batch_rows: step.batch_rows,
        captured: step.captured,
        failures,
        cache: cache.map(|(folder, sign)| CacheSpec { folder, sign }),
        batching: step.batching.unwrap_or_default(),
    })
}

fn model(json: &str) -> Result<ModelSpec, TaskFailure> {
    ModelSpec::from_json(json).map_err(|error| {
        TaskFailure::new(
            ErrorCode::Internal,
            format!("read a model's options: {error}"),
        )
    })
}
