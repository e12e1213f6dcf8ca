//! From the work of a stage to messages.

use datafusion_common::DataFusionError;

use super::expression::ExpressionSpec;
use super::spec::{
    FunctionKind, KeepsKind, MapStep, NamedExpression, NamesStep, NewName, ProjectStep,
    RegisteredSpec, RenameStep, SampleStep, StageSpec, Step, StepKind,
};
use super::{expect, failing, fragment, group, partition};
use crate::block;
use crate::graph::{Function, MapCall, Operator, StageTask};
use crate::plan::Kept;
use crate::registered::Registered;

/// The message for the workers of a stage. Fails where an expression cannot travel; none of a cut plan is such.
pub(crate) fn encode_task(task: &StageTask) -> Result<StageSpec, DataFusionError> {
    let steps = task.steps.iter().map(step);
    Ok(StageSpec {
        name: task.name.clone(),
        source: Some(registered(&task.source)),
        steps: steps.collect::<Result<_, _>>()?,
        sink: task.sink.as_ref().map(registered),
        block_bytes: task.block_bytes,
        growing_inputs: task.growing_inputs,
        row_limit: task.row_limit,
        prefetch_batches: task.prefetch_batches,
        memory_bytes: task.memory_bytes,
        even_rows: task.even_rows,
        partitioner: task.partitioner.as_ref().map(partition::encode),
        group: task.group.as_ref().map(group::encode).transpose()?,
    })
}

pub(super) fn registered(registered: &Registered) -> RegisteredSpec {
    RegisteredSpec {
        kind: registered.kind.clone(),
        settings: registered.settings.clone(),
    }
}

pub(super) fn step(operator: &Operator) -> Result<Step, DataFusionError> {
    let names = |names: &[String]| NamesStep {
        names: names.to_vec(),
    };
    let kind = match operator {
        Operator::Filter(expression) => StepKind::Filter(ExpressionSpec::of(expression)?),
        Operator::Project(columns) => StepKind::Project(project_step(columns)?),
        Operator::Compute(columns) => StepKind::Compute(project_step(columns)?),
        Operator::Select(selected) => StepKind::Select(names(selected)),
        Operator::Drop(dropped) => StepKind::Drop(names(dropped)),
        Operator::Rename(pairs) => {
            let pair = |(old, new): &(String, String)| NewName {
                old: old.clone(),
                new: new.clone(),
            };
            let pairs = pairs.iter().map(pair).collect();
            StepKind::Rename(RenameStep { pairs })
        }
        Operator::Map(call) => StepKind::Map(map_step(call)),
        Operator::Conform(columns) => StepKind::Conform(block::encode_schema(columns)?),
        Operator::Declare(columns) => StepKind::Declare(block::encode_schema(columns)?),
        Operator::Sample { share, seed } => StepKind::Sample(SampleStep {
            share: *share,
            seed: *seed,
        }),
        Operator::BlockRows(rows) => StepKind::BlockRows(rows.get()),
        Operator::Expect(expectation) => StepKind::Expect(expect::encode(expectation)?),
        Operator::Unnest(step) => StepKind::Unnest(step.clone()),
        Operator::Relational(work) => StepKind::Relational(fragment::encode(work)?),
    };
    Ok(Step { kind: Some(kind) })
}

fn project_step(columns: &[crate::graph::NamedExpression]) -> Result<ProjectStep, DataFusionError> {
    let column = |column: &crate::graph::NamedExpression| {
        Ok(NamedExpression {
            expression: Some(ExpressionSpec::of(&column.expression)?),
            name: column.name.clone(),
        })
    };
    let columns: Result<_, DataFusionError> = columns.iter().map(column).collect();
    Ok(ProjectStep { columns: columns? })
}

fn map_step(call: &MapCall) -> MapStep {
    let function = match &call.function {
        Function::Python(definition) => FunctionKind::Python(definition.clone()),
        Function::Model(spec) => FunctionKind::Model(spec.to_json()),
    };
    let (keeps, keeps_names) = match &call.keeps {
        Kept::Nothing => (KeepsKind::Nothing, Vec::new()),
        Kept::Named(names) => (KeepsKind::Named, names.clone()),
        Kept::AllExcept(names) => (KeepsKind::AllExcept, names.clone()),
    };
    MapStep {
        name: call.name.clone(),
        function: Some(function),
        reads_some: call.reads.is_some(),
        reads: call.reads.clone().unwrap_or_default(),
        keeps: keeps.into(),
        keeps_names,
        is_mask: call.is_mask,
        keeps_rows: call.keeps_rows,
        batch_rows: call.batch_rows,
        captured: call.captured,
        failures: Some(failing::encode(&call.failures)),
        cache_folder: call.cache.as_ref().map(|cache| cache.folder.clone()),
        cache_sign: call.cache.as_ref().map(|cache| cache.sign.clone()),
        batching: Some(call.batching.clone()),
    }
}
