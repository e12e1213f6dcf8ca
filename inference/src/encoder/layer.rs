//! A linear layer behind an encoder, for one vector at a time.

use super::math;
use super::safetensors_files::Tensors;

/// `W x + b`, with `W` row after row.
#[derive(Debug)]
pub(crate) struct Layer {
    weights: Vec<f32>,
    biases: Vec<f32>,
}

impl Layer {
    /// The layer `name`, with a bias or without.
    pub(crate) fn of(
        tensors: &Tensors<'_>,
        name: &str,
        [inputs, outputs]: [usize; 2],
        has_bias: bool,
    ) -> Result<Self, String> {
        Ok(Self {
            weights: tensors.numbers(&format!("{name}.weight"), &[outputs, inputs])?,
            biases: match has_bias {
                true => tensors.numbers(&format!("{name}.bias"), &[outputs])?,
                false => vec![0.0; outputs],
            },
        })
    }

    /// Numbers that it gives.
    pub(crate) fn outputs(&self) -> usize {
        self.biases.len()
    }

    pub(crate) fn apply(&self, input: &[f32], output: &mut [f32]) {
        let rows = self.weights.chunks_exact(input.len());
        for ((output, weights), bias) in output.iter_mut().zip(rows).zip(&self.biases) {
            let products = weights
                .iter()
                .zip(input)
                .map(|(weight, value)| weight * value);
            *output = bias + math::sum(products);
        }
    }
}
