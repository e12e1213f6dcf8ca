//! The image embedder.

use aktis_common::error::ErrorCode;
use aktis_inference::{ImageEmbedderSpec, OnnxModel};
use aktis_worker::TaskFailure;

use super::onnx::{BATCHES_PER_INPUT, INPUT_ROWS, Onnx};
use super::{ModelStep, failure, named};
use crate::error::PlanError;
use crate::plan::{Batching, embedding_field};

const NAME: &str = "ImageEmbedder";

pub(super) fn step(spec: &ImageEmbedderSpec) -> Result<ModelStep, PlanError> {
    let dimension = spec.dim().map_err(|error| {
        PlanError::InvalidArgument(format!("{NAME}: {}", aktis_inference::explain(&error)))
    })?;
    Ok(ModelStep {
        name: named(NAME, &spec.model_dir),
        reads: vec![spec.column.clone()],
        added: vec![embedding_field(&spec.output_column, dimension)],
        batch_rows: spec.batch_size,
        window_rows: spec
            .batch_size
            .map_or(INPUT_ROWS, |rows| rows.saturating_mul(BATCHES_PER_INPUT)),
        batching: Batching {
            is_auto: spec.batch_size.is_none(),
            ..Batching::default()
        },
    })
}

pub(super) fn load(spec: ImageEmbedderSpec) -> Result<Onnx, TaskFailure> {
    let model: OnnxModel = spec
        .start()
        .map_err(|error| failure(NAME, ErrorCode::InvalidArgument, &error))?;
    Ok(Onnx::around(NAME, model))
}
