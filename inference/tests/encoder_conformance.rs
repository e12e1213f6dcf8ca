//! One suite for every encoder: INF-3 (padding-is-invisible) and INF-4 (any-shape), on a tiny random model and on the
//! real one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::path::Path;

use aktis_inference::core::token_batch::TokenBatch;
use aktis_inference::encoder::Encoder;
use aktis_inference::encoder::candle::{Behind, CandleEncoder, CandleOptions};
use aktis_inference::encoder::onnx::{OnnxEncoder, OnnxOptions};
use aktis_inference::encoder::onnx_session::SessionOptions;
use aktis_inference::testing::TINY_DIM;
use aktis_inference::{Device, Head, Pooling};
use common::{candle_library, cosine, onnxruntime, real_model, tiny_model};

const MINILM_DIM: usize = 384;

fn candle(folder: &Path) -> Box<dyn Encoder> {
    let options = CandleOptions {
        library: candle_library(),
        config: folder.join("config.json"),
        weights: folder.join("model.safetensors"),
        intra_threads: 1,
        dtype: None,
        pooling: Pooling::Mean,
        behind: Behind::Nothing,
    };
    Box::new(CandleEncoder::load(&options).unwrap())
}

fn onnx(folder: &Path, library: &Path) -> Box<dyn Encoder> {
    let options = OnnxOptions {
        session: SessionOptions {
            graph: folder.join("model.onnx"),
            library: library.to_owned(),
            device: Device::Cpu,
            intra_threads: 1,
        },
        dim: MINILM_DIM,
        dense: None,
        head: Head::Vector,
        pooling: Pooling::Mean,
        is_pooling_named: false,
    };
    Box::new(OnnxEncoder::load(&options).unwrap())
}

fn pooled(encoder: &mut dyn Encoder, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let batch = TokenBatch::from_rows(rows, 0);
    let mut vectors = vec![f32::NAN; rows.len() * encoder.dim()];
    encoder.encode(&batch, &mut vectors).unwrap();
    vectors
        .chunks_exact(encoder.dim())
        .map(<[f32]>::to_vec)
        .collect()
}

fn conforms(encoder: &mut dyn Encoder, dim: usize) {
    assert_eq!(encoder.dim(), dim);
    let row = |length: u32| -> Vec<u32> { (0..length).map(|token| 5 + (token * 7) % 60).collect() };
    let rows: Vec<Vec<u32>> = [48, 3, 17, 3, 30, 1].map(row).into();

    assert!(pooled(encoder, &[]).is_empty(), "INF-4: zero rows");
    assert!(
        pooled(encoder, &[Vec::new()])[0]
            .iter()
            .all(|&value| value == 0.0),
        "INF-4: no tokens"
    );
    let alone: Vec<Vec<f32>> = rows
        .iter()
        .map(|row| pooled(encoder, std::slice::from_ref(row)).remove(0))
        .collect();
    let together = pooled(encoder, &rows);
    let mut reversed = pooled(encoder, &rows.iter().rev().cloned().collect::<Vec<_>>());
    reversed.reverse();
    for (index, alone) in alone.iter().enumerate() {
        assert!(
            alone.iter().all(|value| value.is_finite()),
            "row {index} of {}",
            encoder.name()
        );
        for other in [&together[index], &reversed[index]] {
            let cosine = cosine(alone, other);
            assert!(
                cosine > 0.999_999,
                "INF-3: row {index} of {}: cosine {cosine}",
                encoder.name()
            );
        }
    }
    assert!(
        cosine(&alone[0], &alone[1]) < 0.9999,
        "different texts differ"
    );
    assert_eq!(alone[1], alone[3], "equal texts are equal");
}

#[test]
fn candle_conforms_on_a_tiny_model() {
    conforms(candle(tiny_model().path()).as_mut(), TINY_DIM);
}

#[test]
fn candle_conforms_on_the_real_model() {
    let Some(model) = real_model() else { return };
    conforms(candle(&model).as_mut(), MINILM_DIM);
}

#[test]
fn onnxruntime_conforms_on_the_real_model() {
    let (Some(model), Some(library)) = (real_model(), onnxruntime()) else {
        return;
    };
    conforms(onnx(&model, &library).as_mut(), MINILM_DIM);
}

#[test]
fn backends_agree_on_the_real_model() {
    let (Some(model), Some(library)) = (real_model(), onnxruntime()) else {
        return;
    };
    let rows: Vec<Vec<u32>> = (1..60u32)
        .map(|length| (0..length).map(|token| 1000 + token * length).collect())
        .collect();
    let from_candle = pooled(candle(&model).as_mut(), &rows);
    let from_onnx = pooled(onnx(&model, &library).as_mut(), &rows);
    for (row, (candle, onnx)) in from_candle.iter().zip(&from_onnx).enumerate() {
        let cosine = cosine(candle, onnx);
        assert!(cosine > 0.999_999, "row {row}: cosine {cosine}");
    }
}
