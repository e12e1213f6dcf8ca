//! The steps of BERT between its matrix products, each in one pass over memory and in place.
//!
//! candle's own element-wise operations make a new tensor per step, and spread larger ones over threads that all
//! encoders of a process share and that spin; these run on the encoder's own pool.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, InplaceOp1, InplaceOp2, Layout, Result, Shape};
use rayon::prelude::*;

use crate::math::{exp_of_negative, gelu};

/// Numbers that one thread takes at a time, or a little more.
const GRAIN: usize = 16 * 1024;

/// `gelu(x + bias)`, row by row.
pub(crate) struct BiasGelu<'model> {
    pub(crate) bias: &'model [f32],
}

impl InplaceOp1 for BiasGelu<'_> {
    fn name(&self) -> &'static str {
        "bias-gelu"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let width = self.bias.len();
        whole_rows(storage, layout, width)?.for_each(|row| {
            for (value, bias) in row.iter_mut().zip(self.bias) {
                *value = gelu(*value + bias);
            }
        });
        Ok(())
    }
}

/// LayerNorm (Ba et al., 2016) of `x + bias + residual`, row by row.
pub(crate) struct AddNorm<'model> {
    pub(crate) bias: Option<&'model [f32]>,
    pub(crate) weight: &'model [f32],
    pub(crate) shift: &'model [f32],
    pub(crate) epsilon: f32,
}

impl InplaceOp2 for AddNorm<'_> {
    fn name(&self) -> &'static str {
        "add-norm"
    }

    fn cpu_fwd(
        &self,
        storage: &mut CpuStorage,
        layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<()> {
        let width = self.weight.len();
        let residual = contiguous(residual, residual_layout)?;
        whole_rows(storage, layout, width)?
            .zip(residual.par_chunks_exact(width))
            .for_each(|(row, residual)| {
                for (value, residual) in row.iter_mut().zip(residual) {
                    *value += residual;
                }
                if let Some(bias) = self.bias {
                    for (value, bias) in row.iter_mut().zip(bias) {
                        *value += bias;
                    }
                }
                self.normalize(row);
            });
        Ok(())
    }
}

impl AddNorm<'_> {
    fn normalize(&self, row: &mut [f32]) {
        let count = row.len() as f32;
        let mean = sum(row.iter().copied()) / count;
        for value in row.iter_mut() {
            *value -= mean;
        }
        let variance = sum(row.iter().map(|value| value * value)) / count;
        let scale = 1.0 / (variance + self.epsilon).sqrt();
        for ((value, weight), shift) in row.iter_mut().zip(self.weight).zip(self.shift) {
            *value = *value * scale * weight + shift;
        }
    }
}

/// A sum in eight interleaved parts, which the compiler can keep in one vector.
fn sum(values: impl Iterator<Item = f32>) -> f32 {
    let mut parts = [0.0f32; 8];
    for (index, value) in values.enumerate() {
        parts[index % 8] += value;
    }
    parts.iter().sum()
}

/// Adds the bias to `(rows x width, 3 x hidden)` and sorts it by query, key and value, row and head:
/// `(3, rows, heads, width, head_size)`.
pub(crate) struct SplitHeads<'model> {
    pub(crate) bias: &'model [f32],
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) head_size: usize,
}

impl CustomOp1 for SplitHeads<'_> {
    fn name(&self) -> &'static str {
        "split-heads"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Self {
            rows,
            width,
            heads,
            head_size,
            ..
        } = *self;
        let input = contiguous(storage, layout)?;
        let mut output = vec![0.0f32; input.len()];
        // One piece per part, row and head.
        output
            .par_chunks_exact_mut(width * head_size)
            .enumerate()
            .for_each(|(piece, output)| {
                let (part, row, head) =
                    (piece / (rows * heads), piece / heads % rows, piece % heads);
                let column = (part * heads + head) * head_size;
                let bias = &self.bias[column..column + head_size];
                for (token, output) in output.chunks_exact_mut(head_size).enumerate() {
                    let start = (row * width + token) * self.bias.len() + column;
                    for ((output, input), bias) in output
                        .iter_mut()
                        .zip(&input[start..start + head_size])
                        .zip(bias)
                    {
                        *output = input + bias;
                    }
                }
            });
        Ok((
            CpuStorage::F32(output),
            Shape::from((3, rows, heads, width, head_size)),
        ))
    }
}

/// Softmax over the last dimension of `(rows, heads, width, width)`, in which only the first `tokens` of each row take
/// part; the rest becomes 0.
pub(crate) struct MaskedSoftmax {
    /// Number of tokens of each row.
    pub(crate) tokens: Arc<[usize]>,
    pub(crate) heads: usize,
    pub(crate) width: usize,
}

impl InplaceOp1 for MaskedSoftmax {
    fn name(&self) -> &'static str {
        "masked-softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let scores_per_row = self.heads * self.width;
        whole_rows(storage, layout, self.width)?
            .enumerate()
            .for_each(|(index, scores)| {
                let (scores, padding) = scores.split_at_mut(self.tokens[index / scores_per_row]);
                let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                for score in scores.iter_mut() {
                    *score = exp_of_negative(*score - largest);
                }
                let scale = 1.0 / sum(scores.iter().copied());
                for score in scores {
                    *score *= scale;
                }
                padding.fill(0.0);
            });
        Ok(())
    }
}

fn contiguous<'storage>(storage: &'storage CpuStorage, layout: &Layout) -> Result<&'storage [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("a contiguous tensor is needed");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// The rows of a tensor, shared out over the threads in portions worth their while.
fn whole_rows<'storage>(
    storage: &'storage mut CpuStorage,
    layout: &Layout,
    width: usize,
) -> Result<impl IndexedParallelIterator<Item = &'storage mut [f32]>> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("a contiguous tensor is needed");
    };
    let CpuStorage::F32(values) = storage else {
        candle_core::bail!("a tensor of f32 is needed");
    };
    Ok(values[start..end]
        .par_chunks_exact_mut(width)
        .with_min_len((GRAIN / width).max(1)))
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device, Tensor};
    use candle_nn::ops::{layer_norm, softmax_last_dim};

    use super::*;

    fn noise(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|index| ((index * 7919) % 1000) as f32 / 250.0 - 2.0)
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn assert_close(ours: &Tensor, theirs: &Tensor) {
        assert_eq!(ours.dims(), theirs.dims());
        for (ours, theirs) in numbers(ours).iter().zip(numbers(theirs)) {
            assert!((ours - theirs).abs() < 5e-6, "{ours} and {theirs}");
        }
    }

    #[test]
    fn bias_gelu_agrees_with_candles() {
        let (input, bias) = (noise(&[50, 40]), noise(&[40]));
        let theirs = input.broadcast_add(&bias).unwrap().gelu_erf().unwrap();
        input
            .inplace_op1(&BiasGelu {
                bias: &numbers(&bias),
            })
            .unwrap();
        assert_close(&input, &theirs);
    }

    #[test]
    fn add_norm_agrees_with_candles() {
        let (input, residual) = (
            noise(&[30, 40]),
            noise(&[40, 30]).t().unwrap().contiguous().unwrap(),
        );
        let residual = residual.reshape((30, 40)).unwrap();
        let [bias, weight, shift] =
            [1.0, 2.0, 3.0].map(|factor| noise(&[40]).affine(factor, 0.1).unwrap());
        let summed = ((&input + &residual).unwrap())
            .broadcast_add(&bias)
            .unwrap();
        let theirs = layer_norm(&summed, &weight, &shift, 1e-12).unwrap();
        let (bias, weight, shift) = (numbers(&bias), numbers(&weight), numbers(&shift));
        let op = AddNorm {
            bias: Some(&bias),
            weight: &weight,
            shift: &shift,
            epsilon: 1e-12,
        };
        input.inplace_op2(&residual, &op).unwrap();
        assert_close(&input, &theirs);
    }

    #[test]
    fn heads_are_split_as_a_permutation_does() {
        let (rows, width, heads, head_size) = (3, 5, 2, 4);
        let (input, bias) = (
            noise(&[rows * width, 3 * heads * head_size]),
            noise(&[3 * heads * head_size]),
        );
        let theirs = input
            .broadcast_add(&bias)
            .unwrap()
            .reshape((rows, width, 3, heads, head_size))
            .unwrap()
            .permute((2, 0, 3, 1, 4))
            .unwrap();
        let bias = numbers(&bias);
        let ours = input
            .apply_op1_no_bwd(&SplitHeads {
                bias: &bias,
                rows,
                width,
                heads,
                head_size,
            })
            .unwrap();
        assert_close(&ours, &theirs);
    }

    #[test]
    fn masked_softmax_is_the_softmax_of_the_tokens() {
        let (heads, width) = (2, 6);
        let scores = noise(&[2, heads, width, width]);
        let cut = softmax_last_dim(
            &scores
                .narrow(0, 1, 1)
                .unwrap()
                .narrow(3, 0, 4)
                .unwrap()
                .contiguous()
                .unwrap(),
        );
        let whole =
            softmax_last_dim(&scores.narrow(0, 0, 1).unwrap().contiguous().unwrap()).unwrap();
        scores
            .inplace_op1(&MaskedSoftmax {
                tokens: Arc::from([6, 4]),
                heads,
                width,
            })
            .unwrap();
        assert_close(&scores.narrow(0, 0, 1).unwrap(), &whole);
        let second = scores.narrow(0, 1, 1).unwrap();
        assert_close(&second.narrow(D::Minus1, 0, 4).unwrap(), &cut.unwrap());
        assert!(
            numbers(&second.narrow(D::Minus1, 4, 2).unwrap())
                .iter()
                .all(|&score| score == 0.0)
        );
    }
}
