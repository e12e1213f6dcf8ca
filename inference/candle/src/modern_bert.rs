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

use crate::attention::{Angles, HeadShape, Looks, Rotate, Sight, SplitHeads, attended};
use crate::bert::Tokens;
use crate::layers::Norm;
use crate::matrix::Matrix;
use crate::modern_config::ModernBertConfig;
use crate::ops::{Activation, Gated};
use crate::weights::{Embeddings, Weights};

/// The encoder. Cloning shares the weights.
#[derive(Clone)]
pub(crate) struct ModernBert {
    embeddings: Embeddings,
    norm: Norm,
    layers: Vec<ModernLayer>,
    final_norm: Norm,
}

#[derive(Clone)]
struct ModernLayer {
    /// None before the first layer, whose input is normal.
    attention_norm: Option<Norm>,
    qkv: Matrix,
    attended: Matrix,
    inner_norm: Norm,
    inner: Matrix,
    outer: Matrix,
    heads: usize,
    head_size: usize,
    angles: Arc<Angles>,
    sight: Sight,
}

impl ModernBert {
    pub(crate) fn new(config: &ModernBertConfig, weights: &Weights) -> Result<Self> {
        let (hidden, epsilon) = (config.hidden_size, config.norm_eps);
        let norm = |name: &str| Norm::plain(weights, name, hidden, epsilon);
        let (positions, head_size) = (config.max_position_embeddings, config.head_size());
        let angles = |base| Arc::new(Angles::new(base, positions, head_size));
        let (global, local) = (angles(config.global_theta()), angles(config.local_theta()));
        let layers = (0..config.num_hidden_layers).map(|index| -> Result<ModernLayer> {
            let (angles, sight) = match config.is_local(index) {
                true => (&local, Sight::around(config.local_attention / 2)),
                false => (&global, Sight::ALL),
            };
            let name = format!("layers.{index}");
            let mut layer = ModernLayer::new(config, weights, &name, Arc::clone(angles))?;
            layer.sight = sight;
            if index > 0 {
                layer.attention_norm = Some(norm(&format!("layers.{index}.attn_norm"))?);
            }
            Ok(layer)
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            embeddings: weights.embeddings(
                "embeddings.tok_embeddings.weight",
                [config.vocab_size, hidden],
            )?,
            norm: norm("embeddings.norm")?,
            final_norm: norm("final_norm")?,
        })
    }

    /// The state of every token, `(rows x width, hidden)`; those of padding mean nothing.
    pub(crate) fn forward(&self, tokens: &Tokens) -> Result<Tensor> {
        let mut states = self.embeddings.of(&tokens.ids)?;
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
        angles: Arc<Angles>,
    ) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let matrix = |part: &str, inputs, outputs| {
            weights.matrix(&format!("{name}.{part}.weight"), inputs, outputs)
        };
        // The scale of the scores is put into the query's weights, once.
        let scale = 1.0 / (config.head_size() as f64).sqrt();
        let qkv = weights.get(&format!("{name}.attn.Wqkv.weight"), &[3 * hidden, hidden])?;
        let query = qkv.narrow(0, 0, hidden)?.affine(scale, 0.0)?;
        let rest = qkv.narrow(0, hidden, 2 * hidden)?;
        Ok(Self {
            attention_norm: None,
            qkv: weights.matrix_of(&Tensor::cat(&[&query, &rest], 0)?)?,
            attended: matrix("attn.Wo", hidden, hidden)?,
            inner_norm: Norm::plain(
                weights,
                &format!("{name}.mlp_norm"),
                hidden,
                config.norm_eps,
            )?,
            inner: matrix("mlp.Wi", hidden, 2 * inner)?,
            outer: matrix("mlp.Wo", inner, hidden)?,
            heads: config.num_attention_heads,
            head_size: config.head_size(),
            angles,
            sight: Sight::ALL,
        })
    }

    fn forward(&self, states: Tensor, tokens: &Tokens) -> Result<Tensor> {
        let attended = match &self.attention_norm {
            Some(norm) => self.attention(&normalized(norm, &states)?, tokens)?,
            None => self.attention(&states, tokens)?,
        };
        let states = (states + self.attended.product(&attended)?)?;
        let inner = normalized(&self.inner_norm, &states)?;
        let inner = self.inner.product(&inner)?;
        let gated = inner.apply_op1_no_bwd(&Gated(Activation::Gelu))?;
        states + self.outer.product(&gated)?
    }

    fn attention(&self, states: &Tensor, tokens: &Tokens) -> Result<Tensor> {
        let width = tokens.width;
        let shape = HeadShape {
            rows: tokens.counts.len(),
            width,
            heads: self.heads,
            key_heads: self.heads,
            head_size: self.head_size,
        };
        let split = SplitHeads { bias: None, shape };
        let qkv = self.qkv.product(states)?.apply_op1_no_bwd(&split)?;
        let angles = &*self.angles;
        qkv.narrow(0, 0, shape.turned())?
            .inplace_op1(&Rotate { angles, width })?;
        let looks = Looks {
            shape,
            tokens: &tokens.counts,
            distances: None,
            sight: self.sight,
        };
        attended(&qkv, &looks)
    }
}

/// The LayerNorm as a tensor of its own: the states are still needed.
fn normalized(norm: &Norm, states: &Tensor) -> Result<Tensor> {
    let copy = states.copy()?;
    norm.normalize(&copy)?;
    Ok(copy)
}
