//! Any ONNX graph.

use std::path::PathBuf;

use aktis_common::error::ErrorCode;
use aktis_inference::{OnnxModel, OnnxModelSpec, PendingRun, RunError};
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use super::{Model, ModelStep, failure};
use crate::error::PlanError;
use crate::plan::Batching;

const NAME: &str = "OnnxModel";
/// Batches whose rows an input should have: several replicas work at once.
const BATCHES_PER_INPUT: usize = 16;
/// Rows that an input should have where the size of batches is to be found, as for functions.
const INPUT_ROWS: usize = 4096;
/// Batches that wait for each replica: the next one is there when one is done.
const AHEAD_PER_REPLICA: usize = 2;

pub(super) fn step(spec: &OnnxModelSpec) -> Result<ModelStep, PlanError> {
    let plan = spec.plan().map_err(|error| {
        PlanError::InvalidArgument(format!("{NAME}: {}", aktis_inference::explain(&error)))
    })?;
    let inputs = plan.inputs.iter();
    let mut reads: Vec<String> = inputs.map(|input| input.column.clone()).collect();
    reads.sort();
    reads.dedup();
    let (batch_rows, window_rows) = rows_of(spec.batch_size, plan.fixed_rows);
    Ok(ModelStep {
        class: NAME,
        reads,
        added: plan
            .outputs
            .iter()
            .map(|output| output.field.clone())
            .collect(),
        batch_rows,
        window_rows,
        batching: Batching {
            is_auto: spec.batch_size.is_none(),
            byte_budget: spec.byte_budget,
            ..Batching::default()
        },
    })
}

/// Rows of a batch and of an input. A run of a graph with a fixed first axis takes so many rows, whether they are there or not.
pub(super) fn rows_of(
    batch_size: Option<usize>,
    fixed_rows: Option<usize>,
) -> (Option<usize>, usize) {
    let unit = fixed_rows.unwrap_or(1);
    let batch = batch_size.map(|rows| rows.checked_next_multiple_of(unit).unwrap_or(rows));
    let input = batch.map_or(INPUT_ROWS, |rows| rows.saturating_mul(BATCHES_PER_INPUT));
    (batch, input)
}

/// The graph, and what its weights lie in.
pub(super) fn files(spec: &OnnxModelSpec) -> Result<Vec<PathBuf>, PlanError> {
    let plan = spec.plan().map_err(|error| {
        PlanError::InvalidArgument(format!("{NAME}: {}", aktis_inference::explain(&error)))
    })?;
    Ok([plan.graph].into_iter().chain(plan.weight_files).collect())
}

/// A loaded graph.
pub(super) struct Onnx {
    name: &'static str,
    model: OnnxModel,
}

impl Onnx {
    pub(super) fn load(spec: OnnxModelSpec) -> Result<Self, TaskFailure> {
        let model = spec
            .start()
            .map_err(|error| failure(NAME, ErrorCode::InvalidArgument, &error))?;
        Ok(Self::around(NAME, model))
    }

    /// That of the model that is called `name`.
    pub(super) fn around(name: &'static str, model: OnnxModel) -> Self {
        Self { name, model }
    }
}

impl Model for Onnx {
    type Pending = PendingRun;

    fn calls_ahead(&self) -> usize {
        AHEAD_PER_REPLICA * self.model.replicas()
    }

    fn submit(&self, batch: RecordBatch) -> Result<PendingRun, TaskFailure> {
        Ok(self.model.submit(batch))
    }

    fn wait(&self, pending: PendingRun) -> Result<RecordBatch, TaskFailure> {
        pending
            .wait()
            .map_err(|error| failed_call(self.name, &error))
    }
}

/// Rows are guilty of what they are; a model that does not work ends the job, or it would lose them all.
fn failed_call(name: &str, error: &RunError) -> TaskFailure {
    let code = match error.is_of_rows() {
        true => ErrorCode::InvalidArgument,
        false => ErrorCode::Internal,
    };
    failure(name, code, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_of_whole_runs() {
        assert_eq!(rows_of(Some(5), Some(8)), (Some(8), 128));
        assert_eq!(rows_of(Some(5), None), (Some(5), 80));
        assert_eq!(rows_of(None, Some(8)), (None, INPUT_ROWS));
        assert_eq!(rows_of(Some(usize::MAX), Some(8)).0, Some(usize::MAX));
    }
}
