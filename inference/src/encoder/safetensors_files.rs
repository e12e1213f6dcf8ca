//! Tensors of a `model.safetensors`, or of the files that `model.safetensors.index.json` names, for what comes behind an encoder.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use arrow::datatypes::{ArrowPrimitiveType, Float16Type};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;

use crate::error::LoadError;
use crate::model_folder::read_json;

type Half = <Float16Type as ArrowPrimitiveType>::Native;

/// The files that have some of a model's tensors, in memory.
pub(crate) struct SafetensorsFiles(Vec<Vec<u8>>);

#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, PathBuf>,
}

impl SafetensorsFiles {
    /// The file at `path`, or of those that it names the ones with tensors that are `wanted`.
    pub(crate) fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Self, LoadError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| LoadError::ReadFile {
                path: path.to_owned(),
                source,
            })
        };
        if path.extension().is_none_or(|ending| ending != "json") {
            return Ok(Self(vec![read(path)?]));
        }
        let index: Index = read_json(path)?;
        let named = index.weight_map.into_iter();
        let mut files: Vec<PathBuf> = named
            .filter_map(|(name, file)| wanted(&name).then_some(file))
            .collect();
        files.sort();
        files.dedup();
        let files = files
            .iter()
            .map(|file| match file.components().collect::<Vec<_>>()[..] {
                [Component::Normal(name)] => read(&path.with_file_name(name)),
                _ => Err(LoadError::HeadWeights {
                    path: path.to_owned(),
                    reason: format!("`{}` does not lie beside it", file.display()),
                }),
            });
        Ok(Self(files.collect::<Result<_, _>>()?))
    }

    /// Their tensors.
    pub(crate) fn tensors(&self) -> Result<Tensors<'_>, String> {
        let files = self.0.iter().map(|bytes| SafeTensors::deserialize(bytes));
        let files = files.collect::<Result<_, _>>();
        files.map(Tensors).map_err(|error| error.to_string())
    }
}

/// Tensors by their names.
pub(crate) struct Tensors<'bytes>(Vec<SafeTensors<'bytes>>);

impl Tensors<'_> {
    fn get(&self, name: &str) -> Option<TensorView<'_>> {
        self.0.iter().find_map(|file| file.tensor(name).ok())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The numbers of a tensor that must have this shape.
    pub(crate) fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let tensor = self.get(name);
        let tensor = tensor.ok_or_else(|| format!("it has no tensor `{name}`"))?;
        let unfit = || {
            format!(
                "its tensor `{name}` is {:?} of shape {:?}, and F32, F16 or BF16 of shape {shape:?} is needed",
                tensor.dtype(),
                tensor.shape()
            )
        };
        if tensor.shape() != shape {
            return Err(unfit());
        }
        let (words, _) = tensor.data().as_chunks::<4>();
        let (halves, _) = tensor.data().as_chunks::<2>();
        Ok(match tensor.dtype() {
            Dtype::F32 => words.iter().map(|&cell| f32::from_le_bytes(cell)).collect(),
            Dtype::F16 => {
                let cells = halves
                    .iter()
                    .map(|&cell| Half::from_le_bytes(cell).to_f32());
                cells.collect()
            }
            // The upper half of a float32.
            Dtype::BF16 => {
                let cells = halves.iter().map(|&[low, high]| [0, 0, low, high]);
                cells.map(f32::from_le_bytes).collect()
            }
            _ => return Err(unfit()),
        })
    }
}
