//! A model folder: which files it has, and what they say about the model.
//!
//! ```text
//!  all-MiniLM-L6-v2/
//!    config.json                  the encoder's shape            needed
//!    tokenizer.json               text -> token ids              needed
//!    model.onnx | onnx/model.onnx the graph for ONNX Runtime     one of
//!    model.safetensors            the weights for candle         these two
//!    model.safetensors.index.json the same in several files      in its place
//!    sentence_bert_config.json    max_seq_length                 optional
//!    tokenizer_config.json        model_max_length, eos_token    optional
//! ```
//! What sentence-transformers puts behind a model is in [`sentence_modules`](crate::sentence_modules).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::LoadError;
use crate::sentence_modules::SentenceModules;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];
const GRAPHS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];
const SENTENCE_CONFIG: &str = "sentence_bert_config.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// A folder that holds a model: it has a configuration, a tokenizer and weights in at least one form.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    path: PathBuf,
    config: ModelConfig,
    sentence_config: SentenceConfig,
    tokenizer_config: TokenizerConfig,
    modules: SentenceModules,
    graph: Option<PathBuf>,
    weights: Option<PathBuf>,
}

/// The part of `config.json` that every backend needs.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelConfig {
    /// Length of the token vectors, and so of the embeddings.
    pub hidden_size: usize,
    /// Rows of the position embeddings.
    pub max_position_embeddings: usize,
    /// The id that fills rows up, if the model has one of its own; some write -1 for none.
    #[serde(default)]
    pad_token_id: Option<i64>,
    /// Its family.
    #[serde(default)]
    pub model_type: String,
    /// The labels of a classifier, by their numbers.
    #[serde(default)]
    pub id2label: Option<BTreeMap<String, Label>>,
    /// How many labels there are, where none is named.
    #[serde(default)]
    pub num_labels: Option<usize>,
    /// Whether a text has one label, any of them, or numbers.
    #[serde(default)]
    pub problem_type: Option<String>,
    /// Which state a ModernBERT's head reads: `cls` or `mean`.
    #[serde(default)]
    pub classifier_pooling: Option<String>,
    /// What that head applies between its layers.
    #[serde(default)]
    pub classifier_activation: Option<String>,
    /// And the least variance in its norm.
    #[serde(default)]
    pub norm_eps: Option<f32>,
    /// What sentence-transformers does with the number that a cross-encoder gives.
    #[serde(default)]
    pub sentence_transformers: Option<CrossEncoderConfig>,
    /// The same, as older versions write it.
    #[serde(default)]
    pub sbert_ce_default_activation_function: Option<String>,
}

/// The part of `config.json` that sentence-transformers writes for its cross-encoders.
#[derive(Debug, Clone, Deserialize)]
pub struct CrossEncoderConfig {
    /// A class of torch: `torch.nn.modules.linear.Identity`.
    #[serde(default)]
    pub activation_fn: Option<String>,
}

/// The name of a class: text as a rule, and whatever else its author has written.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "serde_json::Value")]
pub struct Label(String);

impl From<serde_json::Value> for Label {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::String(text) => Self(text),
            other => Self(other.to_string()),
        }
    }
}

/// Fields that some families call otherwise, as `attribute_map` of their classes in `transformers` has it.
const OTHER_NAMES: [(&str, &[&str]); 2] = [
    ("hidden_size", &["dim", "d_model", "n_embd"]),
    ("max_position_embeddings", &["n_positions"]),
];
/// Families whose first positions are those of padding: `pad_token_id + 1` of them.
const OFFSET_FAMILIES: [&str; 6] = [
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "mpnet",
    "longformer",
];
/// Labels of a classifier that names none, as `transformers` has it.
const DEFAULT_LABELS: usize = 2;

impl ModelConfig {
    /// Longest sequence that the position embeddings reach.
    pub fn positions(&self) -> usize {
        let offset = match self.model_type.as_str() {
            // Begins behind 1, whatever pad_token_id says.
            "mpnet" => 2,
            _ if self.has_offset() => self.pad_id() as usize + 1,
            _ => 0,
        };
        self.max_position_embeddings.saturating_sub(offset)
    }

    /// The id that fills rows up: what the family has by itself where `config.json` names none. Nothing attends to it.
    pub fn pad_id(&self) -> u32 {
        let named = self.pad_token_id.and_then(|id| u32::try_from(id).ok());
        named.unwrap_or(u32::from(self.has_offset()))
    }

    /// The same, where `config.json` names one.
    pub(crate) fn named_pad_id(&self) -> Option<i64> {
        self.pad_token_id
    }

    fn has_offset(&self) -> bool {
        OFFSET_FAMILIES.contains(&self.model_type.as_str())
    }

    /// The labels in the order of their numbers; the first number that has none.
    fn labels(&self) -> Result<Vec<String>, usize> {
        let Some(named) = &self.id2label else {
            let count = self.num_labels.unwrap_or(DEFAULT_LABELS);
            return Ok((0..count).map(|id| format!("LABEL_{id}")).collect());
        };
        (0..named.len())
            .map(|id| {
                let label = named.get(&id.to_string());
                label.map(|Label(text)| text.clone()).ok_or(id)
            })
            .collect()
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct TokenizerConfig {
    /// A huge number, also of floats, where nobody has said anything.
    model_max_length: Option<f64>,
    /// What the tokenizer gives to the model.
    model_input_names: Option<Vec<String>>,
    /// Whether each text ends with `eos_token`, as tokenizers of Llama and its kin read it.
    add_eos_token: Option<bool>,
    eos_token: Option<Token>,
}

/// A token, as text or with how it is found.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Added { content: String },
}

impl TokenizerConfig {
    fn longest(&self) -> Option<usize> {
        let length = self.model_max_length?;
        (length >= MIN_MAX_TOKENS as f64 && length < 1e9).then_some(length as usize)
    }
}

impl ModelFolder {
    /// Looks into `path`, and names everything that is missing at once.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        Self::open_with(path, None)
    }

    /// The same, with `graph` as the ONNX graph: a path from the folder.
    pub fn open_with(path: &Path, graph: Option<&Path>) -> Result<Self, LoadError> {
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
        let graph = match graph {
            Some(named) => Some(named_graph(path, named)?),
            None => GRAPHS
                .iter()
                .map(|name| path.join(name))
                .find(|file| file.is_file()),
        };
        let mut weights = WEIGHTS.iter().map(|name| path.join(name));
        let weights = weights.find(|file| file.is_file());
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
        Ok(Self {
            config: read_config(&path.join(CONFIG))?,
            sentence_config: read_if_there(&path.join(SENTENCE_CONFIG))?,
            tokenizer_config: read_if_there(&path.join(TOKENIZER_CONFIG))?,
            modules: SentenceModules::read(path)?,
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

    /// What follows the model, and prompts.
    pub(crate) fn modules(&self) -> &SentenceModules {
        &self.modules
    }

    /// The token that each text is to end with, if `tokenizer_config.json` says so.
    pub(crate) fn end_token(&self) -> Result<Option<&str>, LoadError> {
        let TokenizerConfig {
            add_eos_token,
            eos_token,
            ..
        } = &self.tokenizer_config;
        if *add_eos_token != Some(true) {
            return Ok(None);
        }
        match eos_token {
            Some(Token::Text(text) | Token::Added { content: text }) => Ok(Some(text)),
            None => Err(LoadError::EndToken {
                path: self.path.join(TOKENIZER_CONFIG),
                reason: "no eos_token beside it".to_owned(),
            }),
        }
    }

    /// The labels of a classifier, in the order of its numbers.
    pub fn labels(&self) -> Result<Vec<String>, LoadError> {
        let refused = |reason: String| LoadError::Labels {
            path: self.config_path(),
            reason,
        };
        let labels = self.config.labels().map_err(|id| {
            refused(format!(
                "its id2label has no label {id}, and more labels than that"
            ))
        })?;
        if labels.is_empty() {
            return Err(refused("it names no label".to_owned()));
        }
        Ok(labels)
    }

    /// Whether the model is told which text of a pair a token is of: as the folder says, or as its family has it. RoBERTa and its kin are not, whatever
    /// `tokenizer.json` puts beside the tokens.
    pub fn has_segments(&self) -> bool {
        match &self.tokenizer_config.model_input_names {
            Some(names) => names.iter().any(|name| name == "token_type_ids"),
            None => !self.config.has_offset(),
        }
    }

    /// Tokens a text is cut to: `wanted`, or what the folder says, or all that the model has positions for.
    pub fn max_tokens(&self, wanted: Option<usize>) -> Result<usize, LoadError> {
        let positions = self.config.positions();
        match wanted {
            Some(value) if !(MIN_MAX_TOKENS..=positions).contains(&value) => {
                Err(LoadError::Setting {
                    setting: "max_tokens",
                    value,
                    reason: format!("this model takes {MIN_MAX_TOKENS} to {positions} tokens"),
                })
            }
            Some(value) => Ok(value),
            None => {
                let told = self.sentence_config.max_seq_length;
                let told = told.or(self.tokenizer_config.longest());
                Ok(told.map_or(positions, |tokens| tokens.min(positions)))
            }
        }
    }
}

/// The graph that is named, a path from the folder.
pub(crate) fn named_graph(folder: &Path, graph: &Path) -> Result<PathBuf, LoadError> {
    let mut parts = graph.components();
    if !parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(LoadError::NoGraph {
            path: graph.to_owned(),
            found: "onnx_file= is a path from the folder, and this one leads out of it",
        });
    }
    let file = folder.join(graph);
    match file.is_file() {
        true => Ok(file),
        false => Err(LoadError::NoGraph {
            path: file,
            found: "onnx_file= names it, and there is no such file",
        }),
    }
}

/// The start and end tokens, and one of the text.
const MIN_MAX_TOKENS: usize = 3;

pub(crate) fn read_if_there<T: DeserializeOwned + Default>(path: &Path) -> Result<T, LoadError> {
    if path.is_file() {
        read_json(path)
    } else {
        Ok(T::default())
    }
}

/// Reads `config.json`, as `transformers` does: a field that is null has its default, and some have other names in some families.
pub(crate) fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    let mut fields: Fields = read_json(path)?;
    name_as_usual(&mut fields);
    if let Some(vision) = fields
        .get_mut("vision_config")
        .and_then(|told| told.as_object_mut())
    {
        name_as_usual(vision);
    }
    parse_fields(path, &fields)
}

fn name_as_usual(fields: &mut Fields) {
    fields.retain(|_, value| !value.is_null());
    for (name, others) in OTHER_NAMES {
        // Both may be there: then the first counts.
        let told = others.iter().filter_map(|other| fields.remove(*other));
        let told: Vec<_> = told.collect();
        if !fields.contains_key(name)
            && let Some(value) = told.into_iter().next()
        {
            fields.insert(name.to_owned(), value);
        }
    }
}

/// The fields of a JSON file.
pub(crate) type Fields = serde_json::Map<String, serde_json::Value>;

/// What the fields of the file at `path` say; an error names the one at fault.
pub(crate) fn parse_fields<T: DeserializeOwned>(
    path: &Path,
    fields: &Fields,
) -> Result<T, LoadError> {
    from_fields(fields).map_err(|source| LoadError::ParseConfig {
        path: path.to_owned(),
        source: named(fields, source, |rest| from_fields::<T>(rest).err()),
    })
}

fn from_fields<T: DeserializeOwned>(fields: &Fields) -> serde_json::Result<T> {
    serde_json::from_value(fields.clone().into())
}

/// The error with the name of the field at fault: without that it is gone, or another.
fn named(
    fields: &Fields,
    error: serde_json::Error,
    read: impl Fn(&Fields) -> Option<serde_json::Error>,
) -> serde_json::Error {
    let message = error.to_string();
    let is_at_fault = |name: &&String| {
        let mut rest = fields.clone();
        rest.remove(*name);
        read(&rest).is_none_or(|other| other.to_string() != message)
    };
    match fields.keys().find(is_at_fault) {
        Some(name) => serde::de::Error::custom(format!("`{name}`: {message}")),
        None => error,
    }
}

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
        let folder = folder(&[(CONFIG, "{"), (TOKENIZER, ""), (WEIGHTS[0], "")]);
        let error = ModelFolder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
    }

    #[test]
    fn graph_that_is_named_lies_in_the_folder() {
        let outer = folder(&[("other.onnx", "")]);
        let inner = outer.path().join("model");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("a.onnx"), "").unwrap();
        assert!(named_graph(&inner, Path::new("./a.onnx")).is_ok());
        let absolute = outer.path().join("other.onnx");
        for name in [Path::new("../other.onnx"), &absolute] {
            let error = named_graph(&inner, name).unwrap_err().to_string();
            let named = format!("`{}`: onnx_file= is a path from the folder", name.display());
            assert!(error.contains(&named), "{error}");
        }
    }

    fn config_of(text: &str) -> ModelConfig {
        let folder = folder(&[(CONFIG, text)]);
        read_config(&folder.path().join(CONFIG)).unwrap()
    }

    /// What `save_pretrained` writes of fields that nobody has set.
    #[test]
    fn null_is_a_default() {
        let config = config_of(
            r#"{"hidden_size": 8, "max_position_embeddings": 64, "pad_token_id": null, "model_type": null, "id2label": null,
                "num_labels": null, "problem_type": null, "sentence_transformers": null, "type_vocab_size": null,
                "position_embedding_type": null, "classifier_dropout": null, "torch_dtype": null}"#,
        );
        assert_eq!((config.pad_id(), config.positions()), (0, 64));
        assert_eq!(config.labels().unwrap(), ["LABEL_0", "LABEL_1"]);
        let roberta = r#"{"hidden_size": 8, "max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": ID}"#;
        for (written, id, positions) in [
            ("null", 1, 512),
            ("1", 1, 512),
            ("0", 0, 513),
            ("-1", 1, 512),
        ] {
            let config = config_of(&roberta.replace("ID", written));
            assert_eq!(
                (config.pad_id(), config.positions()),
                (id, positions),
                "{written}"
            );
        }
        let mpnet = roberta.replace("roberta", "mpnet").replace("ID", "0");
        let config = config_of(&mpnet);
        assert_eq!((config.pad_id(), config.positions()), (0, 512));
    }

    #[test]
    fn fields_have_the_names_of_their_families() {
        let nomic = config_of(
            r#"{"n_embd": 8, "n_positions": 64, "hidden_size": null, "model_type": "nomic_bert"}"#,
        );
        assert_eq!((nomic.hidden_size, nomic.positions()), (8, 64));
        let distil = config_of(r#"{"dim": 8, "hidden_size": 9, "max_position_embeddings": 64}"#);
        assert_eq!(distil.hidden_size, 9);
        let stars = config_of(
            r#"{"d_model": 8, "max_position_embeddings": 64, "id2label": {"0": 1, "1": "two"}}"#,
        );
        assert_eq!(stars.labels().unwrap(), ["1", "two"]);
    }

    #[test]
    fn segments_are_those_that_the_tokenizer_gives_to_the_model() {
        let has_segments = |model_type: &str, tokenizer: &str| {
            let config = CONFIG_TEXT.replace('{', &format!("{{\"model_type\": \"{model_type}\", "));
            let files = [
                (CONFIG, config.as_str()),
                (TOKENIZER, ""),
                (WEIGHTS[0], ""),
                (TOKENIZER_CONFIG, tokenizer),
            ];
            ModelFolder::open(folder(&files).path())
                .unwrap()
                .has_segments()
        };
        assert!(has_segments("bert", "{}"));
        assert!(!has_segments("xlm-roberta", "{}"));
        let without = r#"{"model_input_names": ["input_ids", "attention_mask"]}"#;
        assert!(!has_segments("bert", without));
        let with = r#"{"model_input_names": ["input_ids", "token_type_ids"]}"#;
        assert!(has_segments("roberta", with));
    }

    #[test]
    fn max_tokens_is_the_wish_then_the_folder_then_the_positions() {
        let plain = folder(&[(CONFIG, CONFIG_TEXT), (TOKENIZER, ""), (WEIGHTS[0], "")]);
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
            (WEIGHTS[0], ""),
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
