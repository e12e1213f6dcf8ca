//! BERT's encoder (Devlin et al., 2018), the part that sentence embeddings need: no pooler, no dropout. RoBERTa's (Liu et al., 2019) is the same,
//! and counts positions otherwise.
//!
//! ```text
//!  ids, segments ── word + position + segment embeddings ── LayerNorm
//!                                                              │
//!        ┌──────────────────────── x layers ───────────────────▼──┐
//!        │  qkv = x W + b;  a = softmax(q kᵀ / √d) v               │
//!        │  x = LayerNorm(x + a W + b)                             │
//!        │  x = LayerNorm(x + gelu(x W + b) W + b)                 │
//!        └─────────────────────────────────────────────────────────┘
//! ```
//!
//! Token states travel as a matrix `(rows x width, hidden)`, so that every linear layer is one matrix product. What lies
//! between the products is in [`ops`](crate::ops).

use std::sync::Arc;

use candle_core::{D, Result, Tensor};

use crate::config::BertConfig;
use crate::ops::{AddNorm, BiasGelu, MaskedSoftmax, SplitHeads};
use crate::weights::Weights;

/// The encoder. Cloning shares the weights.
#[derive(Clone)]
pub(crate) struct Bert {
    word_embeddings: Tensor,
    position_embeddings: Tensor,
    segment_embeddings: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
}

/// The tokens of a batch.
pub(crate) struct Tokens {
    /// Ids, `(rows x width)`.
    pub(crate) ids: Tensor,
    /// Segments, `(rows x width)`.
    pub(crate) segments: Tensor,
    /// Positions, `(rows x width)`.
    pub(crate) positions: Tensor,
    /// Tokens of each row that are not padding.
    pub(crate) counts: Arc<[usize]>,
    /// Tokens per row, padding included.
    pub(crate) width: usize,
}

#[derive(Clone)]
struct Layer {
    qkv: Linear,
    attended: Linear,
    attended_norm: Norm,
    inner: Linear,
    outer: Linear,
    outer_norm: Norm,
    heads: usize,
    head_size: usize,
}

/// `x W + b`, with `W` stored as `(inputs, outputs)`. The bias is added by the step that follows the product.
#[derive(Clone)]
struct Linear {
    weight: Tensor,
    bias: Arc<[f32]>,
}

#[derive(Clone)]
struct Norm {
    weight: Arc<[f32]>,
    shift: Arc<[f32]>,
    epsilon: f32,
}

impl Bert {
    pub(crate) fn new(config: &BertConfig, weights: &Weights) -> Result<Self> {
        let hidden = config.hidden_size;
        let embedding =
            |name: &str, rows| weights.get(&format!("embeddings.{name}.weight"), &[rows, hidden]);
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::new(config, weights, &format!("encoder.layer.{index}")))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            word_embeddings: embedding("word_embeddings", config.vocab_size)?,
            position_embeddings: embedding("position_embeddings", config.max_position_embeddings)?,
            segment_embeddings: embedding("token_type_embeddings", config.type_vocab_size)?,
            norm: Norm::new(config, weights, "embeddings.LayerNorm")?,
            layers,
        })
    }

    /// The state of every token, `(rows x width, hidden)`; those of padding mean nothing.
    pub(crate) fn forward(&self, tokens: &Tokens) -> Result<Tensor> {
        let mut states = self.word_embeddings.embedding(&tokens.ids)?;
        let segments = self.segment_embeddings.embedding(&tokens.segments)?;
        let positions = self.position_embeddings.embedding(&tokens.positions)?;
        self.norm
            .add_and_normalize(&states, None, &(segments + positions)?)?;
        for layer in &self.layers {
            states = layer.forward(states, tokens)?;
        }
        Ok(states)
    }
}

impl Layer {
    fn new(config: &BertConfig, weights: &Weights, name: &str) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let part = |part: &str| -> Result<(Tensor, Tensor)> {
            let name = format!("{name}.attention.self.{part}");
            Ok((
                weights.get(&format!("{name}.weight"), &[hidden, hidden])?,
                weights.get(&format!("{name}.bias"), &[hidden])?,
            ))
        };
        let [query, key, value] = [part("query")?, part("key")?, part("value")?];
        // The scale of the scores is put into the query's weights, once.
        let scale = 1.0 / (config.head_size() as f64).sqrt();
        let weight = Tensor::cat(&[&query.0.affine(scale, 0.0)?, &key.0, &value.0], 0)?;
        let bias = Tensor::cat(&[&query.1.affine(scale, 0.0)?, &key.1, &value.1], 0)?;
        Ok(Self {
            qkv: Linear::from_tensors(&weight, &bias)?,
            attended: Linear::new(
                weights,
                &format!("{name}.attention.output.dense"),
                hidden,
                hidden,
            )?,
            attended_norm: Norm::new(
                config,
                weights,
                &format!("{name}.attention.output.LayerNorm"),
            )?,
            inner: Linear::new(
                weights,
                &format!("{name}.intermediate.dense"),
                hidden,
                inner,
            )?,
            outer: Linear::new(weights, &format!("{name}.output.dense"), inner, hidden)?,
            outer_norm: Norm::new(config, weights, &format!("{name}.output.LayerNorm"))?,
            heads: config.num_attention_heads,
            head_size: config.head_size(),
        })
    }

    fn forward(&self, states: Tensor, tokens: &Tokens) -> Result<Tensor> {
        let attended = self
            .attention(&states, tokens)?
            .matmul(&self.attended.weight)?;
        self.attended_norm
            .add_and_normalize(&attended, Some(&self.attended.bias), &states)?;
        let inner = attended.matmul(&self.inner.weight)?;
        inner.inplace_op1(&BiasGelu {
            bias: &self.inner.bias,
        })?;
        let outer = inner.matmul(&self.outer.weight)?;
        self.outer_norm
            .add_and_normalize(&outer, Some(&self.outer.bias), &attended)?;
        Ok(outer)
    }

    fn attention(&self, states: &Tensor, tokens: &Tokens) -> Result<Tensor> {
        let (rows, width, heads, head_size) = (
            tokens.counts.len(),
            tokens.width,
            self.heads,
            self.head_size,
        );
        let split = SplitHeads {
            bias: &self.qkv.bias,
            rows,
            width,
            heads,
            head_size,
        };
        let qkv = states.matmul(&self.qkv.weight)?.apply_op1_no_bwd(&split)?;
        let scores = qkv
            .get(0)?
            .matmul(&qkv.get(1)?.transpose(D::Minus1, D::Minus2)?)?;
        scores.inplace_op1(&MaskedSoftmax {
            tokens: Arc::clone(&tokens.counts),
            heads,
            width,
        })?;
        let attended = scores.matmul(&qkv.get(2)?)?;
        attended
            .transpose(1, 2)?
            .contiguous()?
            .reshape((rows * width, heads * head_size))
    }
}

impl Linear {
    fn new(weights: &Weights, name: &str, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = weights.get(&format!("{name}.weight"), &[outputs, inputs])?;
        Self::from_tensors(&weight, &weights.get(&format!("{name}.bias"), &[outputs])?)
    }

    /// From a weight as checkpoints store it: `(outputs, inputs)`.
    fn from_tensors(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        Ok(Self {
            weight: weight.t()?.contiguous()?,
            bias: bias.to_vec1()?.into(),
        })
    }
}

impl Norm {
    fn new(config: &BertConfig, weights: &Weights, name: &str) -> Result<Self> {
        let numbers = |part: &str| -> Result<Arc<[f32]>> {
            Ok(weights
                .get(&format!("{name}.{part}"), &[config.hidden_size])?
                .to_vec1()?
                .into())
        };
        Ok(Self {
            weight: numbers("weight")?,
            shift: numbers("bias")?,
            epsilon: config.layer_norm_eps,
        })
    }

    /// Turns `states` into the LayerNorm of `states + bias + residual`.
    fn add_and_normalize(
        &self,
        states: &Tensor,
        bias: Option<&[f32]>,
        residual: &Tensor,
    ) -> Result<()> {
        let op = AddNorm {
            bias,
            weight: &self.weight,
            shift: &self.shift,
            epsilon: self.epsilon,
        };
        states.inplace_op2(residual, &op)
    }
}
