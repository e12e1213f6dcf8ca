//! Folders for spilled objects outside the session folder.

use std::path::{Path, PathBuf};

use aktis_common::config::Settings;

use super::folder::{SessionError, SessionFolder, failed_to_make};
use super::sweep::folders_in;

/// What their names begin with.
const PREFIX: &str = "aktis-";

/// Makes the spill folder of a session below the folder that the settings name, if they name one: locked and private as the
/// session's own (`SES-1`, `SES-4`), and gone with it.
///
/// # Errors
/// When it cannot be made.
pub fn make_spill_folder(
    settings: &Settings,
    session_dir: &Path,
) -> Result<Option<SessionFolder>, SessionError> {
    let Some(below) = &settings.spill_dir else {
        return Ok(None);
    };
    std::fs::create_dir_all(below).map_err(failed_to_make(below))?;
    let name = session_dir.file_name().unwrap_or_default();
    let name = format!("{PREFIX}{}", name.to_string_lossy());
    SessionFolder::below(below, &name).map(Some)
}

/// Folders that look like such ones, below the folder that the settings name.
pub(super) fn spill_folders(settings: &Settings) -> Vec<PathBuf> {
    let found = settings.spill_dir.as_deref().map_or(Vec::new(), folders_in);
    let is_named_so = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        // Without a lock it is not one, or not ready.
        name.to_string_lossy().starts_with(PREFIX) && path.join("lock").exists()
    };
    found.into_iter().filter(is_named_so).collect()
}
