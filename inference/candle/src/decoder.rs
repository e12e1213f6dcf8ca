//! Decoders that are used as embedders: Llama, Mistral, Qwen2, Qwen3 and Gemma3, and what is made of them.
//!
//! ```text
//!  ids ── word embeddings ── x
//!                            │
//!        ┌───────────── x layers ─────────────────────────────────────────┐
//!        │  q, k, v = norm(x) W, q and k turned by position               │  Qwen2: + b; Qwen3, Gemma3: norms of q and k
//!        │  x = x + softmax(q kᵀ / √d) v W                                │  as a rule over the tokens before it
//!        │  a, b = norm(x) W;  x = x + (silu(a) b) W                      │  Gemma3: a norm of what is added
//!        └────────────────────────────────────────────────────────────────┘
//!                            └── norm
//! ```
//! Norms are RMSNorms. Several heads of queries share one of keys and values. Rows are padded on the right: a token sees none of that, and positions count
//! from the beginning of its text, so that nothing depends on how much there is.

use candle_core::{Result, Tensor};

use crate::attention::{Angles, HeadShape, Looks, Rotate, Sight, SplitHeads, attended};
use crate::bert::Tokens;
use crate::decoder_config::{DecoderConfig, DecoderFamily};
use crate::layers::PlainNorm;
use crate::matrix::Matrix;
use crate::ops::{Activation, Gated};
use crate::weights::{Embeddings, Weights};

/// The decoder. Cloning shares the weights.
#[derive(Clone)]
pub(crate) struct Decoder {
    embeddings: Embeddings,
    embedding_scale: Option<f64>,
    layers: Vec<DecoderLayer>,
    final_norm: PlainNorm,
    /// The bases of the angles of layers that see all tokens, and of those that do not.
    thetas: [f32; 2],
}

#[derive(Clone)]
struct DecoderLayer {
    attention_norm: PlainNorm,
    qkv: Matrix,
    bias: Option<Vec<f32>>,
    /// Of queries and of keys.
    head_norms: Option<[PlainNorm; 2]>,
    attended: Matrix,
    attended_norm: Option<PlainNorm>,
    inner_norm: PlainNorm,
    inner: Matrix,
    activation: Activation,
    outer: Matrix,
    outer_norm: Option<PlainNorm>,
    /// Of one row of one token.
    shape: HeadShape,
    is_local: bool,
    sight: Sight,
}

impl Decoder {
    pub(crate) fn new(config: &DecoderConfig, weights: &Weights) -> Result<Self> {
        let layers = (0..config.num_hidden_layers).map(|layer| {
            Parts {
                config,
                weights,
                layer,
            }
            .layer()
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            embeddings: weights.embeddings(
                "embed_tokens.weight",
                [config.vocab_size, config.hidden_size],
            )?,
            embedding_scale: config.embedding_scale(),
            final_norm: norm(config, weights, "norm", config.hidden_size, 1.0)?,
            thetas: [config.theta(false), config.theta(true)],
        })
    }

    /// The state of every token, `(rows x width, hidden)`; those of padding mean nothing.
    pub(crate) fn forward(&self, tokens: &Tokens) -> Result<Tensor> {
        let mut states = self.embeddings.of(&tokens.ids)?;
        if let Some(scale) = self.embedding_scale {
            states = states.affine(scale, 0.0)?;
        }
        let head_size = self.layers.first().map_or(0, |layer| layer.shape.head_size);
        let [global, local] = self.thetas;
        let near = (local != global).then(|| Angles::new(local, tokens.width, head_size));
        let all = Angles::new(global, tokens.width, head_size);
        for layer in &self.layers {
            let angles = near.as_ref().filter(|_| layer.is_local).unwrap_or(&all);
            states = layer.forward(states, tokens, angles)?;
        }
        self.final_norm.normalize(&states)?;
        Ok(states)
    }
}

/// A norm, whose weights are in Gemma3 how much more than 1 they are.
fn norm(
    config: &DecoderConfig,
    weights: &Weights,
    name: &str,
    size: usize,
    factor: f32,
) -> Result<PlainNorm> {
    let weight = weights.get(&format!("{name}.weight"), &[size])?;
    let more = match config.family() {
        DecoderFamily::Gemma3 => 1.0,
        _ => 0.0,
    };
    PlainNorm::new(&weight, config.rms_norm_eps, (more, factor))
}

/// What a layer is made of.
struct Parts<'model> {
    config: &'model DecoderConfig,
    weights: &'model Weights,
    layer: usize,
}

impl Parts<'_> {
    fn layer(&self) -> Result<DecoderLayer> {
        let config = self.config;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let shape = HeadShape {
            rows: 1,
            width: 1,
            heads: config.num_attention_heads,
            key_heads: config.key_heads(),
            head_size: config.head_size(),
        };
        let is_gemma = config.family() == DecoderFamily::Gemma3;
        let (qkv, bias) = self.qkv(shape)?;
        let [gate, up] =
            ["mlp.gate_proj", "mlp.up_proj"].map(|name| self.tensor(name, inner, hidden));
        Ok(DecoderLayer {
            attention_norm: self.norm("input_layernorm", hidden, 1.0)?,
            qkv,
            bias,
            head_norms: match config.family() {
                DecoderFamily::Qwen3 | DecoderFamily::Gemma3 => Some([
                    self.norm("self_attn.q_norm", shape.head_size, config.scale())?,
                    self.norm("self_attn.k_norm", shape.head_size, 1.0)?,
                ]),
                _ => None,
            },
            attended: self.matrix("self_attn.o_proj", shape.heads * shape.head_size, hidden)?,
            attended_norm: match is_gemma {
                true => Some(self.norm("post_attention_layernorm", hidden, 1.0)?),
                false => None,
            },
            inner_norm: match is_gemma {
                true => self.norm("pre_feedforward_layernorm", hidden, 1.0)?,
                false => self.norm("post_attention_layernorm", hidden, 1.0)?,
            },
            inner: self.weights.matrix_of(&Tensor::cat(&[gate?, up?], 0)?)?,
            activation: config.activation(),
            outer: self.matrix("mlp.down_proj", inner, hidden)?,
            outer_norm: match is_gemma {
                true => Some(self.norm("post_feedforward_layernorm", hidden, 1.0)?),
                false => None,
            },
            shape,
            is_local: config.is_local(self.layer),
            sight: config.sight(self.layer),
        })
    }

    /// Queries, keys and values by one product, and their bias. The scale of the scores is in the weights of the queries, once, or in those of their norm.
    fn qkv(&self, shape: HeadShape) -> Result<(Matrix, Option<Vec<f32>>)> {
        let family = self.config.family();
        let scale = match family {
            DecoderFamily::Qwen3 | DecoderFamily::Gemma3 => 1.0,
            _ => f64::from(self.config.scale()),
        };
        let parts = [
            ("self_attn.q_proj", shape.heads, scale),
            ("self_attn.k_proj", shape.key_heads, 1.0),
            ("self_attn.v_proj", shape.key_heads, 1.0),
        ];
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for (name, heads, scale) in parts {
            let outputs = heads * shape.head_size;
            let weight = self.tensor(name, outputs, self.config.hidden_size)?;
            weights.push(weight.affine(scale, 0.0)?);
            if family == DecoderFamily::Qwen2 {
                let part = self.weights.get(&self.name(name, "bias"), &[outputs])?;
                bias.extend(part.affine(scale, 0.0)?.to_vec1::<f32>()?);
            }
        }
        let weight = self.weights.matrix_of(&Tensor::cat(&weights, 0)?)?;
        Ok((weight, (!bias.is_empty()).then_some(bias)))
    }

    fn name(&self, part: &str, what: &str) -> String {
        format!("layers.{}.{part}.{what}", self.layer)
    }

    fn tensor(&self, part: &str, outputs: usize, inputs: usize) -> Result<Tensor> {
        self.weights
            .get(&self.name(part, "weight"), &[outputs, inputs])
    }

    fn matrix(&self, part: &str, inputs: usize, outputs: usize) -> Result<Matrix> {
        self.weights
            .matrix(&self.name(part, "weight"), inputs, outputs)
    }

    fn norm(&self, part: &str, size: usize, factor: f32) -> Result<PlainNorm> {
        let name = format!("layers.{}.{part}", self.layer);
        norm(self.config, self.weights, &name, size, factor)
    }
}

impl DecoderLayer {
    fn forward(&self, states: Tensor, tokens: &Tokens, angles: &Angles) -> Result<Tensor> {
        let attended = self.attention(&self.attention_norm.of(&states)?, tokens, angles)?;
        let attended = self.attended.product(&attended)?;
        if let Some(norm) = &self.attended_norm {
            norm.normalize(&attended)?;
        }
        let states = (states + attended)?;
        let inner = self.inner.product(&self.inner_norm.of(&states)?)?;
        let gated = inner.apply_op1_no_bwd(&Gated(self.activation))?;
        let outer = self.outer.product(&gated)?;
        if let Some(norm) = &self.outer_norm {
            norm.normalize(&outer)?;
        }
        states + outer
    }

    fn attention(&self, states: &Tensor, tokens: &Tokens, angles: &Angles) -> Result<Tensor> {
        let (rows, width) = (tokens.counts.len(), tokens.width);
        let shape = HeadShape {
            rows,
            width,
            ..self.shape
        };
        let split = SplitHeads {
            bias: self.bias.as_deref(),
            shape,
        };
        let qkv = self.qkv.product(states)?.apply_op1_no_bwd(&split)?;
        if let Some([queries, keys]) = &self.head_norms {
            let (of_queries, of_keys) = (rows * shape.heads, rows * shape.key_heads);
            queries.normalize(&qkv.narrow(0, 0, of_queries)?)?;
            keys.normalize(&qkv.narrow(0, of_queries, of_keys)?)?;
        }
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
