//! The tensors of a `model.safetensors`, or of several files that an index names, checked for their shape as they are taken out.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};
use serde::Deserialize;

use crate::error::LoadError;
use crate::matrix::{Matrix, Numbers};

/// What stands before the names of the encoder in checkpoints that have a head, too.
const PREFIXES: [&str; 4] = ["bert.", "roberta.", "mpnet.", "model."];

/// Tensors by their name, without what some checkpoints put in front.
pub(crate) struct Weights {
    /// Each is taken once, so that no model is in memory twice.
    tensors: RefCell<HashMap<String, Tensor>>,
    numbers: Numbers,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl Weights {
    /// Reads the whole of the file, or of the files that it names.
    pub(crate) fn read(path: &Path, numbers: Numbers) -> std::result::Result<Self, LoadError> {
        let mut tensors = HashMap::new();
        for file in files(path)? {
            let read = candle_core::safetensors::load_buffer(&bytes(&file)?, &Device::Cpu);
            let read = read.map_err(|source| LoadError::Weights { path: file, source })?;
            tensors.extend(read.into_iter().map(|(name, tensor)| {
                let short = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
                (short.map(str::to_owned).unwrap_or(name), tensor)
            }));
        }
        Ok(Self {
            tensors: RefCell::new(tensors),
            numbers,
        })
    }

    /// The tensor `name` in float32, which must have this shape.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.take(name, shape)?.to_dtype(DType::F32)
    }

    /// The same as the rows of embeddings, which stay as they are.
    pub(crate) fn embeddings(&self, name: &str, shape: [usize; 2]) -> Result<Embeddings> {
        Ok(Embeddings(self.take(name, &shape)?))
    }

    /// The weights of a linear layer.
    pub(crate) fn matrix(&self, name: &str, inputs: usize, outputs: usize) -> Result<Matrix> {
        self.matrix_of(&self.get(name, &[outputs, inputs])?)
    }

    /// The same, from a tensor as checkpoints store it: `(outputs, inputs)`.
    pub(crate) fn matrix_of(&self, weight: &Tensor) -> Result<Matrix> {
        Matrix::new(weight, self.numbers)
    }

    fn take(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(tensor) = self.tensors.borrow_mut().remove(name) else {
            candle_core::bail!(
                "it has no tensor `{name}`, so it is not the encoder that config.json describes"
            );
        };
        if tensor.dims() != shape {
            candle_core::bail!(
                "its tensor `{name}` has shape {:?}, and config.json asks for {shape:?}",
                tensor.dims()
            );
        }
        Ok(tensor)
    }
}

/// A vector for each id. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Embeddings(Tensor);

impl Embeddings {
    /// Those of some ids, in float32.
    pub(crate) fn of(&self, ids: &Tensor) -> Result<Tensor> {
        self.0.embedding(ids)?.to_dtype(DType::F32)
    }
}

/// The file itself, or those that an index names, which lie beside it.
fn files(path: &Path) -> std::result::Result<Vec<PathBuf>, LoadError> {
    if path.extension().is_none_or(|ending| ending != "json") {
        return Ok(vec![path.to_owned()]);
    }
    let refused = |reason: String| LoadError::Index {
        path: path.to_owned(),
        reason,
    };
    let index: Index =
        serde_json::from_slice(&bytes(path)?).map_err(|error| refused(error.to_string()))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(refused("it names no file".to_owned()));
    }
    let beside = |name: String| match Path::new(&name).components().collect::<Vec<_>>()[..] {
        [Component::Normal(name)] => Ok(path.with_file_name(name)),
        _ => Err(refused(format!("`{name}` does not lie beside it"))),
    };
    names.into_iter().map(beside).collect()
}

fn bytes(path: &Path) -> std::result::Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::ReadFile {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_names_files_that_lie_beside_it() {
        let folder = std::env::temp_dir().join(format!("aktis-index-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let index = folder.join("model.safetensors.index.json");
        let files_of = |text: &str| {
            std::fs::write(&index, text).unwrap();
            files(&index).map_err(|error| error.to_string())
        };
        let two = r#"{"metadata": {}, "weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#;
        let beside = ["1.safetensors", "2.safetensors"].map(|name| folder.join(name));
        assert_eq!(files_of(two).unwrap(), beside);
        for (text, said) in [
            (
                r#"{"weight_map": {"a": "../other.safetensors"}}"#,
                "does not lie beside it",
            ),
            (
                r#"{"weight_map": {"a": "/etc/passwd"}}"#,
                "does not lie beside it",
            ),
            (r#"{"weight_map": {}}"#, "names no file"),
            ("{}", "weight_map"),
        ] {
            let error = files_of(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
