//! The head of a sequence classifier, for backends that give the states of tokens: `W2 tanh(W1 x + b1) + b2` of a text's first state.
//!
//! BERT calls `W1` its pooler, and RoBERTa's head has both. ModernBERT's is `W2 LayerNorm(gelu(W1 x)) + b2`, of the first state or of their mean. Decoders
//! have `W x` of the last state.

use std::path::Path;

use super::layer::Layer;
use super::math;
use super::safetensors_files::{SafetensorsFiles, Tensors};
use crate::config::Pooling;
use crate::core::pooling::{pool, pool_one};
use crate::core::token_batch::TokenBatch;
use crate::error::LoadError;
use crate::model_folder::ModelConfig;

/// Names of the two layers, with and without what checkpoints put before those of the encoder.
const LAYERS: [[&str; 2]; 4] = [
    ["bert.pooler.dense", "classifier"],
    ["pooler.dense", "classifier"],
    ["classifier.dense", "classifier.out_proj"],
    [MODERN, "classifier"],
];
/// ModernBERT's first layer.
const MODERN: &str = "head.dense";
/// And its norm.
const MODERN_NORM: &str = "head.norm.weight";
/// The only layer of a decoder's.
const SCORE: &str = "score";

/// The layers, and what is around them.
#[derive(Debug)]
pub struct ClassifierHead {
    hidden: usize,
    read: Read,
    inner: Option<(Layer, Between)>,
    out: Layer,
}

/// What it reads of a text.
#[derive(Debug, Clone, Copy)]
enum Read {
    Pooled(Pooling),
    /// The state of the last token that is not this one, which is the first where all are.
    LastBut(Option<i64>),
}

/// What is done between the layers.
#[derive(Debug)]
enum Between {
    Tanh,
    GeluNorm { weights: Vec<f32>, epsilon: f32 },
}

impl ClassifierHead {
    /// Takes it out of `model.safetensors`, or of the files that its index names.
    pub fn read(path: &Path, config: &ModelConfig, labels: usize) -> Result<Self, LoadError> {
        let names = || LAYERS.iter().flatten().chain([&SCORE, &MODERN_NORM]);
        let files =
            SafetensorsFiles::read(path, |tensor| names().any(|name| tensor.starts_with(name)))?;
        let head = files
            .tensors()
            .and_then(|tensors| Self::of(&tensors, config, labels));
        head.map_err(|reason| LoadError::HeadWeights {
            path: path.to_owned(),
            reason,
        })
    }

    fn of(tensors: &Tensors<'_>, config: &ModelConfig, labels: usize) -> Result<Self, String> {
        let hidden = config.hidden_size;
        let has = |name: &str| tensors.has(&format!("{name}.weight"));
        if has(SCORE) {
            return Ok(Self {
                hidden,
                read: Read::LastBut(config.named_pad_id()),
                inner: None,
                out: Layer::of(tensors, SCORE, [hidden, labels], false)?,
            });
        }
        let layers = LAYERS
            .iter()
            .find(|layers| layers.iter().all(|name| has(name)));
        let [dense, out] = layers.ok_or_else(|| {
            format!(
                "it has no head of a BERT, RoBERTa, MPNet, ModernBERT or decoder, neither `{SCORE}` nor one of {LAYERS:?}; use an ONNX graph with \
                 backend=\"onnx\""
            )
        })?;
        let is_modern = *dense == MODERN;
        let has_bias = !is_modern || tensors.has("head.dense.bias");
        let (pooling, between) = match is_modern {
            true => (modern_pooling(config)?, modern_norm(tensors, config)?),
            false => (Pooling::Cls, Between::Tanh),
        };
        Ok(Self {
            hidden,
            read: Read::Pooled(pooling),
            inner: Some((
                Layer::of(tensors, dense, [hidden, hidden], has_bias)?,
                between,
            )),
            out: Layer::of(tensors, out, [hidden, labels], true)?,
        })
    }

    /// Numbers that it gives for a text.
    pub(crate) fn labels(&self) -> usize {
        self.out.outputs()
    }

    /// `states` has shape `(rows, width, hidden)`, `logits` `(rows, labels)`.
    pub(crate) fn apply(&self, states: &[f32], batch: &TokenBatch, logits: &mut [f32]) {
        let hidden = self.hidden;
        let mut pooled = vec![0.0; batch.rows() * hidden];
        self.read.apply(states, batch, &mut pooled);
        let mut inner = vec![0.0; hidden];
        let rows = pooled.chunks_exact(hidden);
        for (row, logits) in rows.zip(logits.chunks_exact_mut(self.labels())) {
            let Some((dense, between)) = &self.inner else {
                self.out.apply(row, logits);
                continue;
            };
            dense.apply(row, &mut inner);
            between.apply(&mut inner);
            self.out.apply(&inner, logits);
        }
    }
}

fn modern_pooling(config: &ModelConfig) -> Result<Pooling, String> {
    match config.classifier_pooling.as_deref() {
        None | Some("cls") => Ok(Pooling::Cls),
        Some("mean") => Ok(Pooling::Mean),
        Some(other) => Err(unknown("classifier_pooling", other, "cls and mean")),
    }
}

fn modern_norm(tensors: &Tensors<'_>, config: &ModelConfig) -> Result<Between, String> {
    match config.classifier_activation.as_deref() {
        None | Some("gelu") => Ok(Between::GeluNorm {
            weights: tensors.numbers(MODERN_NORM, &[config.hidden_size])?,
            epsilon: config.norm_eps.unwrap_or(MODERN_EPSILON),
        }),
        Some(other) => Err(unknown("classifier_activation", other, "gelu")),
    }
}

/// Of a ModernBERT that names none.
const MODERN_EPSILON: f32 = 1e-5;

fn unknown(setting: &str, value: &str, known: &str) -> String {
    format!(
        "config.json has {setting} `{value}`, and {known} can be used; use an ONNX graph with backend=\"onnx\""
    )
}

impl Read {
    fn apply(self, states: &[f32], batch: &TokenBatch, pooled: &mut [f32]) {
        let dim = pooled.len() / batch.rows().max(1);
        let padding = match self {
            Self::Pooled(pooling) => return pool(pooling, states, batch, dim, pooled),
            Self::LastBut(padding) => padding,
        };
        let rows = states.chunks_exact(batch.width() * dim);
        for (row, (states, pooled)) in rows.zip(pooled.chunks_exact_mut(dim)).enumerate() {
            let first = row * batch.width();
            let ids = &batch.input_ids()[first..first + batch.row_tokens(row)];
            let last = ids.iter().rposition(|&id| Some(id) != padding);
            let read = last.map_or(1, |last| last + 1).min(ids.len());
            pool_one(Pooling::Last, &states[..read * dim], pooled);
        }
    }
}

impl Between {
    fn apply(&self, values: &mut [f32]) {
        match self {
            Self::Tanh => values.iter_mut().for_each(|value| *value = value.tanh()),
            Self::GeluNorm { weights, epsilon } => {
                values
                    .iter_mut()
                    .for_each(|value| *value = math::gelu(*value));
                math::layer_norm(values, weights, None, *epsilon);
            }
        }
    }
}
