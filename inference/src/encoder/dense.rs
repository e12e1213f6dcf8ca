//! Layers that sentence-transformers puts behind pooling, which make a vector of another length: `f(W x + b)`.

use std::path::Path;

use serde::Deserialize;

use super::layer::Layer;
use super::safetensors_files::SafetensorsFiles;
use crate::error::LoadError;
use crate::model_folder::read_json;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// What such a module's `config.json` says.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DenseConfig {
    pub(crate) in_features: usize,
    pub(crate) out_features: usize,
    #[serde(default = "default_bias")]
    bias: bool,
    activation_function: Option<String>,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
    #[serde(default)]
    use_residual: bool,
}

fn default_bias() -> bool {
    true
}

#[derive(Debug, Clone, Copy)]
enum DenseActivation {
    Identity,
    Tanh,
}

impl DenseConfig {
    /// That of a module's folder, refused if it would be computed otherwise.
    pub(crate) fn read(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join(CONFIG);
        let config: Self = read_json(&path)?;
        match config.unknown() {
            None => Ok(config),
            Some(reason) => Err(LoadError::SentenceModule { path, reason }),
        }
    }

    fn unknown(&self) -> Option<String> {
        if let Err(other) = self.activation() {
            return Some(format!(
                "its activation_function is `{other}`, and Identity and Tanh are known"
            ));
        }
        let names = [&self.module_input_name, &self.module_output_name];
        let other = names.into_iter().flatten();
        if let Some(name) = other.into_iter().find(|name| *name != "sentence_embedding") {
            return Some(format!(
                "it works on `{name}`, and on vectors of texts it must"
            ));
        }
        (self.use_residual).then(|| "it has use_residual, which is not supported".to_owned())
    }

    /// Without a name it is Tanh, as sentence-transformers has it.
    fn activation(&self) -> Result<DenseActivation, &str> {
        let class = self.activation_function.as_deref().unwrap_or("Tanh");
        match class.rsplit('.').next() {
            Some("Identity") => Ok(DenseActivation::Identity),
            Some("Tanh") => Ok(DenseActivation::Tanh),
            _ => Err(class),
        }
    }
}

/// The layers, one after the other.
#[derive(Debug)]
pub struct Dense(Vec<(Layer, DenseActivation)>);

impl Dense {
    /// Those of the folders of their modules, for vectors of `size` numbers; `None` without any.
    pub(crate) fn read(
        folders: &[impl AsRef<Path>],
        mut size: usize,
    ) -> Result<Option<Self>, LoadError> {
        let layers = folders.iter().map(|folder| {
            let folder = folder.as_ref();
            let config = DenseConfig::read(folder)?;
            if config.in_features != size {
                let takes = config.in_features;
                return Err(LoadError::SentenceModule {
                    path: folder.join(CONFIG),
                    reason: format!(
                        "it takes vectors of {takes}, and those before it are of {size}"
                    ),
                });
            }
            size = config.out_features;
            let refused = |reason: String| LoadError::SentenceModule {
                path: folder.join(WEIGHTS),
                reason,
            };
            let files = SafetensorsFiles::read(&folder.join(WEIGHTS), |_| true)?;
            let tensors = files.tensors().map_err(refused)?;
            let shape = [config.in_features, config.out_features];
            let layer = Layer::of(&tensors, "linear", shape, config.bias).map_err(refused)?;
            let activation = config.activation().expect("checked when it was read");
            Ok((layer, activation))
        });
        let layers = layers.collect::<Result<Vec<_>, LoadError>>()?;
        Ok((!layers.is_empty()).then_some(Self(layers)))
    }

    /// Length of the vectors that come out.
    pub(crate) fn outputs(&self) -> usize {
        self.0.last().map_or(0, |(layer, _)| layer.outputs())
    }

    /// Of `inputs`, vectors of `dim` numbers, those that come out.
    pub(crate) fn apply(&self, inputs: &[f32], dim: usize, outputs: &mut [f32]) {
        let vectors = inputs.chunks_exact(dim);
        for (vector, output) in vectors.zip(outputs.chunks_exact_mut(self.outputs())) {
            let mut vector = vector.to_vec();
            for (layer, activation) in &self.0 {
                let mut next = vec![0.0; layer.outputs()];
                layer.apply(&vector, &mut next);
                if let DenseActivation::Tanh = activation {
                    next.iter_mut().for_each(|value| *value = value.tanh());
                }
                vector = next;
            }
            output.copy_from_slice(&vector);
        }
    }
}
