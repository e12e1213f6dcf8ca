//! The file that says who runs in a session folder.

use std::path::{Path, PathBuf};

use aktis_common::config::Settings;
use serde::{Deserialize, Serialize};

use super::folder::{SessionError, base_dir};
use super::process::ProcessMark;

const FILE_NAME: &str = "owner.json";

/// What a process of Aktis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A driver with gcs and raylet inside.
    Laptop,
    /// Daemon with gcs and raylet.
    Head,
    /// Daemon with a raylet.
    Node,
}

/// Who runs in a session folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The process.
    pub process: ProcessMark,
    /// What it is.
    pub role: Role,
    /// The session, as its gcs names it.
    pub session_id: String,
    /// Where the gcs is reached.
    pub gcs_address: String,
    /// Folders outside the session folder that end with the process.
    pub extra_dirs: Vec<PathBuf>,
}

impl Owner {
    /// Writes the file into `folder`, whole or not at all.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, folder: &Path) -> Result<(), SessionError> {
        let path = folder.join(FILE_NAME);
        let text = serde_json::to_string(self).expect("an owner is plain data");
        let partial = folder.join(".owner.json");
        std::fs::write(&partial, text)
            .and_then(|()| std::fs::rename(&partial, &path))
            .map_err(|error| SessionError::Write {
                path,
                cause: error.to_string(),
            })
    }

    /// Reads the file of `folder`; `None` when there is none or it makes no sense.
    pub fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(folder.join(FILE_NAME)).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// The owners of this user's session folders that still run, oldest session first.
pub fn owners(settings: &Settings) -> Vec<(PathBuf, Owner)> {
    let Ok(entries) = std::fs::read_dir(base_dir(settings)) else {
        return Vec::new();
    };
    let mut found: Vec<(PathBuf, Owner)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.path(), Owner::read(&entry.path())?)))
        .filter(|(_, owner)| owner.process.is_alive())
        .collect();
    found.sort_by(|(left, _), (right, _)| left.cmp(right));
    found
}
