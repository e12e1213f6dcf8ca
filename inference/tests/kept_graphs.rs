//! Weights of a graph that a node keeps lie in memory once, and say the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::fs;
use std::path::Path;

use aktis_inference::{Device, KeptGraphs, Pooling, TextEmbedder, TextEmbedderConfig, keep_graphs};
use arrow::array::{AsArray, StringArray};
use arrow::datatypes::Float32Type;
use common::{onnxruntime, real_model};

/// Bytes of mappings of the file: all that are in memory, and those that this process has for itself.
fn mapped(name: &str) -> (u64, u64) {
    let (mut all, mut own, mut is_meant) = (0, 0, false);
    for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let bytes = || {
            let kilobytes = line.split_whitespace().nth(1).unwrap();
            kilobytes.parse::<u64>().unwrap() << 10
        };
        match line.split_whitespace().next().unwrap_or_default() {
            "Rss:" if is_meant => all += bytes(),
            "Private_Dirty:" if is_meant => own += bytes(),
            first if !first.ends_with(':') => is_meant = line.ends_with(name),
            _ => {}
        }
    }
    (all, own)
}

fn vectors(config: &TextEmbedderConfig) -> Vec<f32> {
    let texts = StringArray::from(vec!["a ray of light", "tax returns and invoices", "x"]);
    let embedded = TextEmbedder::load(config.clone()).unwrap().embed(&texts);
    let embedded = embedded.unwrap();
    embedded
        .values()
        .as_primitive::<Float32Type>()
        .values()
        .to_vec()
}

fn graphs_in(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

#[test]
fn kept_graph_is_mapped_says_the_same_and_is_made_once_for_each_state_of_its_file() {
    let (Some(model), Some(library)) = (real_model(), onnxruntime()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("model");
    fs::create_dir_all(&copy).unwrap();
    for name in ["config.json", "tokenizer.json", "model.onnx"] {
        fs::copy(model.join(name), copy.join(name)).unwrap();
    }
    let config = TextEmbedderConfig {
        onnxruntime_path: Some(library),
        device: Device::Cpu,
        replicas: Some(2),
        pooling: Some(Pooling::Mean),
        ..TextEmbedderConfig::new(&copy)
    };
    let plain = vectors(&config);
    let kept = KeptGraphs {
        folder: folder.path().join("graphs"),
        most_bytes: u64::MAX,
    };
    keep_graphs(kept.clone());
    assert_eq!(vectors(&config), plain);
    let [made] = &graphs_in(&kept.folder)[..] else {
        panic!("one graph is kept");
    };
    let weights = fs::metadata(made.join("weights.bin")).unwrap();

    let loaded = TextEmbedder::load(config.clone()).unwrap();
    assert_eq!(loaded.replicas(), 2);
    let (all, own) = mapped("weights.bin");
    assert!(
        all > weights.len() / 2,
        "{all} of {} are mapped",
        weights.len()
    );
    assert_eq!(own, 0, "nothing of it is a copy");
    let again = fs::metadata(made.join("weights.bin")).unwrap();
    assert_eq!(again.modified().unwrap(), weights.modified().unwrap());

    // Another graph under the same name, and one that there is no room for.
    let file = fs::File::options()
        .append(true)
        .open(copy.join("model.onnx"))
        .unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(vectors(&config), plain);
    assert_eq!(graphs_in(&kept.folder).len(), 2);
    keep_graphs(KeptGraphs {
        folder: folder.path().join("no room"),
        most_bytes: 1 << 20,
    });
    assert_eq!(vectors(&config), plain);
    assert!(!folder.path().join("no room").exists());

    // Files that others have spoiled are passed over.
    keep_graphs(kept.clone());
    for kept in graphs_in(&kept.folder) {
        fs::write(kept.join("model.onnx"), b"spoiled").unwrap();
    }
    assert_eq!(vectors(&config), plain);
}
