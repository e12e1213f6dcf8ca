//! The steps of encoders between their matrix products, each in one pass over memory and in place. Those of attention are in
//! [`attention`](crate::attention).
//!
//! candle's own element-wise operations make a new tensor per step, and spread larger ones over threads that all
//! encoders of a process share and that spin; these run on the encoder's own pool.

use candle_core::{CpuStorage, CustomOp1, InplaceOp1, InplaceOp2, Layout, Result, Shape};
use rayon::prelude::*;

use crate::math::{gelu, gelu_by_tanh, layer_norm, rms_norm, silu};

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
        layer_norm(row, self.weight, Some(self.shift), self.epsilon);
    }
}

/// RMSNorm (Zhang and Sennrich, 2019), row by row.
pub(crate) struct RmsNorm<'model> {
    pub(crate) weight: &'model [f32],
    pub(crate) epsilon: f32,
}

impl InplaceOp1 for RmsNorm<'_> {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        whole_rows(storage, layout, self.weight.len())?
            .for_each(|row| rms_norm(row, self.weight, self.epsilon));
        Ok(())
    }
}

/// What a gate goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Gelu,
    GeluByTanh,
    Silu,
}

/// `f(x) y` of rows that are `x` and `y` beside each other.
pub(crate) struct Gated(pub(crate) Activation);

impl CustomOp1 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let gated = match self.0 {
            Activation::Gelu => gated(storage, layout, gelu),
            Activation::GeluByTanh => gated(storage, layout, gelu_by_tanh),
            Activation::Silu => gated(storage, layout, silu),
        };
        let (rows, width) = layout.shape().dims2()?;
        Ok((CpuStorage::F32(gated?), Shape::from((rows, width / 2))))
    }
}

/// A loop for each activation, in which it is no call.
fn gated(
    storage: &CpuStorage,
    layout: &Layout,
    activation: impl Fn(f32) -> f32 + Sync,
) -> Result<Vec<f32>> {
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
                *output = activation(*value) * gate;
            }
        });
    Ok(output)
}

pub(crate) fn contiguous<'storage>(
    storage: &'storage CpuStorage,
    layout: &Layout,
) -> Result<&'storage [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("a contiguous tensor is needed");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// The rows of a tensor, shared out over the threads in portions worth their while.
pub(crate) fn whole_rows<'storage>(
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
    use candle_nn::ops::layer_norm;

    use super::*;
    use crate::testing::{assert_close, noise, numbers};

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
    fn gates_agree_with_candles() {
        let input = noise(&[20, 12]);
        let (values, gates) = (
            input.narrow(1, 0, 6).unwrap(),
            input.narrow(1, 6, 6).unwrap(),
        );
        for (activation, values) in [
            (Activation::Gelu, values.gelu_erf()),
            (Activation::GeluByTanh, values.gelu()),
            (Activation::Silu, values.silu()),
        ] {
            let theirs = (values.unwrap() * &gates).unwrap();
            let ours = input.apply_op1_no_bwd(&Gated(activation)).unwrap();
            assert_close(&ours, &theirs);
        }
    }

    #[test]
    fn rms_norm_agrees_with_candles() {
        let (input, weight) = (noise(&[30, 40]), noise(&[40]));
        let theirs = candle_nn::ops::rms_norm(&input, &weight, 1e-3).unwrap();
        let (weight, epsilon) = (&numbers(&weight)[..], 1e-3);
        input.inplace_op1(&RmsNorm { weight, epsilon }).unwrap();
        assert_close(&input, &theirs);
    }
}
