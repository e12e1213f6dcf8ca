//! The folder that files are written into: before the first and after the last of them.

use std::fs;
use std::path::PathBuf;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use crate::error::PlanError;
use crate::stage_worker::unfinished_prefix;
use crate::stages::Sink;
use crate::storage::local_folder;

/// What to do with a folder that has files already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveMode {
    /// Add files.
    #[default]
    Append,
    /// Remove what is there.
    Overwrite,
    /// Write nothing.
    Ignore,
    /// Fail.
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

/// Makes the folder ready; `None`: nothing shall be written.
pub fn prepare_folder(text: &str, mode: SaveMode) -> Result<Option<PathBuf>, PlanError> {
    let folder = local_folder(text)?;
    let storage = |error: std::io::Error| PlanError::Storage {
        path: text.to_owned(),
        detail: error.to_string(),
    };
    if folder.is_file() {
        return Err(PlanError::InvalidArgument(format!(
            "write_parquet({text:?}): this is a file; give a folder, which will receive one file per part"
        )));
    }
    let is_used = fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
    match mode {
        SaveMode::Ignore if is_used => return Ok(None),
        SaveMode::Error if is_used => {
            return Err(PlanError::InvalidArgument(format!(
                "write_parquet({text:?}, mode=\"error\"): the folder has files already"
            )));
        }
        SaveMode::Overwrite if is_used => fs::remove_dir_all(&folder).map_err(storage)?,
        _ => {}
    }
    fs::create_dir_all(&folder).map_err(storage)?;
    Ok(Some(folder))
}

/// The folder of a running sink.
pub(crate) struct FolderSink {
    folder: PathBuf,
    unfinished: String,
}

impl FolderSink {
    /// The folder of `sink`, if it writes files.
    pub(crate) fn open(sink: &Sink) -> Result<Option<Self>, PlanError> {
        let Sink::Parquet { folder, prefix, .. } = sink else {
            return Ok(None);
        };
        let folder = PathBuf::from(folder);
        if !folder.is_dir() {
            return Err(PlanError::FileMissing {
                path: folder.display().to_string(),
            });
        }
        Ok(Some(Self {
            folder,
            unfinished: unfinished_prefix(prefix),
        }))
    }

    /// Removes what workers left unfinished when they died.
    pub(crate) fn close(&mut self, outcome: Result<(), TaskFailure>) -> Result<(), TaskFailure> {
        let entries = fs::read_dir(&self.folder);
        let sweep = || -> std::io::Result<()> {
            for entry in entries? {
                let entry = entry?;
                if entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with(&self.unfinished)
                {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        let swept = sweep().map_err(|error| {
            let folder = self.folder.display();
            TaskFailure::new(ErrorCode::Internal, format!("tidy up {folder}: {error}"))
        });
        // On failure workers may still be ending; their files are hidden in any case.
        outcome.and(swept.or_else(|failure| {
            tracing::warn!(%failure, "unfinished files may be left");
            Ok(())
        }))
    }
}
