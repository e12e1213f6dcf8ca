//! The head of a sequence classifier, for backends that give the states of tokens: `W2 tanh(W1 x + b1) + b2` of a text's first state.
//!
//! BERT calls `W1` its pooler, and RoBERTa's head has both.

use std::path::Path;

use arrow::datatypes::{ArrowPrimitiveType, Float16Type};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::LoadError;

/// Names of the two layers, with and without what checkpoints put before those of the encoder.
const LAYERS: [[&str; 2]; 3] = [
    ["bert.pooler.dense", "classifier"],
    ["pooler.dense", "classifier"],
    ["classifier.dense", "classifier.out_proj"],
];

/// The two layers.
#[derive(Debug)]
pub struct ClassifierHead {
    dense: Layer,
    out: Layer,
}

/// `W x + b`, with `W` row after row.
#[derive(Debug)]
struct Layer {
    weights: Vec<f32>,
    biases: Vec<f32>,
}

impl ClassifierHead {
    /// Takes it out of `model.safetensors`.
    pub fn read(path: &Path, hidden: usize, labels: usize) -> Result<Self, LoadError> {
        let bytes = std::fs::read(path).map_err(|source| LoadError::ReadFile {
            path: path.to_owned(),
            source,
        })?;
        Self::of(&bytes, hidden, labels).map_err(|reason| LoadError::HeadWeights {
            path: path.to_owned(),
            reason,
        })
    }

    fn of(bytes: &[u8], hidden: usize, labels: usize) -> Result<Self, String> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let layers = LAYERS.iter().find(|layers| {
            layers
                .iter()
                .all(|name| tensors.tensor(&format!("{name}.weight")).is_ok())
        });
        let [dense, out] = layers.ok_or_else(|| {
            format!(
                "it has no head of a BERT or RoBERTa, none of {:?}; use an ONNX graph with backend=\"onnx\"",
                LAYERS
            )
        })?;
        Ok(Self {
            dense: Layer::of(&tensors, dense, hidden, hidden)?,
            out: Layer::of(&tensors, out, hidden, labels)?,
        })
    }

    /// Numbers that it gives for a text.
    pub(crate) fn labels(&self) -> usize {
        self.out.biases.len()
    }

    /// `states` has shape `(rows, width, hidden)`, `logits` `(rows, labels)`.
    pub(crate) fn apply(&self, states: &[f32], width: usize, logits: &mut [f32]) {
        let hidden = self.dense.biases.len();
        let mut pooled = vec![0.0; hidden];
        let rows = states.chunks_exact(width * hidden);
        for (row, logits) in rows.zip(logits.chunks_exact_mut(self.labels())) {
            self.dense.apply(&row[..hidden], &mut pooled);
            pooled.iter_mut().for_each(|value| *value = value.tanh());
            self.out.apply(&pooled, logits);
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
            let cells = halves.iter().map(|&cell| Half::from_le_bytes(cell).to_f32());
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
