//! ModernBERT's encoder (Warner et al., 2024).
//!
//! ```text
//!  ids ── word embeddings ── LayerNorm ── x
//!                                         │
//!        ┌──────────────── x layers ──────▼───────────────────────┐
//!        │  q, k, v = LayerNorm(x) W, q and k turned by position  │  the first layer: x itself
//!        │  x = x + softmax(q kᵀ / √d) v W                        │  in most layers over near tokens alone
//!        │  a, b = LayerNorm(x) W;  x = x + (gelu(a) b) W         │
//!        └────────────────────────────────────────────────────────┘
//!                                         └── LayerNorm
//! ```
//! Nothing has a bias. Positions turn pairs of numbers by angles (Su et al., 2021).

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::bert::Tokens;
use crate::layers::{Norm, attended};
use crate::modern_config::ModernBertConfig;
use crate::ops::{GatedGelu, MaskedSoftmax, Rotate, SplitHeads};
use crate::weights::Weights;

/// The encoder. Cloning shares the weights.
#[derive(Clone)]
pub(crate) struct ModernBert {
    embeddings: Tensor,
    norm: Norm,
    layers: Vec<ModernLayer>,
    final_norm: Norm,
}

#[derive(Clone)]
struct ModernLayer {
    /// None before the first layer, whose input is normal.
    attention_norm: Option<Norm>,
    qkv: Tensor,
    attended: Tensor,
    inner_norm: Norm,
    inner: Tensor,
    outer: Tensor,
    heads: usize,
    head_size: usize,
    angles: Angles,
    /// Tokens farther away are not looked at.
    reach: Option<usize>,
    /// What the bias of query, key and value would be.
    zeros: Arc<[f32]>,
}

/// Cosines and sines, `positions x head_size / 2`.
#[derive(Clone)]
struct Angles {
    cosines: Arc<[f32]>,
    sines: Arc<[f32]>,
}

impl Angles {
    fn new(base: f32, positions: usize, head_size: usize) -> Self {
        let angles = (0..positions).flat_map(|position| {
            (0..head_size).step_by(2).map(move |at| {
                let frequency = 1.0 / base.powf(at as f32 / head_size as f32);
                position as f32 * frequency
            })
        });
        let angles: Vec<f32> = angles.collect();
        Self {
            cosines: angles.iter().map(|angle| angle.cos()).collect(),
            sines: angles.iter().map(|angle| angle.sin()).collect(),
        }
    }
}

impl ModernBert {
    pub(crate) fn new(config: &ModernBertConfig, weights: &Weights) -> Result<Self> {
        let (hidden, epsilon) = (config.hidden_size, config.norm_eps);
        let norm = |name: &str| Norm::plain(weights, name, hidden, epsilon);
        let angles = |base| Angles::new(base, config.max_position_embeddings, config.head_size());
        let (global, local) = (angles(config.global_theta()), angles(config.local_theta()));
        let layers = (0..config.num_hidden_layers).map(|index| -> Result<ModernLayer> {
            let (angles, reach) = match config.is_local(index) {
                true => (local.clone(), Some(config.local_attention / 2)),
                false => (global.clone(), None),
            };
            let mut layer = ModernLayer::new(config, weights, &format!("layers.{index}"), angles)?;
            layer.reach = reach;
            if index > 0 {
                layer.attention_norm = Some(norm(&format!("layers.{index}.attn_norm"))?);
            }
            Ok(layer)
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            embeddings: weights.get(
                "embeddings.tok_embeddings.weight",
                &[config.vocab_size, hidden],
            )?,
            norm: norm("embeddings.norm")?,
            final_norm: norm("final_norm")?,
        })
    }

    /// The state of every token, `(rows x width, hidden)`; those of padding mean nothing.
    pub(crate) fn forward(&self, tokens: &Tokens) -> Result<Tensor> {
        let mut states = self.embeddings.embedding(&tokens.ids)?;
        self.norm.normalize(&states)?;
        for layer in &self.layers {
            states = layer.forward(states, tokens)?;
        }
        self.final_norm.normalize(&states)?;
        Ok(states)
    }
}

impl ModernLayer {
    fn new(
        config: &ModernBertConfig,
        weights: &Weights,
        name: &str,
        angles: Angles,
    ) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let matrix = |part: &str, inputs, outputs| -> Result<Tensor> {
            weights.get(&format!("{name}.{part}.weight"), &[outputs, inputs])
        };
        let transposed = |matrix: Tensor| matrix.t()?.contiguous();
        // The scale of the scores is put into the query's weights, once.
        let scale = 1.0 / (config.head_size() as f64).sqrt();
        let qkv = matrix("attn.Wqkv", hidden, 3 * hidden)?;
        let query = qkv.narrow(0, 0, hidden)?.affine(scale, 0.0)?;
        let rest = qkv.narrow(0, hidden, 2 * hidden)?;
        Ok(Self {
            attention_norm: None,
            qkv: transposed(Tensor::cat(&[&query, &rest], 0)?)?,
            attended: transposed(matrix("attn.Wo", hidden, hidden)?)?,
            inner_norm: Norm::plain(
                weights,
                &format!("{name}.mlp_norm"),
                hidden,
                config.norm_eps,
            )?,
            inner: transposed(matrix("mlp.Wi", hidden, 2 * inner)?)?,
            outer: transposed(matrix("mlp.Wo", inner, hidden)?)?,
            heads: config.num_attention_heads,
            head_size: config.head_size(),
            angles,
            reach: None,
            zeros: vec![0.0; 3 * hidden].into(),
        })
    }

    fn forward(&self, states: Tensor, tokens: &Tokens) -> Result<Tensor> {
        let attended = match &self.attention_norm {
            Some(norm) => self.attention(&normalized(norm, &states)?, tokens)?,
            None => self.attention(&states, tokens)?,
        };
        let states = (states + attended.matmul(&self.attended)?)?;
        let inner = normalized(&self.inner_norm, &states)?.matmul(&self.inner)?;
        let gated = inner.apply_op1_no_bwd(&GatedGelu)?;
        states + gated.matmul(&self.outer)?
    }

    fn attention(&self, states: &Tensor, tokens: &Tokens) -> Result<Tensor> {
        let (rows, width, heads, head_size) = (
            tokens.counts.len(),
            tokens.width,
            self.heads,
            self.head_size,
        );
        let split = SplitHeads {
            bias: &self.zeros,
            rows,
            width,
            heads,
            head_size,
        };
        let qkv = states.matmul(&self.qkv)?.apply_op1_no_bwd(&split)?;
        qkv.inplace_op1(&Rotate {
            cosines: &self.angles.cosines,
            sines: &self.angles.sines,
            rotated: 2 * rows * heads,
            width,
            head_size,
        })?;
        let softmax = MaskedSoftmax {
            tokens: Arc::clone(&tokens.counts),
            heads,
            width,
            distances: None,
            reach: self.reach,
        };
        attended(&qkv, &softmax)
    }
}

/// The LayerNorm as a tensor of its own: the states are still needed.
fn normalized(norm: &Norm, states: &Tensor) -> Result<Tensor> {
    let copy = states.copy()?;
    norm.normalize(&copy)?;
    Ok(copy)
}
