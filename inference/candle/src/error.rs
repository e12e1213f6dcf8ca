//! Why a model does not load, in one line that names the file and the fix.

use std::path::PathBuf;

use rayon::ThreadPoolBuildError;

/// Why a model was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// A file of the folder cannot be read.
    #[error("read `{path}`: {source}")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `config.json` does not say what it should.
    #[error("read `{path}` as a model's configuration: {source}")]
    ParseConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The model is not of the family that is implemented here.
    #[error("load `{path}`: {setting} `{value}` is not supported by the candle backend; {fix}")]
    Unsupported {
        /// The `config.json`.
        path: PathBuf,
        /// Which entry of it.
        setting: &'static str,
        /// What it says.
        value: String,
        /// What is supported instead.
        fix: &'static str,
    },
    /// `model.safetensors` is corrupt, or lacks a tensor, or has one of a wrong shape.
    #[error("read the weights `{path}`: {source}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why, naming the tensor where it is about one.
        source: candle_core::Error,
    },
    /// `model.safetensors.index.json` does not say in which files the weights are.
    #[error("read `{path}`, which names the files of the weights: {reason}")]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system gave no threads.
    #[error("start {threads} threads for a model: {source}")]
    Threads {
        /// How many.
        threads: usize,
        /// Why.
        source: ThreadPoolBuildError,
    },
}
