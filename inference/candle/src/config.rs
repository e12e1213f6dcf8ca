//! What `config.json` says about a model, and whether this implementation can do it: a BERT or one of its kin here, others in files of their own.

use std::path::Path;

use serde::Deserialize;

use crate::decoder_config::{DecoderConfig, DecoderFamily};
use crate::error::LoadError;
use crate::modern_config::ModernBertConfig;
use crate::relative_positions::BUCKETS;

/// A BERT, and what is one but for a few things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Bert,
    /// Positions begin behind that of padding.
    Roberta,
    /// As RoBERTa; without segments, and with a number for how far tokens are apart. Its layers have other names.
    Mpnet,
}

impl Family {
    fn of(model_type: &str) -> Option<Self> {
        match model_type {
            "bert" => Some(Self::Bert),
            "roberta" | "xlm-roberta" | "camembert" => Some(Self::Roberta),
            "mpnet" => Some(Self::Mpnet),
            _ => None,
        }
    }
}

/// The shape of a BERT encoder; names as in `config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BertConfig {
    #[serde(default)]
    model_type: String,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    #[serde(default = "default_type_vocab_size")]
    pub(crate) type_vocab_size: usize,
    #[serde(default)]
    pub(crate) pad_token_id: Option<i64>,
    #[serde(default = "default_hidden_act")]
    pub(crate) hidden_act: String,
    #[serde(default = "default_layer_norm_eps")]
    pub(crate) layer_norm_eps: f32,
    #[serde(default = "default_position_embedding_type")]
    pub(crate) position_embedding_type: String,
    #[serde(default = "default_relative_attention_num_buckets")]
    pub(crate) relative_attention_num_buckets: usize,
}

/// The id of padding where `config.json` names none.
const ROBERTA_PADDING: u32 = 1;

/// How the tokens of a text are numbered, for the embeddings of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Positions {
    /// From 0.
    FromZero,
    /// From behind the id of padding. A token that has this id itself, such as `<pad>` in a text, has that as its position, and is not counted.
    Behind(u32),
}

impl Positions {
    /// Those of a padded batch, row after row.
    pub(crate) fn of(self, ids: &[u32], width: usize) -> Vec<u32> {
        match self {
            Self::FromZero => (0..ids.len()).map(|cell| (cell % width) as u32).collect(),
            Self::Behind(padding) => {
                let mut positions = Vec::with_capacity(ids.len());
                for row in ids.chunks_exact(width) {
                    let mut last = padding;
                    positions.extend(row.iter().map(|&id| {
                        if id == padding {
                            return padding;
                        }
                        last += 1;
                        last
                    }));
                }
                positions
            }
        }
    }
}

fn default_type_vocab_size() -> usize {
    2
}

/// The only number that `transformers` computes with.
fn default_relative_attention_num_buckets() -> usize {
    BUCKETS
}

fn default_hidden_act() -> String {
    "gelu".to_owned()
}

fn default_layer_norm_eps() -> f32 {
    1e-12
}

fn default_position_embedding_type() -> String {
    "absolute".to_owned()
}

/// The configuration of a model that is implemented here.
#[derive(Debug, Clone)]
pub(crate) enum ModelConfig {
    Bert(BertConfig),
    ModernBert(ModernBertConfig),
    Decoder(DecoderConfig),
}

impl ModelConfig {
    /// Reads `config.json`, and refuses what would load and then compute something else.
    pub(crate) fn read(path: &Path) -> Result<Self, LoadError> {
        let text = std::fs::read_to_string(path).map_err(|source| LoadError::ReadFile {
            path: path.to_owned(),
            source,
        })?;
        let config = Self::parse(&text).map_err(|source| LoadError::ParseConfig {
            path: path.to_owned(),
            source,
        })?;
        match &config {
            Self::Bert(bert) => bert.check(path)?,
            Self::ModernBert(modern) => modern.check(path)?,
            Self::Decoder(decoder) => decoder.check(path)?,
        }
        Ok(config)
    }

    /// A field that is null has its default, as `transformers` has it, but for one in which that is an answer.
    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
        fields.retain(|name, value| !value.is_null() || name == "sliding_window");
        let model_type = fields.get("model_type").and_then(|name| name.as_str());
        let is_decoder = model_type.is_some_and(|name| DecoderFamily::of(name).is_some());
        let is_modern = model_type == Some(MODERN);
        let fields = fields.into();
        Ok(match (is_modern, is_decoder) {
            (true, _) => Self::ModernBert(serde_json::from_value(fields)?),
            (_, true) => Self::Decoder(serde_json::from_value(fields)?),
            _ => Self::Bert(serde_json::from_value(fields)?),
        })
    }

    /// How the tokens of a text are numbered.
    pub(crate) fn positions(&self) -> Positions {
        match self {
            Self::Bert(bert) => bert.positions(),
            Self::ModernBert(_) | Self::Decoder(_) => Positions::FromZero,
        }
    }

    /// Length of the vectors.
    pub(crate) fn hidden_size(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.hidden_size,
            Self::ModernBert(modern) => modern.hidden_size,
            Self::Decoder(decoder) => decoder.hidden_size,
        }
    }
}

const MODERN: &str = "modernbert";

/// What is not supported, and what to do.
pub(crate) fn refused(
    path: &Path,
    setting: &'static str,
    value: &str,
    fix: &'static str,
) -> Result<(), LoadError> {
    Err(LoadError::Unsupported {
        path: path.to_owned(),
        setting,
        value: value.to_owned(),
        fix,
    })
}

impl BertConfig {
    /// Refuses what would load and then compute something else.
    fn check(&self, path: &Path) -> Result<(), LoadError> {
        let refuse = |setting, value: &str, fix| refused(path, setting, value, fix);
        if Family::of(&self.model_type).is_none() {
            return refuse(
                "model_type",
                &self.model_type,
                "use `bert`, `roberta`, `xlm-roberta`, `camembert`, `mpnet`, `modernbert`, `llama`, `mistral`, `qwen2`, `qwen3` or `gemma3_text`, or an \
                 ONNX graph with backend=\"onnx\"",
            );
        }
        if self.relative_attention_num_buckets != BUCKETS {
            let value = self.relative_attention_num_buckets.to_string();
            return refuse("relative_attention_num_buckets", &value, "use 32");
        }
        if self.hidden_act != "gelu" {
            return refuse(
                "hidden_act",
                &self.hidden_act,
                "use `gelu`, or an ONNX graph with backend=\"onnx\"",
            );
        }
        if self.position_embedding_type != "absolute" {
            let value = &self.position_embedding_type;
            return refuse(
                "position_embedding_type",
                value,
                "use `absolute`, or an ONNX graph with backend=\"onnx\"",
            );
        }
        if self.num_attention_heads == 0
            || !self.hidden_size.is_multiple_of(self.num_attention_heads)
        {
            let value = self.num_attention_heads.to_string();
            return refuse("num_attention_heads", &value, "it must divide hidden_size");
        }
        Ok(())
    }

    /// Its family, as checked.
    pub(crate) fn family(&self) -> Family {
        Family::of(&self.model_type).unwrap_or(Family::Bert)
    }

    /// How the tokens of a text are numbered.
    fn positions(&self) -> Positions {
        let named = self.pad_token_id.and_then(|id| u32::try_from(id).ok());
        match self.family() {
            Family::Bert => Positions::FromZero,
            Family::Roberta => Positions::Behind(named.unwrap_or(ROBERTA_PADDING)),
            // Whatever config.json says.
            Family::Mpnet => Positions::Behind(ROBERTA_PADDING),
        }
    }

    /// Length of the vectors of one attention head.
    pub(crate) fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_not_counted_where_positions_begin_behind_it() {
        let ids = [0, 9, 1, 9, 2, 0, 2, 1, 1, 1];
        assert_eq!(
            Positions::Behind(1).of(&ids, 5),
            [2, 3, 1, 4, 5, 2, 3, 1, 1, 1]
        );
        assert_eq!(
            Positions::FromZero.of(&ids, 5),
            [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
        );
    }

    #[test]
    fn null_is_a_default() {
        let text = r#"{"model_type": "bert", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "max_position_embeddings": 64, "type_vocab_size": null, "hidden_act": null,
            "layer_norm_eps": null, "position_embedding_type": null, "pad_token_id": null}"#;
        let bert = |text: &str| match ModelConfig::parse(text) {
            Ok(ModelConfig::Bert(config)) => Ok(config),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        let config = bert(text).unwrap();
        assert!(config.check(Path::new("config.json")).is_ok());
        assert_eq!((config.type_vocab_size, config.layer_norm_eps), (2, 1e-12));
        assert_eq!(config.positions(), Positions::FromZero);
        let roberta = bert(&text.replace("\"bert", "\"roberta")).unwrap();
        assert_eq!(roberta.positions(), Positions::Behind(1));
        // What has no default is still missed.
        let error = bert(&text.replace("9,", "null,")).unwrap_err();
        assert!(error.to_string().contains("vocab_size"), "{error}");
    }
}
