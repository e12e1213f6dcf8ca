//! A model folder: which files it has, and what they say about the model.
//!
//! ```text
//!  all-MiniLM-L6-v2/
//!    config.json                  the encoder's shape            needed
//!    tokenizer.json               text -> token ids              needed
//!    model.onnx | onnx/model.onnx the graph for ONNX Runtime     one of
//!    model.safetensors            the weights for candle         these two
//!    sentence_bert_config.json    max_seq_length                 optional
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::LoadError;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const GRAPHS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];
const SENTENCE_CONFIG: &str = "sentence_bert_config.json";

/// A folder that holds a model: it has a configuration, a tokenizer and weights in at least one form.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    path: PathBuf,
    config: ModelConfig,
    sentence_config: SentenceConfig,
    graph: Option<PathBuf>,
    weights: Option<PathBuf>,
}

/// The part of `config.json` that every backend needs.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelConfig {
    /// Length of the token vectors, and so of the embeddings.
    pub hidden_size: usize,
    /// Longest sequence the position embeddings reach.
    pub max_position_embeddings: usize,
    /// The id that fills rows up.
    #[serde(default)]
    pub pad_token_id: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

impl ModelFolder {
    /// Looks into `path`, and names everything that is missing at once.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        if !path.is_dir() {
            let found = if path.exists() {
                "it is a file"
            } else {
                "there is nothing"
            };
            return Err(LoadError::NotAFolder {
                path: path.to_owned(),
                found,
            });
        }
        let graph = GRAPHS
            .iter()
            .map(|name| path.join(name))
            .find(|file| file.is_file());
        let weights = Some(path.join(WEIGHTS)).filter(|file| file.is_file());
        let mut missing: Vec<&'static str> = [CONFIG, TOKENIZER]
            .into_iter()
            .filter(|name| !path.join(name).is_file())
            .collect();
        if graph.is_none() && weights.is_none() {
            missing.push("model.onnx or model.safetensors");
        }
        if !missing.is_empty() {
            return Err(LoadError::MissingFiles {
                path: path.to_owned(),
                missing,
            });
        }
        let sentence_path = path.join(SENTENCE_CONFIG);
        let sentence_config = if sentence_path.is_file() {
            read_json(&sentence_path)?
        } else {
            SentenceConfig::default()
        };
        Ok(Self {
            config: read_json(&path.join(CONFIG))?,
            sentence_config,
            graph,
            weights,
            path: path.to_owned(),
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `config.json` says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where `config.json` is.
    pub fn config_path(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// Where `tokenizer.json` is.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.path.join(TOKENIZER)
    }

    /// The ONNX graph, if there is one.
    pub fn graph(&self) -> Option<&Path> {
        self.graph.as_deref()
    }

    /// The safetensors weights, if there are any.
    pub fn weights(&self) -> Option<&Path> {
        self.weights.as_deref()
    }

    /// Tokens a text is cut to: `wanted`, or what the folder says, or all that the model has positions for.
    pub fn max_tokens(&self, wanted: Option<usize>) -> Result<usize, LoadError> {
        let positions = self.config.max_position_embeddings;
        match wanted {
            Some(value) if !(MIN_MAX_TOKENS..=positions).contains(&value) => {
                Err(LoadError::Setting {
                    setting: "max_tokens",
                    value,
                    reason: format!("this model takes {MIN_MAX_TOKENS} to {positions} tokens"),
                })
            }
            Some(value) => Ok(value),
            None => Ok(self
                .sentence_config
                .max_seq_length
                .map_or(positions, |tokens| tokens.min(positions))),
        }
    }
}

/// The start and end tokens, and one of the text.
const MIN_MAX_TOKENS: usize = 3;

/// Reads a JSON file of a model folder.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    let text = fs::read_to_string(path).map_err(|source| LoadError::ReadFile {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| LoadError::ParseConfig {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG_TEXT: &str = r#"{"hidden_size": 8, "max_position_embeddings": 64}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn every_missing_file_is_named_at_once() {
        let folder = folder(&[(CONFIG, CONFIG_TEXT)]);
        let error = ModelFolder::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("no tokenizer.json and no model.onnx or model.safetensors"),
            "{error}"
        );
    }

    #[test]
    fn path_that_is_no_folder_says_what_is_there() {
        let folder = folder(&[("weights.bin", "")]);
        let file = ModelFolder::open(&folder.path().join("weights.bin"))
            .unwrap_err()
            .to_string();
        assert!(
            file.contains("it is a file; a model folder holds config.json"),
            "{file}"
        );
        let nothing = ModelFolder::open(&folder.path().join("typo"))
            .unwrap_err()
            .to_string();
        assert!(
            nothing.contains("typo") && nothing.contains("there is nothing"),
            "{nothing}"
        );
    }

    #[test]
    fn broken_config_names_the_file() {
        let folder = folder(&[(CONFIG, "{"), (TOKENIZER, ""), (WEIGHTS, "")]);
        let error = ModelFolder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
    }

    #[test]
    fn max_tokens_is_the_wish_then_the_folder_then_the_positions() {
        let plain = folder(&[(CONFIG, CONFIG_TEXT), (TOKENIZER, ""), (WEIGHTS, "")]);
        let plain = ModelFolder::open(plain.path()).unwrap();
        assert_eq!(plain.max_tokens(None).unwrap(), 64);
        assert_eq!(plain.max_tokens(Some(10)).unwrap(), 10);
        let error = plain.max_tokens(Some(65)).unwrap_err().to_string();
        assert!(
            error.contains("max_tokens = 65") && error.contains("3 to 64"),
            "{error}"
        );
        let cut = folder(&[
            (CONFIG, CONFIG_TEXT),
            (TOKENIZER, ""),
            (WEIGHTS, ""),
            (SENTENCE_CONFIG, r#"{"max_seq_length": 32}"#),
        ]);
        assert_eq!(
            ModelFolder::open(cut.path())
                .unwrap()
                .max_tokens(None)
                .unwrap(),
            32
        );
    }
}
