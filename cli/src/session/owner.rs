//! The file that says who runs in a session folder.

use std::path::{Path, PathBuf};

use aktis_common::config::{Secret, Settings};
use aktis_common::ids::SessionId;
use serde::{Deserialize, Serialize};

use super::file::{read_private, write_private};
use super::folder::{SessionError, existing_base};
use super::lock::{Holder, with_holder};
use super::process::ProcessMark;
use super::sweep::folders_in;

const FILE_NAME: &str = "owner.json";
const TOKEN_NAME: &str = "token";

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
    /// No process of its own: a daemon whose session folder lies elsewhere tells its address and token.
    Announcement,
}

impl Role {
    /// Whether `aktis start` made it.
    pub fn is_daemon(self) -> bool {
        matches!(self, Self::Head | Self::Node)
    }
}

/// Who runs in a session folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The process.
    pub process: ProcessMark,
    /// What it is.
    pub role: Role,
    /// The session, as its gcs names it.
    pub session_id: SessionId,
    /// Where the gcs is reached.
    pub gcs_address: String,
}

impl Owner {
    /// Writes the file into `folder`, whole or not at all.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, folder: &Path) -> Result<(), SessionError> {
        let text = serde_json::to_string(self).expect("an owner is plain data");
        write(folder, FILE_NAME, &text)
    }

    /// Reads the file of `folder`; `None` when there is none, it is not ours or makes no sense.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&read_private(folder, FILE_NAME)?).ok()
    }
}

/// Puts the cluster's token where processes of this user find it.
///
/// # Errors
/// When the disk does not take it.
pub fn write_token(folder: &Path, token: &Secret) -> Result<(), SessionError> {
    write(folder, TOKEN_NAME, token.expose())
}

/// The token of the cluster whose daemon runs in `folder`.
pub fn read_token(folder: &Path) -> Option<Secret> {
    let text = read_private(folder, TOKEN_NAME)?;
    (!text.is_empty()).then(|| Secret::new(text))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), SessionError> {
    write_private(folder, name, text).map_err(|error| SessionError::Write {
        path: folder.join(name),
        cause: error.to_string(),
    })
}

/// The owners of this user's session folders that run here, oldest session first.
pub fn owners(settings: &Settings) -> Vec<(PathBuf, Owner)> {
    existing_base(settings).map_or(Vec::new(), |base| owners_in(&base))
}

pub(super) fn owners_in(base: &Path) -> Vec<(PathBuf, Owner)> {
    let mut found: Vec<(PathBuf, Owner)> = folders_in(base)
        .into_iter()
        .filter_map(|path| Owner::read(&path).map(|owner| (path, owner)))
        .filter(|(path, owner)| {
            owner.process.is_running()
                && with_holder(path, |holder| !matches!(holder, Holder::Nobody))
        })
        .collect();
    found.sort_by(|(left, _), (right, _)| left.cmp(right));
    found
}
