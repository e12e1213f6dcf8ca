//! What is loaded from what is there: backends, and specifications that travelled.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::fs;
use std::sync::Arc;

use aktis_inference::testing::{TINY_DIM, TINY_MAX_TOKENS};
use aktis_inference::{
    Backend, Device, LoadError, StreamOptions, TextEmbedder, TextEmbedderConfig, TextEmbedderSpec,
};
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use common::{onnxruntime, real_model, tiny_config, tiny_model};

#[test]
fn auto_takes_candle_where_there_is_no_graph() {
    let folder = tiny_model();
    let config = TextEmbedderConfig {
        backend: Backend::Auto,
        device: Device::Auto,
        ..tiny_config(folder.path())
    };
    let embedder = TextEmbedder::load(config).unwrap();
    assert_eq!(
        (embedder.backend(), embedder.device()),
        (Backend::Candle, Device::Cpu)
    );
    assert_eq!(
        (embedder.dim(), embedder.max_tokens()),
        (TINY_DIM, TINY_MAX_TOKENS)
    );
}

#[test]
fn auto_takes_onnxruntime_where_graph_and_library_are_there() {
    let (Some(model), Some(library)) = (real_model(), onnxruntime()) else {
        return;
    };
    let config = TextEmbedderConfig {
        onnxruntime_path: Some(library),
        device: Device::Cpu,
        replicas: Some(1),
        ..TextEmbedderConfig::new(model)
    };
    assert_eq!(TextEmbedder::load(config).unwrap().backend(), Backend::Onnx);
}

#[test]
fn auto_does_not_hide_a_library_path_that_is_wrong() {
    let folder = tiny_model();
    fs::write(folder.path().join("model.onnx"), "").unwrap();
    let config = TextEmbedderConfig {
        backend: Backend::Auto,
        onnxruntime_path: Some("/no/such/library".into()),
        ..tiny_config(folder.path())
    };
    assert!(matches!(
        TextEmbedder::load(config),
        Err(LoadError::RuntimePathIsNoFile { .. })
    ));
}

#[test]
fn specification_travels_as_json_and_becomes_an_embedder() {
    let folder = tiny_model();
    let stream = StreamOptions {
        output_column: "vector".to_owned(),
        ..StreamOptions::new("body")
    };
    let spec = TextEmbedderSpec {
        embedder: tiny_config(folder.path()),
        stream,
    };
    let spec = TextEmbedderSpec::from_json(&spec.to_json()).unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a b", "c"]));
    let input = RecordBatch::try_from_iter([("body", texts)]).unwrap();
    let planned = spec
        .output_schema(input.schema_ref(), spec.dim().unwrap())
        .unwrap();
    let output = spec.start().unwrap().embed(input).unwrap();
    assert_eq!(output.schema(), planned);
    assert_eq!(output.column_by_name("vector").unwrap().len(), 2);
}

#[test]
fn embedding_does_not_depend_on_replicas_or_token_budget() {
    let folder = tiny_model();
    let texts =
        StringArray::from_iter((0..100).map(|row| (row % 9 != 4).then(|| "a1 ".repeat(row % 20))));
    let embed = |replicas, token_budget| {
        let config = TextEmbedderConfig {
            replicas: Some(replicas),
            token_budget: Some(token_budget),
            ..tiny_config(folder.path())
        };
        TextEmbedder::load(config).unwrap().embed(&texts).unwrap()
    };
    let reference = embed(1, 1);
    assert_eq!(reference.null_count(), texts.null_count());
    for (replicas, token_budget) in [(1, 512), (3, 64), (4, 100_000)] {
        let other = embed(replicas, token_budget);
        assert_eq!(other.nulls(), reference.nulls());
        let numbers = |array: &arrow::array::FixedSizeListArray| -> Vec<f32> {
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Float32Type>(array.values())
                .values()
                .to_vec()
        };
        for (other, reference) in numbers(&other).iter().zip(numbers(&reference)) {
            assert!((other - reference).abs() < 1e-5);
        }
    }
}
