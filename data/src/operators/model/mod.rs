//! Models of `aktis-inference` as maps: what a plan knows of them, and their calls in a stage worker.

mod classify;
mod embed;
mod image;
mod onnx;

use std::collections::VecDeque;
use std::path::Path;

use aktis_common::error::ErrorCode;
use aktis_inference::{KeptGraphs, ModelKind, ModelSpec};
use aktis_worker::{Runtime, TaskFailure};
use arrow::array::RecordBatch;

use crate::error::PlanError;
use crate::operators::udf::{self, BatchFunction};
use crate::plan::{Batching, Compute, FailurePolicy, Kept, MapFunction, MapSpec, Produces};

/// The folder of a node in which it keeps graphs.
const GRAPHS: &str = "graphs";
/// Of the free disk, files of a graph may take this part.
const FREE_SHARE: u64 = 4;

/// The map that adds a model's columns; all other columns pass by.
pub fn model_map(spec: ModelSpec, compute: Compute) -> Result<MapSpec, PlanError> {
    let step = match &spec.kind {
        ModelKind::TextEmbedder(embedder) => embed::step(embedder)?,
        ModelKind::OnnxModel(onnx) => onnx::step(onnx)?,
        ModelKind::TextClassifier(classifier) => classify::classifier_step(classifier)?,
        ModelKind::Reranker(reranker) => classify::reranker_step(reranker)?,
        ModelKind::ImageEmbedder(embedder) => image::step(embedder)?,
    };
    let added = step.added.iter().map(|field| field.name().clone());
    Ok(MapSpec {
        name: format!("{}({})", step.class, spec.label()),
        reads: Some(step.reads),
        keeps: Kept::AllExcept(added.collect()),
        produces: Produces::Fields(step.added),
        keeps_rows: true,
        batch_rows: step.batch_rows,
        window_rows: step.window_rows,
        compute,
        failures: FailurePolicy::default(),
        cache: None,
        batching: step.batching,
        function: MapFunction::Model(Box::new(spec)),
    })
}

/// The files that make a model what it is: a folder stands for all that is in it.
pub fn model_files(spec: &ModelSpec) -> Result<Vec<std::path::PathBuf>, PlanError> {
    match &spec.kind {
        ModelKind::OnnxModel(onnx) => onnx::files(onnx),
        folder => Ok(vec![folder.path().to_owned()]),
    }
}

/// What a plan knows of a model.
struct ModelStep {
    class: &'static str,
    reads: Vec<String>,
    added: Vec<arrow::datatypes::FieldRef>,
    batch_rows: Option<usize>,
    window_rows: usize,
    batching: Batching,
}

/// Loads a model, whose files are brought to this node before if they are those of a hub.
pub(crate) fn load(spec: &ModelSpec) -> Result<Box<dyn BatchFunction>, TaskFailure> {
    keep_graphs();
    let kind = match &spec.hub {
        Some(hub) => spec.in_folder(&udf::model_folder(hub)?),
        None => spec.kind.clone(),
    };
    Ok(match kind {
        ModelKind::TextEmbedder(spec) => Box::new(ModelCalls::of(embed::Embedder::load(spec)?)),
        ModelKind::OnnxModel(spec) => Box::new(ModelCalls::of(onnx::Onnx::load(spec)?)),
        ModelKind::TextClassifier(spec) => {
            Box::new(ModelCalls::of(classify::Classifier::load(spec)?))
        }
        ModelKind::Reranker(spec) => {
            Box::new(ModelCalls::of(classify::Classifier::load_reranker(spec)?))
        }
        ModelKind::ImageEmbedder(spec) => Box::new(ModelCalls::of(image::load(spec)?)),
    })
}

/// Graphs are kept in the folder of the node, which ends with it, beside its sockets.
fn keep_graphs() {
    let Some(runtime) = Runtime::current() else {
        return;
    };
    let folder = Path::new(&runtime.greeting().lane_dir).with_file_name(GRAPHS);
    let Some(Ok(disk)) = folder.parent().map(rustix::fs::statvfs) else {
        return;
    };
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    aktis_inference::keep_graphs(KeptGraphs {
        folder,
        most_bytes: free_bytes / FREE_SHARE,
    });
}

/// A loaded model, which has threads of its own.
trait Model: Send {
    /// A batch that it has.
    type Pending: Send;

    /// How many batches it may have.
    fn calls_ahead(&self) -> usize;

    /// Hands a batch in.
    fn submit(&self, batch: RecordBatch) -> Result<Self::Pending, TaskFailure>;

    /// Waits for the columns that are added to it.
    fn wait(&self, pending: Self::Pending) -> Result<RecordBatch, TaskFailure>;
}

/// The calls of a model that are under way. Each gives one batch.
struct ModelCalls<M: Model> {
    model: M,
    under_way: VecDeque<Option<M::Pending>>,
}

impl<M: Model> ModelCalls<M> {
    fn of(model: M) -> Self {
        Self {
            model,
            under_way: VecDeque::new(),
        }
    }
}

impl<M: Model> BatchFunction for ModelCalls<M> {
    fn calls_ahead(&self) -> usize {
        self.model.calls_ahead()
    }

    fn is_lazy(&self) -> bool {
        false
    }

    fn begin(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        let pending = self.model.submit(batch)?;
        self.under_way.push_back(Some(pending));
        Ok(())
    }

    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        let Some(pending) = self.under_way.front_mut().and_then(Option::take) else {
            self.under_way.pop_front();
            return Ok(None);
        };
        let added = self.model.wait(pending).inspect_err(|_| {
            // The call is over.
            self.under_way.pop_front();
        })?;
        Ok(Some(added))
    }

    fn forget_calls(&mut self) {
        self.under_way.clear();
    }
}

/// What a model says of a failure, after its class's name.
fn failure(model: &str, code: ErrorCode, error: &dyn std::error::Error) -> TaskFailure {
    let text = aktis_inference::explain(error);
    TaskFailure::new(code, format!("{model}: {text}"))
}
