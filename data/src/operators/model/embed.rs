//! The text embedder.

use aktis_common::error::ErrorCode;
use aktis_inference::{BucketingEmbedder, EmbedError, PendingBatch, TextEmbedderSpec};
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use super::{Model, ModelStep, failure};
use crate::error::PlanError;
use crate::plan::{Batching, embedding_field};

const NAME: &str = "TextEmbedder";
/// Rows per batch handed to the embedder. Its windows are its own; this only bounds what waits between them.
pub(super) const SUBMIT_ROWS: usize = 512;
/// Batches that may be with the embedder: more than its windows hold, so that it decides when to wait.
pub(super) const SUBMITTED_AHEAD: usize = 16;

pub(super) fn step(spec: &TextEmbedderSpec) -> Result<ModelStep, PlanError> {
    let dimension = spec.dim().map_err(|error| {
        PlanError::InvalidArgument(format!("{NAME}: {}", aktis_inference::explain(&error)))
    })?;
    Ok(ModelStep {
        class: NAME,
        reads: vec![spec.stream.text_column.clone()],
        added: vec![embedding_field(&spec.stream.output_column, dimension)],
        batch_rows: Some(SUBMIT_ROWS),
        window_rows: 2 * spec.stream.window_rows,
        batching: Batching::default(),
    })
}

/// A loaded embedder. Batches of several calls share its windows.
pub(super) struct Embedder(BucketingEmbedder);

impl Embedder {
    pub(super) fn load(spec: TextEmbedderSpec) -> Result<Self, TaskFailure> {
        let embedder = spec
            .start()
            .map_err(|error| failure(NAME, ErrorCode::InvalidArgument, &error))?;
        Ok(Self(embedder))
    }
}

impl Model for Embedder {
    type Pending = PendingBatch;

    fn calls_ahead(&self) -> usize {
        SUBMITTED_AHEAD
    }

    fn submit(&self, batch: RecordBatch) -> Result<PendingBatch, TaskFailure> {
        self.0
            .submit(batch)
            .map_err(|error| failed_call(NAME, &error))
    }

    fn wait(&self, pending: PendingBatch) -> Result<RecordBatch, TaskFailure> {
        let batch = pending.wait().map_err(|error| failed_call(NAME, &error))?;
        // The text passes by; only the last column is new.
        batch.project(&[batch.num_columns() - 1]).map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("take the embeddings: {error}"))
        })
    }
}

/// Rows are guilty of what they are; a model that does not work ends the job, or it would lose them all.
pub(super) fn failed_call(name: &str, error: &EmbedError) -> TaskFailure {
    let code = match error {
        EmbedError::ColumnMissing { .. }
        | EmbedError::ColumnType { .. }
        | EmbedError::ColumnTaken { .. }
        | EmbedError::Tokenize { .. } => ErrorCode::InvalidArgument,
        EmbedError::Encode { .. }
        | EmbedError::Assemble { .. }
        | EmbedError::Thread { .. }
        | EmbedError::Panicked { .. }
        | EmbedError::Closed => ErrorCode::Internal,
    };
    failure(name, code, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::failing::is_of_rows;

    #[test]
    fn model_that_does_not_work_is_not_its_rows_fault() {
        let wrong = EmbedError::ColumnMissing {
            column: "text".to_owned(),
            available: Vec::new(),
        };
        assert!(is_of_rows(&failed_call(NAME, &wrong)));
        let panicked = EmbedError::Panicked {
            thread: "aktis-encode-0".to_owned(),
            message: "no memory".to_owned(),
        };
        for broken in [panicked, EmbedError::Closed] {
            assert!(!is_of_rows(&failed_call(NAME, &broken)), "{broken}");
        }
    }
}
