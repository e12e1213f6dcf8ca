//! The tensors of a `model.safetensors`, checked for their shape as they are taken out.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};

use crate::error::LoadError;

/// What stands before the names of the encoder in checkpoints that have a head, too.
const PREFIXES: [&str; 4] = ["bert.", "roberta.", "mpnet.", "model."];

/// Tensors in `f32`, by their name without what some checkpoints put in front.
pub(crate) struct Weights(HashMap<String, Tensor>);

impl Weights {
    /// Reads the whole file.
    pub(crate) fn read(path: &Path) -> std::result::Result<Self, LoadError> {
        let bytes = std::fs::read(path).map_err(|source| LoadError::ReadFile {
            path: path.to_owned(),
            source,
        })?;
        let tensors =
            candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|source| {
                LoadError::Weights {
                    path: path.to_owned(),
                    source,
                }
            })?;
        let strip = |name: String| {
            let short = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
            short.map(str::to_owned).unwrap_or(name)
        };
        Ok(Self(
            tensors
                .into_iter()
                .map(|(name, tensor)| (strip(name), tensor))
                .collect(),
        ))
    }

    /// The tensor `name`, which must have this shape.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(tensor) = self.0.get(name) else {
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
        tensor.to_dtype(DType::F32)
    }
}
