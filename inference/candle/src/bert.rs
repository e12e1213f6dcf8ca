//! BERT's encoder (Devlin et al., 2018), the part that sentence embeddings need: no pooler, no dropout. RoBERTa's (Liu et al., 2019) is the same,
//! and counts positions otherwise; MPNet's (Song et al., 2020) has no segments, and adds to each score a number for how far its tokens are apart.
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

use candle_core::{Result, Tensor};

use crate::attention::{HeadShape, Looks, Sight, SplitHeads, attended};
use crate::config::{BertConfig, Family};
use crate::layers::{Linear, Norm};
use crate::ops::BiasGelu;
use crate::relative_positions::RelativeBias;
use crate::weights::{Embeddings, Weights};

/// The encoder. Cloning shares the weights.
#[derive(Clone)]
pub(crate) struct Bert {
    word_embeddings: Embeddings,
    position_embeddings: Embeddings,
    segment_embeddings: Option<Embeddings>,
    norm: Norm,
    relative: Option<RelativeBias>,
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

impl Bert {
    pub(crate) fn new(config: &BertConfig, weights: &Weights) -> Result<Self> {
        let hidden = config.hidden_size;
        let embedding = |name: &str, rows| {
            weights.embeddings(&format!("embeddings.{name}.weight"), [rows, hidden])
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::new(config, weights, &format!("encoder.layer.{index}")))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            word_embeddings: embedding("word_embeddings", config.vocab_size)?,
            position_embeddings: embedding("position_embeddings", config.max_position_embeddings)?,
            segment_embeddings: match config.family() {
                Family::Mpnet => None,
                _ => Some(embedding("token_type_embeddings", config.type_vocab_size)?),
            },
            norm: norm_of(config, weights, "embeddings.LayerNorm")?,
            relative: match config.family() {
                Family::Mpnet => Some(RelativeBias::new(config.num_attention_heads, weights)?),
                _ => None,
            },
            layers,
        })
    }

    /// The state of every token, `(rows x width, hidden)`; those of padding mean nothing.
    pub(crate) fn forward(&self, tokens: &Tokens) -> Result<Tensor> {
        let mut states = self.word_embeddings.of(&tokens.ids)?;
        let mut places = self.position_embeddings.of(&tokens.positions)?;
        if let Some(segments) = &self.segment_embeddings {
            places = (segments.of(&tokens.segments)? + places)?;
        }
        self.norm.add_and_normalize(&states, None, &places)?;
        let distances = self
            .relative
            .as_ref()
            .map(|relative| relative.by_distance(tokens.width));
        for layer in &self.layers {
            states = layer.forward(states, tokens, distances.as_ref())?;
        }
        Ok(states)
    }
}

fn norm_of(config: &BertConfig, weights: &Weights, name: &str) -> Result<Norm> {
    Norm::new(weights, name, config.hidden_size, config.layer_norm_eps)
}

/// Names of query, key, value, what follows them, and its norm.
fn attention_names(family: Family) -> [&'static str; 5] {
    match family {
        Family::Bert | Family::Roberta => [
            "self.query",
            "self.key",
            "self.value",
            "output.dense",
            "output.LayerNorm",
        ],
        Family::Mpnet => ["attn.q", "attn.k", "attn.v", "attn.o", "LayerNorm"],
    }
}

impl Layer {
    fn new(config: &BertConfig, weights: &Weights, name: &str) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let [query, key, value, attended, attended_norm] = attention_names(config.family());
        let part = |part: &str| -> Result<(Tensor, Tensor)> {
            let name = format!("{name}.attention.{part}");
            Ok((
                weights.get(&format!("{name}.weight"), &[hidden, hidden])?,
                weights.get(&format!("{name}.bias"), &[hidden])?,
            ))
        };
        let [query, key, value] = [part(query)?, part(key)?, part(value)?];
        // The scale of the scores is put into the query's weights, once.
        let scale = 1.0 / (config.head_size() as f64).sqrt();
        let weight = Tensor::cat(&[&query.0.affine(scale, 0.0)?, &key.0, &value.0], 0)?;
        let bias = Tensor::cat(&[&query.1.affine(scale, 0.0)?, &key.1, &value.1], 0)?;
        Ok(Self {
            qkv: Linear {
                weight: weights.matrix_of(&weight)?,
                bias: bias.to_vec1()?.into(),
            },
            attended: Linear::new(
                weights,
                &format!("{name}.attention.{attended}"),
                hidden,
                hidden,
            )?,
            attended_norm: norm_of(
                config,
                weights,
                &format!("{name}.attention.{attended_norm}"),
            )?,
            inner: Linear::new(
                weights,
                &format!("{name}.intermediate.dense"),
                hidden,
                inner,
            )?,
            outer: Linear::new(weights, &format!("{name}.output.dense"), inner, hidden)?,
            outer_norm: norm_of(config, weights, &format!("{name}.output.LayerNorm"))?,
            heads: config.num_attention_heads,
            head_size: config.head_size(),
        })
    }

    fn forward(
        &self,
        states: Tensor,
        tokens: &Tokens,
        distances: Option<&Arc<[f32]>>,
    ) -> Result<Tensor> {
        let attended = self.attention(&states, tokens, distances)?;
        let attended = self.attended.weight.product(&attended)?;
        self.attended_norm
            .add_and_normalize(&attended, Some(&self.attended.bias), &states)?;
        let inner = self.inner.weight.product(&attended)?;
        inner.inplace_op1(&BiasGelu {
            bias: &self.inner.bias,
        })?;
        let outer = self.outer.weight.product(&inner)?;
        self.outer_norm
            .add_and_normalize(&outer, Some(&self.outer.bias), &attended)?;
        Ok(outer)
    }

    fn attention(
        &self,
        states: &Tensor,
        tokens: &Tokens,
        distances: Option<&Arc<[f32]>>,
    ) -> Result<Tensor> {
        let shape = HeadShape {
            rows: tokens.counts.len(),
            width: tokens.width,
            heads: self.heads,
            key_heads: self.heads,
            head_size: self.head_size,
        };
        let split = SplitHeads {
            bias: Some(&self.qkv.bias),
            shape,
        };
        let qkv = self.qkv.weight.product(states)?;
        let looks = Looks {
            shape,
            tokens: &tokens.counts,
            distances: distances.map(|distances| &distances[..]),
            sight: Sight::ALL,
        };
        attended(&qkv.apply_op1_no_bwd(&split)?, &looks)
    }
}
