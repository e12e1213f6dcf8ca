//! Making and removing the folders.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aktis_common::config::Settings;
use aktis_common::ids::random_bytes;

/// A folder that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The system refuses.
    #[error(
        "cannot make the session folder {path:?}: {cause}; set AKTIS_TEMP_DIR to a folder you may write"
    )]
    Make {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// Somebody else made it.
    #[error("{path:?} belongs to another user; set AKTIS_TEMP_DIR to a folder of your own")]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// The owner's file cannot be written.
    #[error("cannot write {path:?}: {cause}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
}

/// A session folder of this process. Dropping it removes the folder, but not in a fork of the process that made it.
#[derive(Debug)]
pub struct SessionFolder {
    path: PathBuf,
    maker: u32,
}

/// The folder of all sessions of this user: `<temp_dir>/aktis-<uid>`.
pub fn base_dir(settings: &Settings) -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    settings.temp_dir.join(format!("aktis-{uid}"))
}

/// A fresh session id: seconds since 1970, so that names sort by age, and six random digits.
pub fn new_session_id() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let [a, b, c] = random_bytes::<3>();
    format!("{}-{a:02x}{b:02x}{c:02x}", now.as_secs())
}

impl SessionFolder {
    /// Makes the folder `name` below the base folder (`SES-1`).
    ///
    /// # Errors
    /// When the base folder is another user's, or a folder cannot be made.
    pub fn create(settings: &Settings, name: &str) -> Result<Self, SessionError> {
        let base = base_dir(settings);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&base)
            .map_err(failed_to_make(&base))?;
        let metadata = std::fs::symlink_metadata(&base).map_err(failed_to_make(&base))?;
        // Anybody may make a folder in /tmp: one that is not ours, or is a link, is not used.
        if metadata.uid() != rustix::process::getuid().as_raw() || !metadata.is_dir() {
            return Err(SessionError::Foreign { path: base });
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            let private = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(&base, private).map_err(failed_to_make(&base))?;
        }
        let path = base.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(failed_to_make(&path))?;
        Ok(Self {
            path,
            maker: std::process::id(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process made it, and is not a fork of the one that did.
    pub fn is_own(&self) -> bool {
        self.maker == std::process::id()
    }
}

fn failed_to_make(path: &Path) -> impl FnOnce(io::Error) -> SessionError {
    let path = path.to_owned();
    |error| SessionError::Make {
        path,
        cause: error.to_string(),
    }
}

impl Drop for SessionFolder {
    fn drop(&mut self) {
        if self.is_own() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
