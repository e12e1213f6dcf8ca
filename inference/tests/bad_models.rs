//! Every broken model folder ends with an error that names the file and the fix.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::fs;
use std::path::Path;

use aktis_inference::{Backend, Device, LoadError, TextEmbedder, TextEmbedderConfig, explain};
use common::{onnxruntime, tiny_config, tiny_model};

fn load_error(config: TextEmbedderConfig) -> String {
    match TextEmbedder::load(config) {
        Ok(_) => panic!("the model loaded"),
        Err(error) => explain(&error),
    }
}

fn assert_names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}

#[test]
fn folder_without_a_model_names_every_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    let message = load_error(tiny_config(folder.path()));
    assert_names(
        &message,
        &[
            "no config.json",
            "no tokenizer.json",
            "model.onnx or model.safetensors",
            "holds",
        ],
    );
}

#[test]
fn path_to_nothing_is_named() {
    let message = load_error(tiny_config(Path::new("no/such/model")));
    assert_names(&message, &["no/such/model", "there is nothing"]);
}

#[test]
fn missing_tokenizer_is_named() {
    let folder = tiny_model();
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    assert_names(
        &load_error(tiny_config(folder.path())),
        &["has no tokenizer.json;"],
    );
}

#[test]
fn broken_tokenizer_is_named() {
    let folder = tiny_model();
    fs::write(folder.path().join("tokenizer.json"), "{\"model\": 3}").unwrap();
    assert_names(
        &load_error(tiny_config(folder.path())),
        &["tokenizer.json", "as a tokenizer: "],
    );
}

#[test]
fn broken_config_is_named_with_the_line_or_the_field() {
    for (text, part) in [
        ("{\"hidden_size\": 8,", "line 1"),
        (
            "{\"vocab_size\": null, \"hidden_size\": \"wide\"}",
            "`hidden_size`: invalid type",
        ),
        ("{\"vocab_size\": 9}", "missing field `hidden_size`"),
    ] {
        let folder = tiny_model();
        fs::write(folder.path().join("config.json"), text).unwrap();
        assert_names(
            &load_error(tiny_config(folder.path())),
            &["config.json", part],
        );
    }
}

#[test]
fn truncated_safetensors_is_named() {
    let folder = tiny_model();
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for end in [0, 7, 100, bytes.len() - 1] {
        fs::write(&path, &bytes[..end]).unwrap();
        assert_names(
            &load_error(tiny_config(folder.path())),
            &["read the weights", "model.safetensors"],
        );
    }
}

#[test]
fn weights_of_another_shape_name_the_tensor() {
    let folder = tiny_model();
    let path = folder.path().join("config.json");
    let config = fs::read_to_string(&path)
        .unwrap()
        .replace("\"intermediate_size\":32", "\"intermediate_size\":64");
    fs::write(&path, config).unwrap();
    let message = load_error(tiny_config(folder.path()));
    assert_names(
        &message,
        &["intermediate.dense.weight", "[32, 16]", "[64, 16]"],
    );
}

#[test]
fn weights_without_a_layer_name_the_missing_tensor() {
    let folder = tiny_model();
    let path = folder.path().join("config.json");
    let config = fs::read_to_string(&path)
        .unwrap()
        .replace("\"num_hidden_layers\":2", "\"num_hidden_layers\":3");
    fs::write(&path, config).unwrap();
    assert_names(
        &load_error(tiny_config(folder.path())),
        &["no tensor `encoder.layer.2."],
    );
}

#[test]
fn model_of_another_family_is_refused() {
    let folder = tiny_model();
    let path = folder.path().join("config.json");
    let config = fs::read_to_string(&path)
        .unwrap()
        .replace("\"bert\"", "\"deberta\"");
    fs::write(&path, config).unwrap();
    assert_names(
        &load_error(tiny_config(folder.path())),
        &["model_type", "`deberta`", "backend=\"onnx\""],
    );
}

#[test]
fn onnx_backend_without_a_graph_says_how_to_write_one() {
    let folder = tiny_model();
    let config = TextEmbedderConfig {
        backend: Backend::Onnx,
        ..tiny_config(folder.path())
    };
    assert_names(
        &load_error(config),
        &["no model.onnx", "aktis.models.export_onnx"],
    );
}

#[test]
fn missing_onnxruntime_says_what_to_install() {
    let folder = tiny_model();
    fs::write(folder.path().join("model.onnx"), "").unwrap();
    let config = TextEmbedderConfig {
        backend: Backend::Onnx,
        onnxruntime_path: Some("/no/such/libonnxruntime.so".into()),
        ..tiny_config(folder.path())
    };
    assert_names(
        &load_error(config),
        &["/no/such/libonnxruntime.so", "pip install onnxruntime"],
    );
    assert_names(
        &LoadError::RuntimeNotFound.to_string(),
        &["ORT_DYLIB_PATH", "pip install onnxruntime"],
    );
}

#[test]
fn corrupt_onnx_graph_is_named() {
    let Some(library) = onnxruntime() else { return };
    let folder = tiny_model();
    fs::write(folder.path().join("model.onnx"), b"\x08\x08not a graph").unwrap();
    let config = TextEmbedderConfig {
        backend: Backend::Onnx,
        onnxruntime_path: Some(library),
        ..tiny_config(folder.path())
    };
    assert_names(&load_error(config), &["load the ONNX graph", "model.onnx"]);
}

#[test]
fn candle_on_a_gpu_is_refused_with_the_alternative() {
    let folder = tiny_model();
    let config = TextEmbedderConfig {
        device: Device::Cuda(0),
        ..tiny_config(folder.path())
    };
    assert_names(&load_error(config), &["cuda:0", "onnxruntime-gpu"]);
}

#[test]
fn impossible_settings_are_refused_by_name() {
    let folder = tiny_model();
    let wrong = |change: fn(&mut TextEmbedderConfig)| {
        let mut config = tiny_config(folder.path());
        change(&mut config);
        load_error(config)
    };
    assert_names(
        &wrong(|config| config.max_tokens = Some(65)),
        &["max_tokens = 65", "3 to 64"],
    );
    assert_names(
        &wrong(|config| config.replicas = Some(0)),
        &["replicas = 0", "at least 1"],
    );
    assert_names(
        &wrong(|config| config.intra_threads = Some(0)),
        &["intra_threads = 0", "at least 1"],
    );
    assert_names(
        &wrong(|config| config.token_budget = Some(0)),
        &["token_budget = 0", "at least 1"],
    );
}
