//! What encoders are made of: linear layers and norms.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::matrix::Matrix;
use crate::ops::{AddNorm, LayerNorm, RmsNorm};
use crate::weights::Weights;

/// `x W + b`. The bias is added by the step that follows the product.
#[derive(Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
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
        // Of a layer of another size, the weights say more than the bias.
        let weight = weights.matrix(&format!("{name}.weight"), inputs, outputs)?;
        let bias = weights.get(&format!("{name}.bias"), &[outputs])?;
        Ok(Self {
            weight,
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

/// A norm without a mean and a shift.
#[derive(Clone)]
pub(crate) struct PlainNorm {
    weight: Arc<[f32]>,
    epsilon: f32,
}

impl PlainNorm {
    /// `factor (weight + more)`, as `more` is in some families 1.
    pub(crate) fn new(weight: &Tensor, epsilon: f32, (more, factor): (f32, f32)) -> Result<Self> {
        let weight = weight.to_vec1::<f32>()?;
        Ok(Self {
            weight: weight.iter().map(|value| (value + more) * factor).collect(),
            epsilon,
        })
    }

    /// Turns `states` into their norm.
    pub(crate) fn normalize(&self, states: &Tensor) -> Result<()> {
        states.inplace_op1(&RmsNorm {
            weight: &self.weight,
            epsilon: self.epsilon,
        })
    }

    /// The same as a tensor of its own: the states are still needed.
    pub(crate) fn of(&self, states: &Tensor) -> Result<Tensor> {
        let copy = states.copy()?;
        self.normalize(&copy)?;
        Ok(copy)
    }
}
