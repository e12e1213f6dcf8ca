//! What `config.json` says about a BERT, and whether this implementation can do it.

use std::path::Path;

use serde::Deserialize;

use crate::error::LoadError;

/// The shape of a BERT encoder; names as in `config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BertConfig {
    #[serde(default)]
    pub(crate) model_type: String,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    #[serde(default = "default_type_vocab_size")]
    pub(crate) type_vocab_size: usize,
    #[serde(default = "default_hidden_act")]
    pub(crate) hidden_act: String,
    #[serde(default = "default_layer_norm_eps")]
    pub(crate) layer_norm_eps: f32,
    #[serde(default = "default_position_embedding_type")]
    pub(crate) position_embedding_type: String,
}

fn default_type_vocab_size() -> usize {
    2
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

impl BertConfig {
    /// Reads `config.json`.
    pub(crate) fn read(path: &Path) -> Result<Self, LoadError> {
        let text = std::fs::read_to_string(path).map_err(|source| LoadError::ReadFile {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|source| LoadError::ParseConfig {
            path: path.to_owned(),
            source,
        })
    }

    /// A field that is null has its default, as `transformers` has it.
    fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
        fields.retain(|_, value| !value.is_null());
        serde_json::from_value(fields.into())
    }

    /// Refuses what would load and then compute something else.
    pub(crate) fn check(&self, path: &Path) -> Result<(), LoadError> {
        let refuse = |setting, value: &str, fix| {
            Err(LoadError::Unsupported {
                path: path.to_owned(),
                setting,
                value: value.to_owned(),
                fix,
            })
        };
        if self.model_type != "bert" {
            return refuse(
                "model_type",
                &self.model_type,
                "use `bert`, or an ONNX graph with backend=\"onnx\"",
            );
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

    /// Length of the vectors of one attention head.
    pub(crate) fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_a_default() {
        let text = r#"{"model_type": "bert", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "max_position_embeddings": 64, "type_vocab_size": null, "hidden_act": null,
            "layer_norm_eps": null, "position_embedding_type": null, "pad_token_id": null}"#;
        let config = BertConfig::parse(text).unwrap();
        assert!(config.check(Path::new("config.json")).is_ok());
        assert_eq!((config.type_vocab_size, config.layer_norm_eps), (2, 1e-12));
        // What has no default is still missed.
        let error = BertConfig::parse(&text.replace("9,", "null,")).unwrap_err();
        assert!(error.to_string().contains("vocab_size"), "{error}");
    }
}
