//! The folder that files are written into, before the first of them.

use std::fs;
use std::path::{Path, PathBuf};

use super::leftovers;
use crate::error::PlanError;
use crate::storage::local_folder;

/// What to do with a folder that has files already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveMode {
    /// Add files.
    #[default]
    Append,
    /// Put the new files in the place of what is there, when they are whole.
    Overwrite,
    /// Write nothing if the folder is there.
    Ignore,
    /// Fail if the folder is there.
    Error,
}

impl SaveMode {
    /// Reads the names that Ray uses.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "append" => Self::Append,
            "overwrite" => Self::Overwrite,
            "ignore" => Self::Ignore,
            "error" => Self::Error,
            _ => return None,
        })
    }
}

/// A folder that may be written into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedFolder {
    /// Its absolute path.
    pub path: PathBuf,
    /// What jobs that ended badly have left in it, for people.
    pub warnings: Vec<String>,
}

/// Looks whether the folder may be written into; `None`: nothing shall be written. Changes nothing but what jobs that
/// were killed have left there. `operation`: the method of the user, for messages.
pub fn prepare_folder(
    operation: &str,
    text: &str,
    mode: SaveMode,
) -> Result<Option<PreparedFolder>, PlanError> {
    let path = local_folder(text)?;
    if path.is_file() {
        return Err(PlanError::InvalidArgument(format!(
            "{operation}({text:?}): this is a file; give a folder, which will receive one file per part"
        )));
    }
    match mode {
        SaveMode::Ignore if path.is_dir() => return Ok(None),
        SaveMode::Error if path.is_dir() => {
            return Err(PlanError::InvalidArgument(format!(
                "{operation}({text:?}, mode=\"error\"): the folder {}; mode=\"append\" adds files to it, \"overwrite\" \
                 replaces them",
                if is_empty(&path) {
                    "is there already, although empty"
                } else {
                    "has files already"
                }
            )));
        }
        _ => {}
    }
    let warnings = leftovers::clear(&path, leftovers::BEGUN_FOR)
        .map_err(|error| PlanError::not_writable(text, &error))?;
    Ok(Some(PreparedFolder { path, warnings }))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}
