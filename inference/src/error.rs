//! What can go wrong when a model is loaded and when texts are embedded.
//!
//! Every `Display` fits after "failed to" and leaves its source out; [`explain`] joins the chain into one line.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::DataType;

use crate::config::{Backend, Device, Dtype};

/// Any error of a library below: kept as the source of ours.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What a model folder holds, as the messages say it.
pub(crate) const FOLDER_HOLDS: &str =
    "a model folder holds config.json, tokenizer.json, and model.onnx or model.safetensors";

/// A text embedder could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The path is no folder at all.
    #[error("open `{path}` as a model folder: {found}; {FOLDER_HOLDS}")]
    NotAFolder {
        /// The path given.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
    },
    /// The folder lacks files that the chosen backend needs.
    #[error("load a model from `{path}`: it has no {}; {FOLDER_HOLDS}", .missing.join(" and no "))]
    MissingFiles {
        /// The model folder.
        path: PathBuf,
        /// The missing files' names.
        missing: Vec<&'static str>,
    },
    /// The folder has weights, but not in the form that the chosen backend reads.
    #[error("load `{path}` with backend {backend}: it has no {missing}; {fix}")]
    NoWeightsForBackend {
        /// The model folder.
        path: PathBuf,
        /// The backend asked for.
        backend: Backend,
        /// The missing file's name.
        missing: &'static str,
        /// What the user can do.
        fix: &'static str,
    },
    /// A file of the folder cannot be read.
    #[error("read `{path}`")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A JSON file of the folder does not say what it should.
    #[error("read `{path}` as a model's configuration")]
    ParseConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The library of the candle backend was not found.
    #[error(
        "find the candle backend: {place}; it is a part of Aktis that is built on request: run `make candle` in its clone, \
         or use backend=\"onnx\" with `pip install onnxruntime` (`python -m aktis.models.export_onnx` writes a model's graph)"
    )]
    CandleNotFound {
        /// Where it was looked for.
        place: String,
    },
    /// The library of the candle backend is there and does not fit.
    #[error(
        "load the candle backend `{path}`: {reason}; `make candle` in the clone of this version builds one that fits"
    )]
    CandleLibrary {
        /// The library.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The candle backend does not accept the model; it says which file, and why.
    #[error("{message}")]
    CandleModel {
        /// What it says.
        message: String,
    },
    /// The folder asks for a way of pooling that is not there.
    #[error(
        "pool as `{path}` says, by {mode}: mean, cls and lasttoken are known; name one by pooling="
    )]
    Pooling {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        mode: String,
    },
    /// The folder has a step behind the model that cannot be taken.
    #[error("do what follows the model as `{path}` says: {reason}")]
    SentenceModule {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder has no prompt of this name.
    #[error("take the prompt `{name}` from `{path}`: {known}; prompt= is the text itself")]
    PromptName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// Which there are.
        known: String,
    },
    /// An ONNX graph has the numbers that it was written with.
    #[error(
        "load `{path}` with dtype={dtype}: that is for the weights of model.safetensors, with backend=\"candle\"; a graph of other numbers is named by onnx_file="
    )]
    DtypeOfGraph {
        /// The model folder.
        path: PathBuf,
        /// What was asked for.
        dtype: Dtype,
    },
    /// The folder asks for a token at the end of each text that it does not have.
    #[error("read `{path}`: it has add_eos_token, and {reason}")]
    EndToken {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Images cannot be prepared as the folder says.
    #[error("prepare images as `{path}` says: {reason}")]
    ImageProcessor {
        /// The file, or the folder where there is none.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The graph is valid, but it does not make vectors of images.
    #[error("use the ONNX graph `{path}` as an encoder of images: {reason}")]
    ImageEncoder {
        /// The graph.
        path: PathBuf,
        /// What is wrong with its inputs or outputs.
        reason: String,
    },
    /// The configuration is not that of a classifier.
    #[error("read the labels of `{path}`: {reason}")]
    Labels {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
    /// The weights have no head that turns a text's first state into labels.
    #[error("use `{path}` as a classifier: {reason}")]
    HeadWeights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `tokenizer.json` is no tokenizer.
    #[error("read `{path}` as a tokenizer")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BoxError,
    },
    /// A setting of [`TextEmbedderConfig`](crate::TextEmbedderConfig) is outside what the model can do.
    #[error("use {setting} = {value}: {reason}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: usize,
        /// What is allowed.
        reason: String,
    },
    /// The ONNX Runtime library was not found anywhere.
    #[error(
        "find the ONNX Runtime library: neither onnxruntime_path nor ORT_DYLIB_PATH is set; \
         run `pip install onnxruntime`, or set one of the two to its libonnxruntime.so, or use backend=\"candle\""
    )]
    RuntimeNotFound,
    /// The path given for the ONNX Runtime library leads nowhere.
    #[error(
        "find the ONNX Runtime library: {origin} is `{path}`, which is no file; \
         run `pip install onnxruntime`, and let it point to the libonnxruntime.so in onnxruntime/capi"
    )]
    RuntimePathIsNoFile {
        /// Which setting named it.
        origin: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// The ONNX Runtime library was found and does not load.
    #[error(
        "load the ONNX Runtime library `{path}`: `pip install --upgrade onnxruntime` installs one that fits"
    )]
    RuntimeLibrary {
        /// The library.
        path: PathBuf,
        /// Why.
        source: BoxError,
    },
    /// ONNX Runtime does not accept the graph.
    #[error("load the ONNX graph `{path}` on {device}")]
    OnnxGraph {
        /// The graph.
        path: PathBuf,
        /// Where it was to run.
        device: Device,
        /// Why.
        source: BoxError,
    },
    /// The graph is valid, but it is not a text encoder.
    #[error("use the ONNX graph `{path}` as a text encoder: {reason}")]
    OnnxSignature {
        /// The graph.
        path: PathBuf,
        /// What is wrong with its inputs or outputs.
        reason: String,
    },
    /// There is no ONNX graph where one was said to be.
    #[error(
        "find an ONNX graph at `{path}`: {found}; give the path of an .onnx file, or of a folder with model.onnx"
    )]
    NoGraph {
        /// The path given.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
    },
    /// The file is no ONNX graph.
    #[error("read `{path}` as an ONNX graph")]
    OnnxFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BoxError,
    },
    /// The graph is valid, but it does not map rows to rows.
    #[error("use the ONNX graph `{path}` over columns: {reason}")]
    OnnxColumns {
        /// The graph.
        path: PathBuf,
        /// What is wrong with its inputs or outputs.
        reason: String,
    },
    /// Weights of the graph lie in a file that is not there.
    #[error(
        "load the ONNX graph `{path}`: its weights lie in `{missing}`, which is no file; copy both together"
    )]
    OnnxWeights {
        /// The graph.
        path: PathBuf,
        /// The file with weights.
        missing: PathBuf,
    },
    /// The device asked for is not there, or the backend cannot use it.
    #[error("use device {device} with backend {backend}: {reason}")]
    Device {
        /// The device asked for.
        device: Device,
        /// The backend.
        backend: Backend,
        /// Why not, and what to do.
        reason: String,
    },
    /// The operating system gave no thread.
    #[error("start the thread `{name}`")]
    Thread {
        /// The thread's name.
        name: String,
        /// Why.
        source: BoxError,
    },
    /// The loaded model does not compute.
    #[error("run the model in `{path}` once")]
    FirstRun {
        /// The model folder.
        path: PathBuf,
        /// Why.
        source: EncodeError,
    },
}

/// Texts could not be embedded.
///
/// Cheap to clone: the rows of one failed batch can belong to several record batches, and each of them fails with it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EmbedError {
    /// The record batch has no such column.
    #[error("find the text column `{column}`: the input has the columns {}", list(.available))]
    ColumnMissing {
        /// The column asked for.
        column: String,
        /// The columns there are.
        available: Vec<String>,
    },
    /// The column does not hold text.
    #[error(
        "read the column `{column}` as text: its type is {found}, and a string column (Utf8, LargeUtf8 or Utf8View) \
         is needed; cast it, or name another column"
    )]
    ColumnType {
        /// The column.
        column: String,
        /// Its type.
        found: DataType,
    },
    /// The input already has a column with the name of the output.
    #[error(
        "add the column `{column}`: the input already has one; choose another output column, or drop that one"
    )]
    ColumnTaken {
        /// The output column.
        column: String,
    },
    /// A text could not be tokenised.
    #[error("tokenise row {row}")]
    Tokenize {
        /// Row of the input.
        row: usize,
        /// Why.
        source: Arc<BoxError>,
    },
    /// The model failed on a batch.
    #[error("run the model on a batch of {rows} rows")]
    Encode {
        /// Rows of the batch.
        rows: usize,
        /// Why.
        source: Arc<EncodeError>,
    },
    /// Arrow refused the result.
    #[error("assemble the output")]
    Assemble {
        /// Why.
        source: Arc<arrow::error::ArrowError>,
    },
    /// The operating system gave no thread.
    #[error("start the thread `{thread}`")]
    Thread {
        /// The thread's name.
        thread: &'static str,
        /// What it said.
        source: Arc<std::io::Error>,
    },
    /// A thread of the embedder panicked.
    #[error("go on after the embedder's thread `{thread}` panicked: {message}")]
    Panicked {
        /// The thread's name.
        thread: String,
        /// The panic's message.
        message: String,
    },
    /// The embedder was closed while this batch was in it.
    #[error("finish the batch: the embedder was closed")]
    Closed,
}

/// A backend failed on one batch.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The backend reported an error.
    #[error("run {backend} on a batch of {rows} x {width} tokens")]
    Backend {
        /// Which backend.
        backend: &'static str,
        /// Rows of the batch.
        rows: usize,
        /// Tokens per row, padding included.
        width: usize,
        /// Why.
        source: BoxError,
    },
    /// The model answered with a tensor of another shape than its signature says.
    #[error("use the answer of {backend}: it has shape {found:?} instead of {expected:?}")]
    Shape {
        /// Which backend.
        backend: &'static str,
        /// The shape that came.
        found: Vec<usize>,
        /// The shape that was due.
        expected: Vec<usize>,
    },
}

/// The whole chain of an error in one line, outermost first.
pub fn explain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !line.ends_with(&message) {
            line.push_str(": ");
            line.push_str(&message);
        }
        source = error.source();
    }
    line
}

pub(crate) fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "(none)".to_owned();
    }
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_column_lists_the_columns_there_are() {
        let error = EmbedError::ColumnMissing {
            column: "txt".to_owned(),
            available: vec!["id".to_owned(), "text".to_owned()],
        };
        assert_eq!(
            error.to_string(),
            "find the text column `txt`: the input has the columns `id`, `text`"
        );
    }

    #[test]
    fn explained_error_names_every_cause_once() {
        let source = std::io::Error::other("disk on fire");
        let error = LoadError::ReadFile {
            path: "config.json".into(),
            source,
        };
        assert_eq!(explain(&error), "read `config.json`: disk on fire");
    }
}
