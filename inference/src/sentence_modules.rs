//! What sentence-transformers writes beside a model: which steps follow it, and texts that go before others.
//!
//! ```text
//!    modules.json                        the steps: Transformer, Pooling, Dense, Normalize
//!    1_Pooling/config.json               how token states become a vector
//!    2_Dense/{config.json,model.safetensors}   what that goes through, in some models
//!    config_sentence_transformers.json   prompts by their names
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::Pooling;
use crate::encoder::dense::DenseConfig;
use crate::error::{LoadError, list};
use crate::model_folder::{read_if_there, read_json};

const MODULES: &str = "modules.json";
const POOLING: &str = "1_Pooling/config.json";
const PROMPTS: &str = "config_sentence_transformers.json";

/// The steps of a folder, and its prompts.
#[derive(Debug, Clone, Default)]
pub(crate) struct SentenceModules {
    path: PathBuf,
    pooling_path: PathBuf,
    pooling: PoolingConfig,
    dense: Vec<PathBuf>,
    /// Length of the vectors behind the last of them.
    dense_size: Option<usize>,
    /// The first module that is not known here.
    other: Option<Module>,
    prompts_path: PathBuf,
    prompts: Prompts,
}

#[derive(Debug, Clone, Deserialize)]
struct Module {
    /// Where it is, from the folder.
    #[serde(default)]
    path: PathBuf,
    /// Its class.
    #[serde(rename = "type")]
    class: String,
}

impl Module {
    fn kind(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or(&self.class)
    }
}

/// A truth value for each mode, or in newer versions their names.
#[derive(Debug, Clone, Default, Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode: Option<String>,
    #[serde(default)]
    include_prompt: Option<bool>,
    #[serde(flatten)]
    modes: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Prompts {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    #[serde(default)]
    default_prompt_name: Option<String>,
}

impl PoolingConfig {
    /// The mode; the name of one that is not there.
    fn pooling(&self) -> Result<Pooling, String> {
        let named: Vec<&str> = match &self.pooling_mode {
            Some(mode) => vec![mode],
            None => {
                let asked = self
                    .modes
                    .iter()
                    .filter(|(_, value)| value.as_bool() == Some(true));
                asked
                    .filter_map(|(name, _)| name.strip_prefix("pooling_mode_"))
                    .collect()
            }
        };
        match named[..] {
            [] | ["mean" | "mean_tokens"] => Ok(Pooling::Mean),
            ["cls" | "cls_token"] => Ok(Pooling::Cls),
            ["lasttoken"] => Ok(Pooling::Last),
            _ => Err(named.join("+")),
        }
    }
}

impl SentenceModules {
    /// Those of a folder, which may have none.
    pub(crate) fn read(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join(MODULES);
        let modules: Vec<Module> = match path.is_file() {
            true => read_json(&path)?,
            false => Vec::new(),
        };
        let pooling_path = folder.join(POOLING);
        let prompts_path = folder.join(PROMPTS);
        let dense: Vec<PathBuf> = modules
            .iter()
            .filter(|module| module.kind() == "Dense")
            .map(|module| folder.join(&module.path))
            .collect();
        let sizes = dense.iter().map(|folder| DenseConfig::read(folder));
        let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            pooling: read_if_there(&pooling_path)?,
            prompts: read_if_there(&prompts_path)?,
            dense_size: sizes.last().map(|config| config.out_features),
            other: first_unknown(modules),
            path,
            dense,
            pooling_path,
            prompts_path,
        })
    }

    /// How token states become a vector: `wanted`, or what the folder says, or their mean.
    pub(crate) fn pooling(&self, wanted: Option<Pooling>) -> Result<Pooling, LoadError> {
        if let Some(pooling) = wanted {
            return Ok(pooling);
        }
        self.pooling.pooling().map_err(|mode| LoadError::Pooling {
            path: self.pooling_path.clone(),
            mode,
        })
    }

    /// The folders of what vectors go through behind pooling. A step that is not known is an error.
    pub(crate) fn dense(&self) -> Result<&[PathBuf], LoadError> {
        match &self.other {
            None => Ok(&self.dense),
            Some(module) => Err(LoadError::SentenceModule {
                path: self.path.clone(),
                reason: format!(
                    "it has a step `{}` where it is, and Transformer, Pooling, Dense and, as the last, Normalize are known; use an ONNX graph with an \
                     output sentence_embedding",
                    module.class
                ),
            }),
        }
    }

    /// Length of the vectors that come out, of those that the model gives.
    pub(crate) fn size(&self, hidden: usize) -> usize {
        self.dense_size.unwrap_or(hidden)
    }

    /// What is put before each text: `text` itself, or the one that the folder has under `name`, or under its default name.
    pub(crate) fn prompt(
        &self,
        text: Option<&str>,
        name: Option<&str>,
    ) -> Result<Option<String>, LoadError> {
        let Prompts {
            prompts,
            default_prompt_name,
        } = &self.prompts;
        if let (Some(text), None) = (text, name) {
            return Ok(Some(text.to_owned()));
        }
        let told = name.or(default_prompt_name.as_deref());
        match told.map(|name| (name, prompts.get(name))) {
            None => Ok(None),
            Some((_, Some(prompt))) => Ok(prompt.clone()),
            Some((name, None)) => Err(LoadError::PromptName {
                path: self.prompts_path.clone(),
                name: name.to_owned(),
                known: match prompts.is_empty() {
                    true => "it has none".to_owned(),
                    false => format!(
                        "it has {}",
                        list(&prompts.keys().cloned().collect::<Vec<_>>())
                    ),
                },
            }),
        }
    }

    /// Refuses a prompt whose tokens would have to be left out when pooling.
    pub(crate) fn check_prompt(
        &self,
        prompt: Option<&str>,
        wanted: Option<Pooling>,
    ) -> Result<(), LoadError> {
        let is_left_out = self.pooling.include_prompt == Some(false)
            && wanted.is_none()
            && self.pooling(None)? != Pooling::Last;
        match is_left_out && prompt.is_some_and(|prompt| !prompt.is_empty()) {
            true => Err(LoadError::SentenceModule {
                path: self.pooling_path.clone(),
                reason: "include_prompt is false there, and a prompt's tokens cannot be left out; name a pooling by pooling=, which takes all \
                         tokens, or give no prompt"
                    .to_owned(),
            }),
            false => Ok(()),
        }
    }
}

/// A module that is not known, or not known where it is.
fn first_unknown(modules: Vec<Module>) -> Option<Module> {
    let last = modules.len().saturating_sub(1);
    let mut numbered = modules.into_iter().enumerate();
    let other = numbered.find(|(at, module)| match (*at, module.kind()) {
        (0, "Transformer") | (1, "Pooling") => false,
        (2.., "Dense") => false,
        (2.., "Normalize") => *at != last,
        _ => true,
    });
    other.map(|(_, module)| module)
}
