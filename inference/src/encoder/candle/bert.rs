//! BERT's encoder (Devlin et al., 2018), the part that sentence embeddings need: no pooler, no dropout.
//!
//! ```text
//!  ids, segments ── word + position + segment embeddings ── LayerNorm
//!                                                              │
//!        ┌──────────────────────── x layers ───────────────────▼──┐
//!        │  qkv = x W + b;  a = softmax(q kᵀ / √d + mask) v        │
//!        │  x = LayerNorm(x + a W + b)                             │
//!        │  x = LayerNorm(x + gelu(x W + b) W + b)                 │
//!        └─────────────────────────────────────────────────────────┘
//! ```
//!
//! Token states travel as a matrix `(rows x width, hidden)`, so that every linear layer is one matrix product.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::{layer_norm, softmax_last_dim};

use super::config::BertConfig;
use super::gelu::Gelu;
use super::weights::Weights;

/// Added to the attention scores of padding: exp() of it is zero in `f32`, and no sum with it overflows.
const MASKED_SCORE: f64 = -10_000.0;

/// The encoder. Cloning shares the weights.
#[derive(Clone)]
pub(super) struct Bert {
    word_embeddings: Tensor,
    position_embeddings: Tensor,
    segment_embeddings: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
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

/// `x W + b`, with `W` stored as `(inputs, outputs)`.
#[derive(Clone)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

#[derive(Clone)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

impl Bert {
    pub(super) fn new(config: &BertConfig, weights: &Weights) -> Result<Self> {
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

    /// The state of every token, `(rows x width, hidden)`. All inputs have shape `(rows, width)`; the mask is 1 for
    /// tokens and 0 for padding, and is left out where there is no padding.
    pub(super) fn forward(
        &self,
        ids: &Tensor,
        segments: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (rows, width) = ids.dims2()?;
        let words = self.word_embeddings.embedding(&ids.flatten_all()?)?;
        let segments = self
            .segment_embeddings
            .embedding(&segments.flatten_all()?)?;
        let positions = self.position_embeddings.narrow(0, 0, width)?.unsqueeze(0)?;
        let states = (words + segments)?
            .reshape((rows, width, ()))?
            .broadcast_add(&positions)?;
        let mut states = self.norm.forward(&states.flatten(0, 1)?)?;
        let scores = mask.map(masked_scores).transpose()?;
        for layer in &self.layers {
            states = layer.forward(&states, rows, width, scores.as_ref())?;
        }
        Ok(states)
    }
}

/// What is added to the scores: `(rows, 1, 1, width)`, 0 for tokens.
fn masked_scores(mask: &Tensor) -> Result<Tensor> {
    let padding = mask.to_dtype(DType::F32)?.affine(-1.0, 1.0)?;
    padding
        .affine(MASKED_SCORE, 0.0)?
        .unsqueeze(1)?
        .unsqueeze(1)
}

impl Layer {
    fn new(config: &BertConfig, weights: &Weights, name: &str) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let part = |part: &str| {
            Linear::new(
                weights,
                &format!("{name}.attention.self.{part}"),
                hidden,
                hidden,
            )
        };
        let [query, key, value] = [part("query")?, part("key")?, part("value")?];
        // The scale of the scores is put into the query, which is smaller than the scores.
        let query = query.scaled(1.0 / (config.head_size() as f64).sqrt())?;
        Ok(Self {
            qkv: Linear::side_by_side(&[query, key, value])?,
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

    fn forward(
        &self,
        states: &Tensor,
        rows: usize,
        width: usize,
        scores: Option<&Tensor>,
    ) -> Result<Tensor> {
        let attended = self
            .attended
            .forward(&self.attention(states, rows, width, scores)?)?;
        let states = self.attended_norm.forward(&(states + attended)?)?;
        let inner = self.inner.forward(&states)?.apply_op1_no_bwd(&Gelu)?;
        let outer = self.outer.forward(&inner)?;
        self.outer_norm.forward(&(states + outer)?)
    }

    fn attention(
        &self,
        states: &Tensor,
        rows: usize,
        width: usize,
        scores: Option<&Tensor>,
    ) -> Result<Tensor> {
        // (3, rows, heads, width, head_size)
        let qkv = self
            .qkv
            .forward(states)?
            .reshape((rows, width, 3, self.heads, self.head_size))?
            .permute((2, 0, 3, 1, 4))?
            .contiguous()?;
        let [query, key, value] = [qkv.get(0)?, qkv.get(1)?, qkv.get(2)?];
        let mut attention = query.matmul(&key.t()?)?;
        if let Some(scores) = scores {
            attention = attention.broadcast_add(scores)?;
        }
        let attended = softmax_last_dim(&attention)?.matmul(&value)?;
        attended
            .transpose(1, 2)?
            .contiguous()?
            .reshape((rows * width, self.heads * self.head_size))
    }
}

impl Linear {
    fn new(weights: &Weights, name: &str, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = weights.get(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = weights.get(&format!("{name}.bias"), &[outputs])?;
        Ok(Self {
            weight: weight.t()?.contiguous()?,
            bias,
        })
    }

    fn scaled(&self, factor: f64) -> Result<Self> {
        Ok(Self {
            weight: self.weight.affine(factor, 0.0)?,
            bias: self.bias.affine(factor, 0.0)?,
        })
    }

    /// One layer that computes all of `parts`, their outputs next to each other.
    fn side_by_side(parts: &[Self]) -> Result<Self> {
        let weights: Vec<&Tensor> = parts.iter().map(|part| &part.weight).collect();
        let biases: Vec<&Tensor> = parts.iter().map(|part| &part.bias).collect();
        Ok(Self {
            weight: Tensor::cat(&weights, D::Minus1)?.contiguous()?,
            bias: Tensor::cat(&biases, 0)?,
        })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        input.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

impl Norm {
    fn new(config: &BertConfig, weights: &Weights, name: &str) -> Result<Self> {
        let hidden = config.hidden_size;
        Ok(Self {
            weight: weights.get(&format!("{name}.weight"), &[hidden])?,
            bias: weights.get(&format!("{name}.bias"), &[hidden])?,
            epsilon: config.layer_norm_eps,
        })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        layer_norm(&input.contiguous()?, &self.weight, &self.bias, self.epsilon)
    }
}
