//! The head of a sequence classifier, for backends that give the states of tokens: `W2 tanh(W1 x + b1) + b2` of a text's first state.
//!
//! BERT calls `W1` its pooler, and RoBERTa's head has both. ModernBERT's is `W2 LayerNorm(gelu(W1 x)) + b2`, of the first state or of their mean.

// The exact GELU, as the encoder computes it.
#[allow(
    dead_code,
    reason = "one text for both sides, of which this one uses a part"
)]
#[path = "../../candle/src/math.rs"]
mod math;

use std::path::Path;

use arrow::datatypes::{ArrowPrimitiveType, Float16Type};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::config::Pooling;
use crate::core::pooling::pool;
use crate::core::token_batch::TokenBatch;
use crate::error::LoadError;
use crate::model_folder::ModelConfig;

/// Names of the two layers, with and without what checkpoints put before those of the encoder.
const LAYERS: [[&str; 2]; 4] = [
    ["bert.pooler.dense", "classifier"],
    ["pooler.dense", "classifier"],
    ["classifier.dense", "classifier.out_proj"],
    [MODERN, "classifier"],
];
/// ModernBERT's first layer.
const MODERN: &str = "head.dense";
/// And its norm.
const MODERN_NORM: &str = "head.norm.weight";

/// The two layers, and what is around them.
#[derive(Debug)]
pub struct ClassifierHead {
    pooling: Pooling,
    dense: Layer,
    between: Between,
    out: Layer,
}

/// What is done between the layers.
#[derive(Debug)]
enum Between {
    Tanh,
    GeluNorm { weights: Vec<f32>, epsilon: f32 },
}

/// `W x + b`, with `W` row after row.
#[derive(Debug)]
struct Layer {
    weights: Vec<f32>,
    biases: Vec<f32>,
}

impl ClassifierHead {
    /// Takes it out of `model.safetensors`.
    pub fn read(path: &Path, config: &ModelConfig, labels: usize) -> Result<Self, LoadError> {
        let bytes = std::fs::read(path).map_err(|source| LoadError::ReadFile {
            path: path.to_owned(),
            source,
        })?;
        Self::of(&bytes, config, labels).map_err(|reason| LoadError::HeadWeights {
            path: path.to_owned(),
            reason,
        })
    }

    fn of(bytes: &[u8], config: &ModelConfig, labels: usize) -> Result<Self, String> {
        let hidden = config.hidden_size;
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let layers = LAYERS.iter().find(|layers| {
            layers
                .iter()
                .all(|name| tensors.tensor(&format!("{name}.weight")).is_ok())
        });
        let [dense, out] = layers.ok_or_else(|| {
            format!(
                "it has no head of a BERT, RoBERTa, MPNet or ModernBERT, none of {:?}; use an ONNX graph with backend=\"onnx\"",
                LAYERS
            )
        })?;
        let out = Layer::of(&tensors, out, hidden, labels)?;
        if *dense != MODERN {
            return Ok(Self {
                pooling: Pooling::Cls,
                dense: Layer::of(&tensors, dense, hidden, hidden)?,
                between: Between::Tanh,
                out,
            });
        }
        let has_bias = tensors.tensor("head.dense.bias").is_ok();
        Ok(Self {
            pooling: match config.classifier_pooling.as_deref() {
                None | Some("cls") => Pooling::Cls,
                Some("mean") => Pooling::Mean,
                Some(other) => return Err(unknown("classifier_pooling", other, "cls and mean")),
            },
            dense: match has_bias {
                true => Layer::of(&tensors, dense, hidden, hidden)?,
                false => Layer::without_bias(&tensors, dense, hidden, hidden)?,
            },
            between: match config.classifier_activation.as_deref() {
                None | Some("gelu") => Between::GeluNorm {
                    weights: numbers(&tensors, MODERN_NORM, &[hidden])?,
                    epsilon: config.norm_eps.unwrap_or(MODERN_EPSILON),
                },
                Some(other) => return Err(unknown("classifier_activation", other, "gelu")),
            },
            out,
        })
    }

    /// Numbers that it gives for a text.
    pub(crate) fn labels(&self) -> usize {
        self.out.biases.len()
    }

    /// `states` has shape `(rows, width, hidden)`, `logits` `(rows, labels)`.
    pub(crate) fn apply(&self, states: &[f32], batch: &TokenBatch, logits: &mut [f32]) {
        let hidden = self.dense.biases.len();
        let mut pooled = vec![0.0; batch.rows() * hidden];
        pool(self.pooling, states, batch, hidden, &mut pooled);
        let mut inner = vec![0.0; hidden];
        let rows = pooled.chunks_exact(hidden);
        for (row, logits) in rows.zip(logits.chunks_exact_mut(self.labels())) {
            self.dense.apply(row, &mut inner);
            self.between.apply(&mut inner);
            self.out.apply(&inner, logits);
        }
    }
}

/// Of a ModernBERT that names none.
const MODERN_EPSILON: f32 = 1e-5;

fn unknown(setting: &str, value: &str, known: &str) -> String {
    format!(
        "config.json has {setting} `{value}`, and {known} can be used; use an ONNX graph with backend=\"onnx\""
    )
}

impl Between {
    fn apply(&self, values: &mut [f32]) {
        let (weights, epsilon) = match self {
            Self::Tanh => return values.iter_mut().for_each(|value| *value = value.tanh()),
            Self::GeluNorm { weights, epsilon } => (weights, epsilon),
        };
        values
            .iter_mut()
            .for_each(|value| *value = math::gelu(*value));
        let count = values.len() as f32;
        let mean = values.iter().sum::<f32>() / count;
        let variance = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f32>()
            / count;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for (value, weight) in values.iter_mut().zip(weights) {
            *value = (*value - mean) * scale * weight;
        }
    }
}

impl Layer {
    fn of(
        tensors: &SafeTensors<'_>,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, String> {
        Ok(Self {
            weights: numbers(tensors, &format!("{name}.weight"), &[outputs, inputs])?,
            biases: numbers(tensors, &format!("{name}.bias"), &[outputs])?,
        })
    }

    fn without_bias(
        tensors: &SafeTensors<'_>,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, String> {
        Ok(Self {
            weights: numbers(tensors, &format!("{name}.weight"), &[outputs, inputs])?,
            biases: vec![0.0; outputs],
        })
    }

    fn apply(&self, input: &[f32], output: &mut [f32]) {
        let rows = self.weights.chunks_exact(input.len());
        for ((output, weights), bias) in output.iter_mut().zip(rows).zip(&self.biases) {
            let products = weights
                .iter()
                .zip(input)
                .map(|(weight, value)| weight * value);
            *output = bias + products.sum::<f32>();
        }
    }
}

fn numbers(tensors: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let tensor: TensorView<'_> = tensors
        .tensor(name)
        .map_err(|_| format!("it has no tensor `{name}`"))?;
    let unfit = || {
        format!(
            "its tensor `{name}` is {:?} of shape {:?}, and F32, F16 or BF16 of shape {shape:?} is needed",
            tensor.dtype(),
            tensor.shape()
        )
    };
    if tensor.shape() != shape {
        return Err(unfit());
    }
    let (words, _) = tensor.data().as_chunks::<4>();
    let (halves, _) = tensor.data().as_chunks::<2>();
    Ok(match tensor.dtype() {
        Dtype::F32 => words.iter().map(|&cell| f32::from_le_bytes(cell)).collect(),
        Dtype::F16 => {
            let cells = halves
                .iter()
                .map(|&cell| Half::from_le_bytes(cell).to_f32());
            cells.collect()
        }
        // The upper half of a float32.
        Dtype::BF16 => {
            let cells = halves.iter().map(|&[low, high]| [0, 0, low, high]);
            cells.map(f32::from_le_bytes).collect()
        }
        _ => return Err(unfit()),
    })
}

type Half = <Float16Type as ArrowPrimitiveType>::Native;
