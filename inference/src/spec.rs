//! Models with their columns, as one value that a plan holds and an actor loads.

use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::classifier::{RerankerSpec, TextClassifierSpec};
use crate::config::TextEmbedderConfig;
use crate::embedder::TextEmbedder;
use crate::embedding_array::schema_with_embeddings;
use crate::error::{EmbedError, LoadError};
use crate::image_embedder::ImageEmbedderSpec;
use crate::onnx_model::OnnxModelSpec;
use crate::stream::{BucketingEmbedder, StreamOptions};

/// A model of any kind, written as `{"text_embedder": {...}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSpec {
    /// Texts to vectors.
    TextEmbedder(TextEmbedderSpec),
    /// Any ONNX graph.
    OnnxModel(OnnxModelSpec),
    /// Texts to labels.
    TextClassifier(TextClassifierSpec),
    /// Pairs of texts to scores.
    Reranker(RerankerSpec),
    /// Images to vectors.
    ImageEmbedder(ImageEmbedderSpec),
}

impl ModelSpec {
    /// Reads the form that [`to_json`](Self::to_json) writes; a field it does not know is an error.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The form that travels to actors.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a struct of strings and numbers is always JSON")
    }
}

/// What to load and which columns to use: all that an actor needs to become a text embedder.
///
/// ```
/// use aktis_inference::TextEmbedderSpec;
///
/// let spec = TextEmbedderSpec::from_json(
///     r#"{"embedder": {"model_dir": "all-MiniLM-L6-v2"}, "stream": {"text_column": "body"}}"#,
/// )?;
/// assert_eq!(spec.stream.output_column, "embedding");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextEmbedderSpec {
    /// The model.
    pub embedder: TextEmbedderConfig,
    /// Columns and sizes.
    pub stream: StreamOptions,
}

impl TextEmbedderSpec {
    /// Reads the form that [`to_json`](Self::to_json) writes; a field it does not know is an error.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The form that travels to actors.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a struct of strings and numbers is always JSON")
    }

    /// Length of the vectors, from the model folder, without loading the model: for planning.
    pub fn dim(&self) -> Result<usize, LoadError> {
        let folder = self.embedder.folder()?;
        self.embedder.prompt_of(&folder)?;
        self.embedder.width(&folder)
    }

    /// The schema of the output for this input, given the length of the vectors: for planning.
    pub fn output_schema(&self, input: &Schema, dim: usize) -> Result<SchemaRef, EmbedError> {
        schema_with_embeddings(
            input,
            self.stream.text_columns(),
            &self.stream.output_column,
            dim,
        )
    }

    /// Loads the model and starts the threads.
    pub fn start(self) -> Result<BucketingEmbedder, LoadError> {
        BucketingEmbedder::start(TextEmbedder::load(self.embedder)?, self.stream)
    }
}
