//! The text embedder of `aktis-inference` as a map.

use std::collections::VecDeque;

use aktis_common::error::ErrorCode;
use aktis_inference::{BucketingEmbedder, EmbedError, PendingBatch, TextEmbedderSpec};
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use crate::error::PlanError;
use crate::operators::udf::BatchFunction;
use crate::plan::{
    Batching, Compute, EmbedderFunction, FailurePolicy, Kept, MapFunction, MapSpec, Produces,
    embedding_field,
};

/// Rows per batch handed to the embedder. Its windows are its own; this only bounds what waits between them.
const SUBMIT_ROWS: usize = 512;
/// Batches that may be with the embedder: more than its windows hold, so that it decides when to wait.
const SUBMITTED_AHEAD: usize = 16;

/// The map that adds the vectors' column; all other columns pass by.
pub fn embed_map(spec: TextEmbedderSpec, compute: Compute) -> Result<MapSpec, PlanError> {
    let dimension = spec.dim().map_err(|error| {
        PlanError::InvalidArgument(format!(
            "TextEmbedder: {}",
            aktis_inference::explain(&error)
        ))
    })?;
    let model = spec
        .embedder
        .model_dir
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let output = &spec.stream.output_column;
    Ok(MapSpec {
        name: format!("TextEmbedder({model})"),
        reads: Some(vec![spec.stream.text_column.clone()]),
        keeps: Kept::AllExcept(vec![output.clone()]),
        produces: Produces::Fields(vec![embedding_field(output, dimension)]),
        keeps_rows: true,
        batch_rows: Some(SUBMIT_ROWS),
        window_rows: 2 * spec.stream.window_rows,
        compute,
        failures: FailurePolicy::default(),
        cache: None,
        batching: Batching::default(),
        function: MapFunction::Embedder(EmbedderFunction { spec }),
    })
}

/// A loaded embedder. Batches of several calls share its windows.
pub(crate) struct EmbedFunction {
    embedder: BucketingEmbedder,
    under_way: VecDeque<Option<PendingBatch>>,
}

impl EmbedFunction {
    /// Loads the model.
    pub(crate) fn load(spec: TextEmbedderSpec) -> Result<Self, TaskFailure> {
        let embedder = spec
            .start()
            .map_err(|error| failure(ErrorCode::InvalidArgument, &error))?;
        Ok(Self {
            embedder,
            under_way: VecDeque::new(),
        })
    }
}

impl BatchFunction for EmbedFunction {
    fn calls_ahead(&self) -> usize {
        SUBMITTED_AHEAD
    }

    fn begin(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        let pending = self
            .embedder
            .submit(batch)
            .map_err(|error| failed_call(&error))?;
        self.under_way.push_back(Some(pending));
        Ok(())
    }

    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        let Some(pending) = self.under_way.front_mut().and_then(Option::take) else {
            self.under_way.pop_front();
            return Ok(None);
        };
        let batch = pending.wait().map_err(|error| {
            // The call is over.
            self.under_way.pop_front();
            failed_call(&error)
        })?;
        // The text passes by; only the last column is new.
        let vectors = batch.project(&[batch.num_columns() - 1]).map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("take the embeddings: {error}"))
        })?;
        Ok(Some(vectors))
    }

    fn forget_calls(&mut self) {
        self.under_way.clear();
    }
}

/// Rows are guilty of what they are; a model that does not work ends the job, or it would lose them all.
fn failed_call(error: &EmbedError) -> TaskFailure {
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
    failure(code, error)
}

fn failure(code: ErrorCode, error: &dyn std::error::Error) -> TaskFailure {
    let text = aktis_inference::explain(error);
    TaskFailure::new(code, format!("TextEmbedder: {text}"))
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
        assert!(is_of_rows(&failed_call(&wrong)));
        let panicked = EmbedError::Panicked {
            thread: "aktis-encode-0".to_owned(),
            message: "no memory".to_owned(),
        };
        for broken in [panicked, EmbedError::Closed] {
            assert!(!is_of_rows(&failed_call(&broken)), "{broken}");
        }
    }
}
