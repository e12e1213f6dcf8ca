//! The text classifier and the reranker: the embedder's windows, and other columns.

use aktis_common::error::ErrorCode;
use aktis_inference::{
    BucketingEmbedder, LoadError, PendingBatch, RerankerSpec, Scoring, StreamOptions,
    TextClassifierSpec,
};
use aktis_worker::TaskFailure;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Schema;

use super::embed::{SUBMIT_ROWS, SUBMITTED_AHEAD, failed_call};
use super::{Model, ModelStep, failure};
use crate::error::PlanError;
use crate::operators::relational::assemble;
use crate::plan::Batching;

const CLASSIFIER: &str = "TextClassifier";
const RERANKER: &str = "Reranker";

pub(super) fn classifier_step(spec: &TextClassifierSpec) -> Result<ModelStep, PlanError> {
    step(CLASSIFIER, &spec.stream, spec.scoring())
}

pub(super) fn reranker_step(spec: &RerankerSpec) -> Result<ModelStep, PlanError> {
    step(RERANKER, &spec.stream, spec.scoring())
}

fn step(
    class: &'static str,
    stream: &StreamOptions,
    scoring: Result<Scoring, LoadError>,
) -> Result<ModelStep, PlanError> {
    let scoring = scoring.map_err(|error| {
        PlanError::InvalidArgument(format!("{class}: {}", aktis_inference::explain(&error)))
    })?;
    let mut reads: Vec<String> = stream.text_columns().map(str::to_owned).collect();
    reads.dedup();
    Ok(ModelStep {
        class,
        reads,
        added: scoring.fields(),
        batch_rows: Some(SUBMIT_ROWS),
        window_rows: 2 * stream.window_rows,
        batching: Batching::default(),
    })
}

/// A loaded classifier.
pub(super) struct Classifier {
    name: &'static str,
    embedder: BucketingEmbedder,
    scoring: Scoring,
}

impl Classifier {
    pub(super) fn load(spec: TextClassifierSpec) -> Result<Self, TaskFailure> {
        let scoring = spec.scoring();
        Self::of(CLASSIFIER, scoring, || spec.start())
    }

    pub(super) fn load_reranker(spec: RerankerSpec) -> Result<Self, TaskFailure> {
        let scoring = spec.scoring();
        Self::of(RERANKER, scoring, || spec.start())
    }

    fn of(
        name: &'static str,
        scoring: Result<Scoring, LoadError>,
        start: impl FnOnce() -> Result<BucketingEmbedder, LoadError>,
    ) -> Result<Self, TaskFailure> {
        let failed = |error: LoadError| failure(name, ErrorCode::InvalidArgument, &error);
        Ok(Self {
            name,
            scoring: scoring.map_err(failed)?,
            embedder: start().map_err(failed)?,
        })
    }
}

impl Model for Classifier {
    type Pending = PendingBatch;

    fn calls_ahead(&self) -> usize {
        SUBMITTED_AHEAD
    }

    fn submit(&self, batch: RecordBatch) -> Result<PendingBatch, TaskFailure> {
        let submitted = self.embedder.submit(batch);
        submitted.map_err(|error| failed_call(self.name, &error))
    }

    fn wait(&self, pending: PendingBatch) -> Result<RecordBatch, TaskFailure> {
        let waited = pending.wait();
        let batch = waited.map_err(|error| failed_call(self.name, &error))?;
        // The texts pass by; only the last column is new.
        let numbers = batch.column(batch.num_columns() - 1).as_fixed_size_list();
        let schema = Schema::new(self.scoring.fields());
        assemble(
            schema.into(),
            self.scoring.columns(numbers),
            batch.num_rows(),
        )
    }
}
