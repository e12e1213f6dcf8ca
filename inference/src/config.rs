//! What an embedder is made of, as one value that travels to actors as JSON.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::LoadError;
use crate::model_folder::ModelFolder;
use crate::placement::Placement;

/// Token budget of a batch on a CPU, where one is not given: the activations of 512 tokens of a MiniLM stay in a
/// core's second-level cache, which measures up to 1.4 times the rows per second of batches of 4096 tokens.
pub const CPU_TOKEN_BUDGET: usize = 512;
/// Token budget of a batch on a GPU, where one is not given.
pub const CUDA_TOKEN_BUDGET: usize = 32 * 1024;

/// Everything needed to load a text embedder. Only `model_dir` has no default:
///
/// ```
/// use aktis_inference::{Backend, TextEmbedderConfig};
///
/// let config = TextEmbedderConfig::from_json(r#"{"model_dir": "all-MiniLM-L6-v2", "backend": "candle"}"#)?;
/// assert_eq!(config.backend, Backend::Candle);
/// assert!(config.normalize);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextEmbedderConfig {
    /// Folder with `config.json`, `tokenizer.json` and the weights.
    pub model_dir: PathBuf,
    /// What runs the model.
    #[serde(default)]
    pub backend: Backend,
    /// The ONNX graph, a path from the folder. `None`: `model.onnx` or `onnx/model.onnx`.
    #[serde(default)]
    pub onnx_file: Option<PathBuf>,
    /// Where it runs.
    #[serde(default)]
    pub device: Device,
    /// Longer texts are cut to this many tokens, the special ones included. `None`: what the model folder says
    /// (`sentence_bert_config.json`), or else the number of positions the model has.
    #[serde(default)]
    pub max_tokens: Option<usize>,
    /// Most tokens in a batch, padding included; a single longer text still makes a batch of its own. `None`:
    /// [`CPU_TOKEN_BUDGET`] or [`CUDA_TOKEN_BUDGET`].
    #[serde(default)]
    pub token_budget: Option<usize>,
    /// Threads that one batch is computed with. `None`: 1, because batches side by side (see `replicas`) use cores
    /// better than threads inside one batch.
    #[serde(default)]
    pub intra_threads: Option<usize>,
    /// Copies of the model that compute batches side by side, each with `intra_threads` threads. `None`: on a CPU as
    /// many as fill the cores this process may use (at most 16), on a GPU one.
    #[serde(default)]
    pub replicas: Option<usize>,
    /// So many actors share the cores of a machine: without `replicas` each fills its part of them, however many they are. `None`: who
    /// loads the model has them to itself.
    #[serde(default)]
    pub sharing: Option<usize>,
    /// Scale every embedding to length 1.
    #[serde(default = "default_normalize")]
    pub normalize: bool,
    /// How a text's token vectors become one vector. `None`: as the model folder says (`1_Pooling/config.json`), or else their mean.
    #[serde(default)]
    pub pooling: Option<Pooling>,
    /// Numbers of a vector that are kept, from its beginning, before it is scaled: for models that were trained for that. `None`: all.
    #[serde(default)]
    pub dimensions: Option<usize>,
    /// What is put before each text. `None`: what the folder has under `prompt_name`, or as its default (`config_sentence_transformers.json`).
    #[serde(default)]
    pub prompt: Option<String>,
    /// The name of a prompt of the folder.
    #[serde(default)]
    pub prompt_name: Option<String>,
    /// What the weights of `model.safetensors` become on candle. `None`: float32.
    #[serde(default)]
    pub dtype: Option<Dtype>,
    /// What the model gives for a text.
    #[serde(default)]
    pub head: Head,
    /// The ONNX Runtime library to load (`libonnxruntime.so.1.x`), usually found through Python's import system.
    /// `None`: the variable `ORT_DYLIB_PATH`.
    #[serde(default)]
    pub onnxruntime_path: Option<PathBuf>,
    /// The library of the candle backend, `libaktis_candle.so`; Python names the one of its package.
    #[serde(default)]
    pub candle_path: Option<PathBuf>,
}

fn default_normalize() -> bool {
    true
}

impl TextEmbedderConfig {
    /// The defaults, for the model in `model_dir`.
    pub fn new(model_dir: impl Into<PathBuf>) -> Self {
        Self {
            model_dir: model_dir.into(),
            backend: Backend::Auto,
            onnx_file: None,
            device: Device::Auto,
            max_tokens: None,
            token_budget: None,
            intra_threads: None,
            replicas: None,
            sharing: None,
            normalize: default_normalize(),
            pooling: None,
            dimensions: None,
            prompt: None,
            prompt_name: None,
            dtype: None,
            head: Head::Vector,
            onnxruntime_path: None,
            candle_path: None,
        }
    }

    /// The model folder.
    pub(crate) fn folder(&self) -> Result<ModelFolder, LoadError> {
        ModelFolder::open_with(&self.model_dir, self.onnx_file.as_deref())
    }

    /// Length of what comes out for a text.
    pub(crate) fn width(&self, folder: &ModelFolder) -> Result<usize, LoadError> {
        let all = self.head.width(folder)?;
        match self.dimensions {
            Some(value) if value == 0 || value > all => Err(LoadError::Setting {
                setting: "dimensions",
                value,
                reason: format!("the vectors of this model have {all}"),
            }),
            wanted => Ok(wanted.unwrap_or(all)),
        }
    }

    /// What is put before each text.
    pub(crate) fn prompt_of(&self, folder: &ModelFolder) -> Result<Option<String>, LoadError> {
        // Those of a folder are for vectors.
        if self.head == Head::Logits {
            return Ok(self.prompt.clone());
        }
        let modules = folder.modules();
        let prompt = modules.prompt(self.prompt.as_deref(), self.prompt_name.as_deref())?;
        modules.check_prompt(prompt.as_deref(), self.pooling)?;
        Ok(prompt)
    }

    pub(crate) fn placement(&self) -> Placement {
        Placement {
            intra_threads: self.intra_threads,
            replicas: self.replicas,
            sharing: self.sharing,
        }
    }

    /// Reads the form that [`to_json`](Self::to_json) writes; a field it does not know is an error.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The form that travels to actors.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a struct of strings and numbers is always JSON")
    }
}

/// What runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// ONNX Runtime where the folder has a graph and the library is found, else candle if that was built.
    #[default]
    Auto,
    /// ONNX Runtime, from `model.onnx` or `onnx/model.onnx`.
    Onnx,
    /// candle, from `model.safetensors`.
    Candle,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Onnx => "onnx",
            Self::Candle => "candle",
        })
    }
}

/// Where the model runs. Written `auto`, `cpu`, `cuda` (the first visible GPU) or `cuda:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The first visible GPU if there is one and the backend can use it, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this number among those visible to the process.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// A device was not written as `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, thiserror::Error)]
#[error("read `{text}` as a device: it is none of auto, cpu, cuda, cuda:0, cuda:1, ...")]
pub struct ParseDeviceError {
    text: String,
}

impl FromStr for Device {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let device = match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|ordinal| ordinal.parse().ok())
                .map(Self::Cuda),
        };
        device.ok_or_else(|| ParseDeviceError {
            text: text.to_owned(),
        })
    }
}

impl TryFrom<String> for Device {
    type Error = ParseDeviceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

/// How a text's token vectors become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean over the text's tokens, special ones included, padding left out.
    #[default]
    Mean,
    /// That of the first token, `[CLS]` or `<s>`.
    Cls,
    /// That of the last token.
    Last,
}

/// What the weights of linear layers are kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// As they are computed with.
    Float32,
    /// Whole numbers of 8 bits, with a factor for each block of 32: a quarter of the memory.
    Int8,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float32 => "\"float32\"",
            Self::Int8 => "\"int8\"",
        })
    }
}

/// What a model gives for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// A vector, pooled from those of its tokens.
    #[default]
    Vector,
    /// A number for each label that `config.json` names, as they come out of the model.
    Logits,
}

impl Head {
    /// How many numbers that are.
    pub(crate) fn width(self, folder: &ModelFolder) -> Result<usize, LoadError> {
        match self {
            Self::Vector => Ok(folder.modules().size(folder.config().hidden_size)),
            Self::Logits => Ok(folder.labels()?.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_survives_the_journey_to_an_actor() {
        let mut config = TextEmbedderConfig::new("/models/minilm");
        config.device = Device::Cuda(3);
        config.token_budget = Some(4096);
        assert_eq!(
            TextEmbedderConfig::from_json(&config.to_json()).unwrap(),
            config
        );
    }

    #[test]
    fn misspelt_setting_is_refused_by_name() {
        let error =
            TextEmbedderConfig::from_json(r#"{"model_dir": "m", "normalise": true}"#).unwrap_err();
        assert!(error.to_string().contains("normalise"), "{error}");
    }

    #[test]
    fn device_names_are_read_back_as_written() {
        for device in [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(7)] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        let error = "gpu".parse::<Device>().unwrap_err().to_string();
        assert!(
            error.contains("`gpu`") && error.contains("cuda:0"),
            "{error}"
        );
    }
}
