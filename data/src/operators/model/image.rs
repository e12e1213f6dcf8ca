//! The image embedder.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_inference::{ImageDecoder, ImageEmbedderSpec, NotDecoded, OnnxModel};
use aktis_worker::TaskFailure;

use super::onnx::{Onnx, rows_of};
use super::{ModelStep, failure};
use crate::error::PlanError;
use crate::operators::failing::is_of_rows;
use crate::operators::udf;
use crate::plan::{Batching, embedding_field};

const NAME: &str = "ImageEmbedder";

pub(super) fn step(spec: &ImageEmbedderSpec) -> Result<ModelStep, PlanError> {
    let (dimension, fixed_rows) = spec.dim_and_fixed_rows().map_err(|error| {
        PlanError::InvalidArgument(format!("{NAME}: {}", aktis_inference::explain(&error)))
    })?;
    let (batch_rows, window_rows) = rows_of(spec.batch_size, fixed_rows);
    Ok(ModelStep {
        class: NAME,
        reads: vec![spec.column.clone()],
        added: vec![embedding_field(&spec.output_column, dimension)],
        batch_rows,
        window_rows,
        batching: Batching {
            is_auto: spec.batch_size.is_none(),
            ..Batching::default()
        },
    })
}

pub(super) fn load(spec: ImageEmbedderSpec) -> Result<Onnx, TaskFailure> {
    let decoder: ImageDecoder = Arc::new(|images| {
        udf::decode_images(images).map_err(|failure| NotDecoded {
            is_of_rows: is_of_rows(&failure),
            message: failure.message,
        })
    });
    let model: OnnxModel = spec
        .start(Some(decoder))
        .map_err(|error| failure(NAME, ErrorCode::InvalidArgument, &error))?;
    Ok(Onnx::around(NAME, model))
}
