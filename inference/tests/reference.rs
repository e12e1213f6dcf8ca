//! Embeddings of real texts against vectors of an independent implementation (`fixtures/minilm_reference.json` says which).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::path::PathBuf;

use aktis_inference::{Backend, Device, TextEmbedder, TextEmbedderConfig};
use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::Float32Type;
use common::{candle_library, cosine, onnxruntime, real_model};
use serde::Deserialize;

const LOWEST_COSINE: f64 = 0.999_99;

#[derive(Deserialize)]
struct Reference {
    rows: Vec<ReferenceRow>,
}

#[derive(Deserialize)]
struct ReferenceRow {
    text: String,
    tokens: usize,
    embedding: Vec<f32>,
}

fn reference() -> Vec<ReferenceRow> {
    let text = include_str!("fixtures/minilm_reference.json");
    serde_json::from_str::<Reference>(text).unwrap().rows
}

fn config(model: PathBuf, backend: Backend, library: Option<PathBuf>) -> TextEmbedderConfig {
    TextEmbedderConfig {
        backend,
        device: Device::Cpu,
        onnxruntime_path: library,
        candle_path: Some(candle_library()),
        ..TextEmbedderConfig::new(model)
    }
}

fn matches_the_reference(config: TextEmbedderConfig) {
    let reference = reference();
    let mut embedder = TextEmbedder::load(config).unwrap();
    assert_eq!(
        embedder.max_tokens(),
        256,
        "as sentence_bert_config.json says, not as tokenizer.json does"
    );
    assert!(
        reference.iter().any(|row| row.tokens == 256),
        "one text is long enough to be cut"
    );
    let texts = StringArray::from_iter_values(reference.iter().map(|row| &row.text));
    let embeddings = embedder.embed(&texts).unwrap();
    let mut lowest = 1.0f64;
    for (row, expected) in reference.iter().enumerate() {
        let found = embeddings.value(row);
        let found = found.as_primitive::<Float32Type>().values();
        let length: f64 = found
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!((length - 1.0).abs() < 1e-6, "row {row} has length {length}");
        let cosine = cosine(found, &expected.embedding);
        assert!(
            cosine >= LOWEST_COSINE,
            "row {row} ({:?}): cosine {cosine}",
            expected.text
        );
        lowest = lowest.min(cosine);
    }
    println!("{} rows, lowest cosine {lowest}", embeddings.len());
}

#[test]
fn onnxruntime_matches_the_reference_implementation() {
    let (Some(model), Some(library)) = (real_model(), onnxruntime()) else {
        return;
    };
    matches_the_reference(config(model, Backend::Onnx, Some(library)));
}

#[test]
fn candle_matches_the_reference_implementation() {
    let Some(model) = real_model() else { return };
    matches_the_reference(config(model, Backend::Candle, None));
}
