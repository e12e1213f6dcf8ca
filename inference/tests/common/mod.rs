//! What several test files need: model folders, and where the real model and ONNX Runtime are.

#![allow(
    unreachable_pub,
    reason = "shared by test files, each a crate of its own"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(
    clippy::disallowed_methods,
    reason = "the places of test data come from the Makefile's environment"
)]

use std::path::{Path, PathBuf};

pub use aktis_inference::testing::candle_library;
use aktis_inference::testing::write_tiny_model;
use aktis_inference::{Backend, Device, TextEmbedderConfig};

/// Where `make test` puts the real model, if no variable says otherwise.
const MODEL_IN_REPOSITORY: &str = ".models/all-MiniLM-L6-v2";

/// A tiny model in a folder of its own.
pub fn tiny_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(folder.path()).unwrap();
    folder
}

/// A configuration of the tiny model on candle, with everything small.
pub fn tiny_config(folder: &Path) -> TextEmbedderConfig {
    TextEmbedderConfig {
        backend: Backend::Candle,
        device: Device::Cpu,
        token_budget: Some(64),
        replicas: Some(2),
        candle_path: Some(candle_library()),
        ..TextEmbedderConfig::new(folder)
    }
}

/// The real model, or `None` with a loud message.
pub fn real_model() -> Option<PathBuf> {
    let folder = match std::env::var("AKTIS_TEST_MODEL_DIR") {
        Ok(folder) => PathBuf::from(folder),
        Err(_) => repository().join(MODEL_IN_REPOSITORY),
    };
    if folder.join("config.json").is_file() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED: no model in {}; `make model` fetches it",
        folder.display()
    );
    None
}

/// The ONNX Runtime library: `ORT_DYLIB_PATH`, or the one of the repository's virtual environment. `None` with a loud
/// message.
pub fn onnxruntime() -> Option<PathBuf> {
    if let Ok(path) = std::env::var("ORT_DYLIB_PATH") {
        return Some(PathBuf::from(path));
    }
    let environment = repository().join(".venv/lib");
    let found = children(&environment)
        .into_iter()
        .flat_map(|python| children(&python.join("site-packages/onnxruntime/capi")))
        .find(|file| {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            name.starts_with("libonnxruntime.") && !name.contains("providers")
        });
    if found.is_none() {
        eprintln!(
            "SKIPPED: no ONNX Runtime; set ORT_DYLIB_PATH, or `pip install onnxruntime` into .venv"
        );
    }
    found
}

/// Asked when the test runs: a build folder may have been filled from another clone.
fn repository() -> PathBuf {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    here.parent().unwrap().to_owned()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

/// Cosine of the angle between two vectors.
pub fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
    };
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}
