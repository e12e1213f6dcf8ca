//! Images to vectors: what `transformers` does with an image before a CLIP or a ViT, and the graph on ONNX Runtime.
//!
//! ```text
//!  ImageEmbedderSpec (JSON, travels) ──plan──► ImagePlan: graph, steps, length of the vectors (from files, nothing is loaded)
//!        └──start──► OnnxModel, each thread of which does all of it:
//!
//!  column of images ─► pixels ─► processor ─► resample ─► Replica ─► a vector for each row, of length 1 if that is wanted
//!                        └── of encoded ones by way of ImageDecoder
//! ```

mod graph;
mod pixels;
mod processor;
mod resample;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use serde::{Deserialize, Serialize};

use self::graph::{ImagePlan, PIXELS};
use crate::config::{Device, Pooling};
use crate::core::pooling::{normalize, pool_one};
use crate::embedding_array::embedding_type;
use crate::error::LoadError;
use crate::onnx_model::feed::read;
use crate::onnx_model::{BATCH_ROWS, OnnxModel, OnnxModelSpec, Replica, RunError};
use crate::tensor_type::item;

/// What to load and which columns to use. `None` has the meaning that it has in [`OnnxModelSpec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageEmbedderSpec {
    /// The folder with the graph, `preprocessor_config.json` and `config.json`.
    pub model_dir: PathBuf,
    /// The column of images.
    pub column: String,
    /// The column of vectors that is added.
    pub output_column: String,
    /// The graph's output that is the vector; `None`: the most finished one.
    pub output: Option<String>,
    /// How the states of an image's parts become a vector; `None`: as the output has it, or else that of the first part.
    pub pooling: Option<Pooling>,
    /// The graph, a path from the folder.
    pub onnx_file: Option<PathBuf>,
    /// Scale every vector to length 1.
    pub normalize: bool,
    /// Most rows of a run; `None`: that is found while the job runs.
    pub batch_size: Option<usize>,
    /// Where it runs.
    pub device: Device,
    /// Threads that one batch is computed with.
    pub intra_threads: Option<usize>,
    /// Copies of the model that compute side by side.
    pub replicas: Option<usize>,
    /// So many actors share the cores of a machine.
    pub sharing: Option<usize>,
    /// The ONNX Runtime library.
    pub onnxruntime_path: Option<PathBuf>,
}

impl ImageEmbedderSpec {
    /// The defaults, for the model in `model_dir`.
    pub fn new(model_dir: impl Into<PathBuf>) -> Self {
        Self {
            model_dir: model_dir.into(),
            column: "image".to_owned(),
            output_column: "embedding".to_owned(),
            output: None,
            pooling: None,
            onnx_file: None,
            normalize: true,
            batch_size: Some(BATCH_ROWS),
            device: Device::Auto,
            intra_threads: None,
            replicas: None,
            sharing: None,
            onnxruntime_path: None,
        }
    }

    /// Length of the vectors, and the rows that each run takes if the graph has them fixed: from the folder, without loading the model, for planning.
    pub fn dim_and_fixed_rows(&self) -> Result<(usize, Option<usize>), LoadError> {
        let plan = ImagePlan::read(self)?;
        Ok((plan.dim, plan.graph.fixed_rows))
    }

    /// Loads the model and starts the threads, which decode images by `decoder`. What they give for a batch is the column of vectors.
    pub fn start(self, decoder: Option<ImageDecoder>) -> Result<OnnxModel, LoadError> {
        let plan = ImagePlan::read(&self)?;
        let model = OnnxModelSpec {
            batch_size: self.batch_size,
            device: self.device,
            intra_threads: self.intra_threads,
            replicas: self.replicas,
            sharing: self.sharing,
            onnxruntime_path: self.onnxruntime_path.clone(),
            ..OnnxModelSpec::new(&plan.graph.graph)
        };
        let graph = plan.graph.clone();
        let calls = Arc::new(Calls {
            spec: self,
            plan,
            decoder,
        });
        model.start_with(graph, |mut replica| {
            let calls = Arc::clone(&calls);
            Box::new(move |batch| calls.run(&mut replica, batch))
        })
    }
}

/// Decodes images that lie in the only column of a batch as they lie in files: what comes out is a batch of their pixels.
pub type ImageDecoder = Arc<dyn Fn(&RecordBatch) -> Result<RecordBatch, NotDecoded> + Send + Sync>;

/// Why images were not decoded.
#[derive(Debug)]
pub struct NotDecoded {
    /// For people.
    pub message: String,
    /// Whether those of other rows may be.
    pub is_of_rows: bool,
}

/// What all threads of a model do.
struct Calls {
    spec: ImageEmbedderSpec,
    plan: ImagePlan,
    decoder: Option<ImageDecoder>,
}

impl Calls {
    fn run(&self, replica: &mut Replica, batch: &RecordBatch) -> Result<RecordBatch, RunError> {
        let Self {
            spec,
            plan,
            decoder,
        } = self;
        let batch = pixels::decoded(batch, &spec.column, decoder.as_ref())?;
        let input = (PIXELS, &plan.element);
        let pixels = pixels::prepared(&batch, &spec.column, &plan.processor, input)?;
        let answers = replica.run(&pixels)?;
        let vectors = self.vectors(&answers)?;
        let kind = embedding_type(plan.dim);
        let DataType::FixedSizeList(_, size) = kind else {
            unreachable!("vectors are lists of a fixed size")
        };
        let item = Arc::clone(item(&kind).expect("it is a list"));
        let validity = answers.column(0).nulls().cloned();
        let values: ArrayRef = Arc::new(Float32Array::from(vectors));
        let column = FixedSizeListArray::try_new(item, size, values, validity);
        let schema = Schema::new(vec![Field::new(&spec.output_column, kind, true)]);
        column
            .and_then(|column| RecordBatch::try_new(Arc::new(schema), vec![Arc::new(column)]))
            .map_err(assembling)
    }

    /// Those of all rows; of a row without an image zeros.
    fn vectors(&self, answers: &RecordBatch) -> Result<Vec<f32>, RunError> {
        let ImagePlan { dim, pooling, .. } = self.plan;
        let (schema, array) = (answers.schema(), answers.column(0));
        let wrong = |found: Vec<usize>| RunError::Answer {
            output: self.plan.graph.outputs[0].name.clone(),
            rows: array.len(),
            found: found.into_iter().map(|size| size as i64).collect(),
            expected: format!("vectors of {dim}"),
        };
        let states = read(schema.field(0), array).map_err(|_| wrong(Vec::new()))?;
        let numbers = cast(&states.values, &DataType::Float32).map_err(assembling)?;
        let numbers = numbers.as_primitive::<Float32Type>().values();
        let mut vectors = Vec::with_capacity(array.len() * dim);
        for row in 0..array.len() {
            let shape = states.shape(row);
            if array.is_null(row) {
                vectors.resize(vectors.len() + dim, 0.0);
            } else if shape.last() == Some(&dim) && !shape.contains(&0) {
                let first = vectors.len();
                vectors.resize(first + dim, 0.0);
                // A vector itself is the first of its parts.
                let pooling = pooling.unwrap_or(Pooling::Cls);
                pool_one(pooling, &numbers[states.range(row)], &mut vectors[first..]);
            } else {
                return Err(wrong(shape.to_vec()));
            }
        }
        if self.spec.normalize {
            normalize(&mut vectors, dim);
        }
        Ok(vectors)
    }
}

fn assembling(source: arrow::error::ArrowError) -> RunError {
    RunError::Assemble {
        source: Arc::new(source),
    }
}
