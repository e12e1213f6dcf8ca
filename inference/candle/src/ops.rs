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

/// LayerNorm (Ba et al., 2016), row by row.
pub(crate) struct LayerNorm<'model> {
    pub(crate) weight: &'model [f32],
    pub(crate) shift: &'model [f32],
    pub(crate) epsilon: f32,
}

impl InplaceOp1 for LayerNorm<'_> {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        whole_rows(storage, layout, self.weight.len())?.for_each(|row| self.normalize(row));
        Ok(())
    }
}

/// LayerNorm of `x + bias + residual`, row by row.
pub(crate) struct AddNorm<'model> {
    pub(crate) bias: Option<&'model [f32]>,
    pub(crate) norm: LayerNorm<'model>,
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
        let width = self.norm.weight.len();
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
                self.norm.normalize(row);
            });
        Ok(())
    }
}

impl LayerNorm<'_> {
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
    /// What is added to the scores of each head, by how far the key is behind the query: `heads x (2 width - 1)`, the distance 0 in the middle.
    pub(crate) distances: Option<Arc<[f32]>>,
    /// Keys that are farther from the query take no part.
    pub(crate) reach: Option<usize>,
}

/// `gelu(x) y` of rows that are `x` and `y` beside each other.
pub(crate) struct GatedGelu;

impl CustomOp1 for GatedGelu {
    fn name(&self) -> &'static str {
        "gated-gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = contiguous(storage, layout)?;
        let (rows, width) = layout.shape().dims2()?;
        let half = width / 2;
        let mut output = vec![0.0f32; rows * half];
        output
            .par_chunks_exact_mut(half)
            .zip(input.par_chunks_exact(width))
            .with_min_len((GRAIN / width).max(1))
            .for_each(|(output, row)| {
                let (values, gates) = row.split_at(half);
                for ((output, value), gate) in output.iter_mut().zip(values).zip(gates) {
                    *output = gelu(*value) * gate;
                }
            });
        Ok((CpuStorage::F32(output), Shape::from((rows, half))))
    }
}

/// Turns the vectors of the first `rotated` pieces of `(pieces, width, head_size)` by the angles of their positions: a number of their first half
/// with the one that is as far in their second.
pub(crate) struct Rotate<'model> {
    /// `positions x head_size / 2`.
    pub(crate) cosines: &'model [f32],
    pub(crate) sines: &'model [f32],
    pub(crate) rotated: usize,
    pub(crate) width: usize,
    pub(crate) head_size: usize,
}

impl InplaceOp1 for Rotate<'_> {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let half = self.head_size / 2;
        whole_rows(storage, layout, self.head_size)?
            .take(self.rotated * self.width)
            .enumerate()
            .for_each(|(index, vector)| {
                let at = index % self.width * half;
                let angles = self.cosines[at..at + half].iter().zip(&self.sines[at..]);
                let (firsts, seconds) = vector.split_at_mut(half);
                for ((first, second), (cosine, sine)) in firsts.iter_mut().zip(seconds).zip(angles)
                {
                    (*first, *second) = (
                        *first * cosine - *second * sine,
                        *second * cosine + *first * sine,
                    );
                }
            });
        Ok(())
    }
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
                let (head, query) = (index / self.width % self.heads, index % self.width);
                let (scores, padding) = scores.split_at_mut(self.tokens[index / scores_per_row]);
                padding.fill(0.0);
                if let Some(distances) = &self.distances {
                    let first = head * (2 * self.width - 1) + self.width - 1 - query;
                    for (score, distance) in scores.iter_mut().zip(&distances[first..]) {
                        *score += distance;
                    }
                }
                let scores = self.near(scores, query);
                let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                for score in scores.iter_mut() {
                    *score = exp_of_negative(*score - largest);
                }
                let scale = 1.0 / sum(scores.iter().copied());
                for score in scores {
                    *score *= scale;
                }
            });
        Ok(())
    }
}

impl MaskedSoftmax {
    /// The scores of keys that are near; the others become 0. Of a query that is padding there may be none.
    fn near<'row>(&self, scores: &'row mut [f32], query: usize) -> &'row mut [f32] {
        let Some(reach) = self.reach else {
            return scores;
        };
        let last = (query + reach + 1).min(scores.len());
        let first = query.saturating_sub(reach).min(last);
        scores[..first].fill(0.0);
        scores[last..].fill(0.0);
        &mut scores[first..last]
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
            norm: LayerNorm {
                weight: &weight,
                shift: &shift,
                epsilon: 1e-12,
            },
        };
        input.inplace_op2(&residual, &op).unwrap();
        assert_close(&input, &theirs);
        summed.inplace_op1(&op.norm).unwrap();
        assert_close(&summed, &theirs);
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
    fn keys_out_of_reach_take_no_part() {
        let (heads, width) = (1, 5);
        let scores = noise(&[1, heads, width, width]);
        let theirs = scores.copy().unwrap();
        scores
            .inplace_op1(&MaskedSoftmax {
                tokens: Arc::from([4]),
                heads,
                width,
                distances: None,
                reach: Some(1),
            })
            .unwrap();
        let near = |query: usize, first: usize, count: usize| {
            let row = theirs.narrow(2, query, 1).unwrap().narrow(3, first, count);
            softmax_last_dim(&row.unwrap().contiguous().unwrap()).unwrap()
        };
        let ours = numbers(&scores);
        for (query, first, count) in [(0, 0, 2), (1, 0, 3), (2, 1, 3), (3, 2, 2), (4, 3, 1)] {
            let mut expected = vec![0.0; width];
            expected[first..first + count].copy_from_slice(&numbers(&near(query, first, count)));
            for (ours, expected) in ours[query * width..][..width].iter().zip(expected) {
                assert!(
                    (ours - expected).abs() < 5e-6,
                    "query {query}: {ours} and {expected}"
                );
            }
        }
    }

    #[test]
    fn query_without_a_key_in_reach_gives_zeros_and_no_nan() {
        let scores = noise(&[1, 1, 5, 5]);
        scores
            .inplace_op1(&MaskedSoftmax {
                tokens: Arc::from([2]),
                heads: 1,
                width: 5,
                distances: None,
                reach: Some(1),
            })
            .unwrap();
        assert_eq!(numbers(&scores)[20..], [0.0; 5]);
    }

    #[test]
    fn vectors_are_turned_as_candle_does_it() {
        let (pieces, width, head_size) = (4, 3, 6);
        let input = noise(&[pieces, width, head_size]);
        let angles = noise(&[width, head_size / 2]);
        let (cosines, sines) = (angles.cos().unwrap(), angles.sin().unwrap());
        let turned = input.narrow(0, 0, 3).unwrap().unsqueeze(0).unwrap();
        let turned = candle_nn::rotary_emb::rope(&turned, &cosines, &sines).unwrap();
        let rest = input.narrow(0, 3, 1).unwrap();
        let theirs = Tensor::cat(&[&turned.squeeze(0).unwrap(), &rest], 0).unwrap();
        input
            .inplace_op1(&Rotate {
                cosines: &numbers(&cosines),
                sines: &numbers(&sines),
                rotated: 3,
                width,
                head_size,
            })
            .unwrap();
        assert_close(&input, &theirs);
    }

    #[test]
    fn gated_gelu_agrees_with_candles() {
        let input = noise(&[20, 12]);
        let values = input.narrow(1, 0, 6).unwrap().gelu_erf().unwrap();
        let theirs = (values * input.narrow(1, 6, 6).unwrap()).unwrap();
        assert_close(&input.apply_op1_no_bwd(&GatedGelu).unwrap(), &theirs);
    }

    #[test]
    fn numbers_of_distances_are_added_to_their_scores() {
        let (heads, width) = (2, 3);
        let scores = noise(&[1, heads, width, width]);
        let distances: Vec<f32> = (0..10u8).map(f32::from).collect();
        // Head 0 has 0 to 4 for the distances -2 to 2, head 1 has 5 to 9.
        let added = [2u8, 3, 4, 1, 2, 3, 0, 1, 2, 7, 8, 9, 6, 7, 8, 5, 6, 7].map(f32::from);
        let added = Tensor::from_vec(added.to_vec(), scores.dims(), &Device::Cpu).unwrap();
        let theirs = softmax_last_dim(&(&scores + added).unwrap()).unwrap();
        scores
            .inplace_op1(&MaskedSoftmax {
                tokens: Arc::from([3]),
                heads,
                width,
                distances: Some(distances.into()),
                reach: None,
            })
            .unwrap();
        assert_close(&scores, &theirs);
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
                distances: None,
                reach: None,
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
