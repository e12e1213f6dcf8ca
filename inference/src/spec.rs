//! Models with their columns, as one value that a plan holds and an actor loads.

use std::path::{Path, PathBuf};

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

/// A model of any kind, written as `{"text_embedder": {...}}`, with `"hub"` beside it where its files have a name there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// What is loaded.
    #[serde(flatten)]
    pub kind: ModelKind,
    /// Where its files are from, if not from a folder that is on all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<HubModel>,
}

/// What is loaded, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
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

/// Files of a repository on a hub of models, as the driver found them. A node that has them not gets them from another one, or from the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubModel {
    /// `org/name`.
    pub repository: String,
    /// The commit: files of it never change.
    pub commit: String,
    /// Those that the model needs.
    pub files: Vec<HubFile>,
    /// Where they are on the driver's node.
    pub folder: PathBuf,
    /// That node; `None`: the driver had no session yet when it looked.
    pub node: Option<String>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubFile {
    /// Its path in the repository.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// What its content is called: SHA-256 in 64 digits, or that of a git blob in 40.
    pub blob: String,
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

    /// The same without what differs from driver to driver.
    pub fn sign(&self) -> String {
        let Some(hub) = &self.hub else {
            return self.to_json();
        };
        let name = format!("{}@{}", hub.repository, hub.commit);
        format!(
            "{name} {}",
            self.kind
                .clone()
                .moved(&hub.folder, Path::new(""))
                .to_json()
        )
    }

    /// What it is called by people: its name on the hub, or the last part of its path.
    pub fn label(&self) -> String {
        let of_path = || self.kind.path().file_name().unwrap_or_default();
        match &self.hub {
            Some(hub) => hub.repository.clone(),
            None => of_path().to_string_lossy().into_owned(),
        }
    }

    /// What is loaded where the files of the hub are in `folder`.
    pub fn in_folder(&self, folder: &Path) -> ModelKind {
        match &self.hub {
            Some(hub) => self.kind.clone().moved(&hub.folder, folder),
            None => self.kind.clone(),
        }
    }
}

impl ModelKind {
    /// The folder, or the graph.
    pub fn path(&self) -> &Path {
        match self {
            Self::TextEmbedder(spec) => &spec.embedder.model_dir,
            Self::OnnxModel(spec) => &spec.path,
            Self::TextClassifier(spec) => &spec.model.model_dir,
            Self::Reranker(spec) => &spec.model.model_dir,
            Self::ImageEmbedder(spec) => &spec.model_dir,
        }
    }

    fn path_mut(&mut self) -> &mut PathBuf {
        match self {
            Self::TextEmbedder(spec) => &mut spec.embedder.model_dir,
            Self::OnnxModel(spec) => &mut spec.path,
            Self::TextClassifier(spec) => &mut spec.model.model_dir,
            Self::Reranker(spec) => &mut spec.model.model_dir,
            Self::ImageEmbedder(spec) => &mut spec.model_dir,
        }
    }

    /// The same where what was in `from` is in `to`.
    fn moved(mut self, from: &Path, to: &Path) -> Self {
        let path = self.path_mut();
        if let Ok(within) = path.strip_prefix(from) {
            *path = if within.as_os_str().is_empty() {
                to.to_owned()
            } else {
                to.join(within)
            };
        }
        self
    }

    fn to_json(&self) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: &str = r#"{
        "onnx_model": {"path": "/cache/snapshots/1f/onnx/model.onnx"},
        "hub": {"repository": "org/name", "commit": "1f", "folder": "/cache/snapshots/1f", "node": NODE,
                "files": [{"name": "onnx/model.onnx", "size_bytes": 3, "blob": "aa"}]}
    }"#;

    fn named(node: &str) -> ModelSpec {
        ModelSpec::from_json(&NAMED.replace("NODE", node)).unwrap()
    }

    #[test]
    fn model_of_a_hub_moves_to_where_its_files_are() {
        let spec = named("null");
        assert_eq!(ModelSpec::from_json(&spec.to_json()).unwrap(), spec);
        assert_eq!(spec.label(), "org/name");
        let here = spec.in_folder(Path::new("/other/1f"));
        assert_eq!(here.path(), Path::new("/other/1f/onnx/model.onnx"));
    }

    #[test]
    fn sign_of_a_model_is_that_of_its_commit_wherever_it_lies() {
        let spec = named("null");
        let mut elsewhere = named(r#""c0ffee""#);
        let other = PathBuf::from("/home/b/1f");
        elsewhere.kind = elsewhere.in_folder(&other);
        elsewhere.hub.as_mut().unwrap().folder = other;
        assert_eq!(elsewhere.sign(), spec.sign());
        elsewhere.hub.as_mut().unwrap().commit = "2e".to_owned();
        assert_ne!(elsewhere.sign(), spec.sign());
    }

    #[test]
    fn model_of_a_folder_is_called_by_it_and_stays_there() {
        let spec = ModelSpec::from_json(r#"{"onnx_model": {"path": "/models/add.onnx"}}"#).unwrap();
        assert_eq!(spec.label(), "add.onnx");
        assert_eq!(
            spec.in_folder(Path::new("/x")).path(),
            Path::new("/models/add.onnx")
        );
        assert_eq!(spec.sign(), spec.to_json());
        assert!(ModelSpec::from_json(r#"{"onnx_model": {"path": "a", "colour": 1}}"#).is_err());
    }
}
