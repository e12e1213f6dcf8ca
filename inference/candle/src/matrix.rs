//! The weights of a linear layer, in float32 or as whole numbers of 8 bits.
//!
//! Those of 8 bits have a factor for each block of 32, so that no weight is off by more than a 254th of the largest beside it. They become float32 again for each
//! product, some rows at a time, which costs next to nothing beside a product over a batch; what is multiplied is not rounded, so that no answer depends on
//! what else is in a batch.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Weights that share a factor.
const BLOCK: usize = 32;
/// Weights that are float32 at a time: 4 MiB.
const TILE: usize = 1 << 20;
const LARGEST: f32 = 127.0;

/// What the weights of linear layers are kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    Float32,
    Int8,
}

/// A matrix that states are multiplied by. Cloning shares it.
#[derive(Clone)]
pub(crate) enum Matrix {
    /// `(inputs, outputs)`.
    Float32(Tensor),
    Int8(Arc<Int8>),
}

impl Matrix {
    /// From a weight as checkpoints store it: `(outputs, inputs)`, in float32.
    pub(crate) fn new(weight: &Tensor, numbers: Numbers) -> Result<Self> {
        Ok(match numbers {
            Numbers::Float32 => Self::Float32(weight.t()?.contiguous()?),
            Numbers::Int8 => Self::Int8(Arc::new(Int8::new(weight)?)),
        })
    }

    /// `x W` for each row of `(rows, inputs)`.
    pub(crate) fn product(&self, states: &Tensor) -> Result<Tensor> {
        match self {
            Self::Float32(weight) => states.matmul(weight),
            Self::Int8(weight) => weight.product(states),
        }
    }
}

/// Row after row of `(outputs, inputs)`, in blocks.
pub(crate) struct Int8 {
    numbers: Vec<i8>,
    factors: Vec<f32>,
    inputs: usize,
}

impl Int8 {
    fn new(weight: &Tensor) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let weights = weight.flatten_all()?.to_vec1::<f32>()?;
        let mut made = Self {
            numbers: vec![0; weights.len()],
            factors: vec![0.0; outputs * inputs.div_ceil(BLOCK)],
            inputs,
        };
        let rows = made.numbers.par_chunks_exact_mut(inputs);
        rows.zip(made.factors.par_chunks_exact_mut(inputs.div_ceil(BLOCK)))
            .zip(weights.par_chunks_exact(inputs))
            .for_each(|((numbers, factors), weights)| {
                let blocks = numbers.chunks_mut(BLOCK).zip(weights.chunks(BLOCK));
                for ((numbers, weights), factor) in blocks.zip(factors) {
                    let largest = weights.iter().fold(0.0f32, |most, one| most.max(one.abs()));
                    *factor = largest / LARGEST;
                    // A block of zeros stays one.
                    let scale = if largest > 0.0 {
                        LARGEST / largest
                    } else {
                        0.0
                    };
                    for (number, weight) in numbers.iter_mut().zip(weights) {
                        *number = (weight * scale).round_ties_even() as i8;
                    }
                }
            });
        Ok(made)
    }

    fn product(&self, states: &Tensor) -> Result<Tensor> {
        let rows = (TILE / self.inputs).max(1);
        let blocks = self.inputs.div_ceil(BLOCK);
        let tiles = self.numbers.chunks(rows * self.inputs);
        let products = tiles
            .zip(self.factors.chunks(rows * blocks))
            .map(|(numbers, factors)| {
                let weights = self.weights(numbers, factors);
                let outputs = weights.len() / self.inputs;
                let weights = Tensor::from_vec(weights, (outputs, self.inputs), &Device::Cpu)?;
                states.matmul(&weights.t()?)
            });
        match &products.collect::<Result<Vec<_>>>()?[..] {
            [all] => Ok(all.clone()),
            parts => Tensor::cat(parts, 1),
        }
    }

    /// Those of some rows, in float32.
    fn weights(&self, numbers: &[i8], factors: &[f32]) -> Vec<f32> {
        let mut weights = vec![0.0; numbers.len()];
        weights
            .par_chunks_exact_mut(self.inputs)
            .zip(numbers.par_chunks_exact(self.inputs))
            .zip(factors.par_chunks_exact(self.inputs.div_ceil(BLOCK)))
            .for_each(|((weights, numbers), factors)| {
                let blocks = weights.chunks_mut(BLOCK).zip(numbers.chunks(BLOCK));
                for ((weights, numbers), factor) in blocks.zip(factors) {
                    for (weight, number) in weights.iter_mut().zip(numbers) {
                        *weight = f32::from(*number) * factor;
                    }
                }
            });
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, noise, numbers};

    #[test]
    fn weights_of_8_bits_are_near_those_they_were_made_of() {
        // Of inputs that no block divides, and with a block of zeros.
        let weight = noise(&[7, 70]);
        let zeros = Tensor::zeros((1, 70), candle_core::DType::F32, &Device::Cpu).unwrap();
        let weight = Tensor::cat(&[&weight, &zeros], 0).unwrap();
        let made = Int8::new(&weight).unwrap();
        let found = made.weights(&made.numbers, &made.factors);
        // The noise is at most 2, and rounding is off by half a step.
        for (found, weight) in found.iter().zip(numbers(&weight)) {
            assert!(
                (found - weight).abs() <= 1.001 / LARGEST,
                "{found} and {weight}"
            );
        }
        assert_eq!(found[7 * 70..], [0.0; 70]);
        assert!(made.numbers.contains(&127) || made.numbers.contains(&-127));
    }

    #[test]
    fn product_is_that_of_its_weights_in_one_tile_and_in_several() {
        for (outputs, inputs) in [(5, 40), (3, TILE / 2 + 1)] {
            let (states, weight) = (noise(&[2, inputs]), noise(&[outputs, inputs]));
            let made = Int8::new(&weight).unwrap();
            let near = made.weights(&made.numbers, &made.factors);
            let near = Tensor::from_vec(near, (outputs, inputs), &Device::Cpu).unwrap();
            let theirs = states.matmul(&near.t().unwrap()).unwrap();
            let matrix = Matrix::Int8(Arc::new(made));
            let scale = 1.0 / inputs as f64;
            let ours = matrix.product(&states).unwrap().affine(scale, 0.0).unwrap();
            assert_close(&ours, &theirs.affine(scale, 0.0).unwrap());
        }
    }
}
