//! What encoders are made of: linear layers, norms and attention.

use std::sync::Arc;

use candle_core::{D, Result, Tensor};

use crate::ops::{AddNorm, LayerNorm, MaskedSoftmax};
use crate::weights::Weights;

/// `x W + b`, with `W` stored as `(inputs, outputs)`. The bias is added by the step that follows the product.
#[derive(Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Arc<[f32]>,
}

#[derive(Clone)]
pub(crate) struct Norm {
    weight: Arc<[f32]>,
    shift: Arc<[f32]>,
    epsilon: f32,
}

impl Linear {
    pub(crate) fn new(
        weights: &Weights,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self> {
        let weight = weights.get(&format!("{name}.weight"), &[outputs, inputs])?;
        Self::from_tensors(&weight, &weights.get(&format!("{name}.bias"), &[outputs])?)
    }

    /// From a weight as checkpoints store it: `(outputs, inputs)`.
    pub(crate) fn from_tensors(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        Ok(Self {
            weight: weight.t()?.contiguous()?,
            bias: bias.to_vec1()?.into(),
        })
    }
}

impl Norm {
    pub(crate) fn new(weights: &Weights, name: &str, hidden: usize, epsilon: f32) -> Result<Self> {
        let shift = weights
            .get(&format!("{name}.bias"), &[hidden])?
            .to_vec1::<f32>()?;
        Self::with_shift(weights, name, epsilon, shift.into())
    }

    /// Without a bias.
    pub(crate) fn plain(
        weights: &Weights,
        name: &str,
        hidden: usize,
        epsilon: f32,
    ) -> Result<Self> {
        Self::with_shift(weights, name, epsilon, vec![0.0; hidden].into())
    }

    fn with_shift(weights: &Weights, name: &str, epsilon: f32, shift: Arc<[f32]>) -> Result<Self> {
        let weight = weights.get(&format!("{name}.weight"), &[shift.len()])?;
        Ok(Self {
            weight: weight.to_vec1()?.into(),
            shift,
            epsilon,
        })
    }

    fn op(&self) -> LayerNorm<'_> {
        LayerNorm {
            weight: &self.weight,
            shift: &self.shift,
            epsilon: self.epsilon,
        }
    }

    /// Turns `states` into their LayerNorm.
    pub(crate) fn normalize(&self, states: &Tensor) -> Result<()> {
        states.inplace_op1(&self.op())
    }

    /// Turns `states` into the LayerNorm of `states + bias + residual`.
    pub(crate) fn add_and_normalize(
        &self,
        states: &Tensor,
        bias: Option<&[f32]>,
        residual: &Tensor,
    ) -> Result<()> {
        let norm = self.op();
        states.inplace_op2(residual, &AddNorm { bias, norm })
    }
}

/// What each token attends to, `softmax(q kᵀ / √d) v`, of all heads beside each other: `(rows x width, hidden)`. `qkv` is split by heads.
pub(crate) fn attended(qkv: &Tensor, softmax: &MaskedSoftmax) -> Result<Tensor> {
    let scores = qkv
        .get(0)?
        .matmul(&qkv.get(1)?.transpose(D::Minus1, D::Minus2)?)?;
    scores.inplace_op1(softmax)?;
    let attended = scores.matmul(&qkv.get(2)?)?;
    let (rows, heads, width, head_size) = attended.dims4()?;
    attended
        .transpose(1, 2)?
        .contiguous()?
        .reshape((rows * width, heads * head_size))
}
