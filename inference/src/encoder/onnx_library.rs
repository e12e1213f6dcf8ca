//! Finds and loads the ONNX Runtime library, once per process.
//!
//! The library comes from the `onnxruntime` (or `onnxruntime-gpu`) Python wheel. Python finds it through its import
//! system and hands the path in; a Rust program sets `ORT_DYLIB_PATH`.

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use parking_lot::Mutex;

use crate::error::LoadError;

/// The variable that ONNX Runtime's own bindings read too.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// The environment of this process. ONNX Runtime allows one, so the first library loaded stays.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Where the library is: `configured`, else the variable.
pub fn find(configured: Option<&Path>) -> Result<PathBuf, LoadError> {
    let (origin, path) = match configured {
        Some(path) => ("onnxruntime_path", path.to_owned()),
        None => match std::env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty()) {
            Some(value) => (LIBRARY_VARIABLE, PathBuf::from(value)),
            None => return Err(LoadError::RuntimeNotFound),
        },
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(LoadError::RuntimePathIsNoFile { origin, path })
    }
}

/// The process's ONNX Runtime environment, loaded from `library` if this is the first call.
pub fn environment(library: &Path) -> Result<Environment, LoadError> {
    let mut slot = ENVIRONMENT.lock();
    if let Some(environment) = slot.as_ref() {
        return Ok(environment.clone());
    }
    let path = std::path::absolute(library).unwrap_or_else(|_| library.to_owned());
    let builder = ort::init_from(&path).map_err(|source| LoadError::RuntimeLibrary {
        path: path.clone(),
        source: Box::new(source),
    })?;
    let environment = builder
        .with_name("aktis")
        .with_telemetry(false)
        .build()
        .map_err(|source| LoadError::RuntimeLibrary {
            path,
            source: Box::new(source),
        })?;
    *slot = Some(environment.clone());
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_to_nothing_names_the_setting_and_the_fix() {
        let error = find(Some(Path::new("/nowhere/libonnxruntime.so")))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("onnxruntime_path is `/nowhere/libonnxruntime.so`"),
            "{error}"
        );
        assert!(error.contains("pip install onnxruntime"), "{error}");
    }
}
