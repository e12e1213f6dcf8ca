//! Making and removing the folders.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aktis_common::config::Settings;
use aktis_common::ids::{SessionId, random_bytes};

use super::lock::{FolderLock, lock_new};

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

/// A folder of this process, locked as long as the process lives (`SES-4`). Dropping it removes the folder, but not in a fork
/// of the process that made it.
#[derive(Debug)]
pub struct SessionFolder {
    path: PathBuf,
    maker: u32,
    _lock: FolderLock,
}

/// The folder of all sessions of this user: `<temp_dir>/aktis-<uid>`. Not to be believed before
/// [`existing_base`] has looked at it.
pub fn base_dir(settings: &Settings) -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    settings.temp_dir.join(format!("aktis-{uid}"))
}

/// The base folder, if it is there and this user's (`SES-1`). Anybody may make a folder in `/tmp`: what lies in one that is not
/// ours says nothing.
pub fn existing_base(settings: &Settings) -> Option<PathBuf> {
    let base = base_dir(settings);
    make_private(&base).ok()?;
    Some(base)
}

/// Makes the base folder, or takes the one that is there.
///
/// # Errors
/// When it is another user's, or cannot be made.
pub(crate) fn make_base(settings: &Settings) -> Result<PathBuf, SessionError> {
    let base = base_dir(settings);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&base)
        .map_err(failed_to_make(&base))?;
    make_private(&base)?;
    Ok(base)
}

/// Closes a folder of ours to all others.
fn make_private(path: &Path) -> Result<(), SessionError> {
    let metadata = std::fs::symlink_metadata(path).map_err(failed_to_make(path))?;
    if metadata.uid() != rustix::process::getuid().as_raw() || !metadata.is_dir() {
        return Err(SessionError::Foreign {
            path: path.to_owned(),
        });
    }
    if metadata.permissions().mode() & 0o777 != 0o700 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(failed_to_make(path))?;
    }
    Ok(())
}

/// Whether this is a folder, no link to one, of this user and closed to all others (`SES-1`).
pub(crate) fn is_private(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.is_dir()
            && metadata.uid() == rustix::process::getuid().as_raw()
            && metadata.permissions().mode() & 0o077 == 0
    })
}

/// A fresh session id: seconds since 1970, so that names sort by age, and six random digits.
pub fn new_session_id() -> SessionId {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let [a, b, c] = random_bytes::<3>();
    let text = format!("{}-{a:02x}{b:02x}{c:02x}", now.as_secs());
    SessionId::parse(&text).expect("digits and a dash")
}

impl SessionFolder {
    /// Makes the folder `name` below the base folder (`SES-1`).
    ///
    /// # Errors
    /// When the base folder is another user's, or a folder cannot be made.
    pub fn create(settings: &Settings, name: &str) -> Result<Self, SessionError> {
        Self::below(&make_base(settings)?, name)
    }

    /// Makes the folder `name` below `parent`, which is there.
    pub(super) fn below(parent: &Path, name: &str) -> Result<Self, SessionError> {
        let path = parent.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(failed_to_make(&path))?;
        // The mode was subject to the umask, which may have taken our own rights.
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))
            .map_err(failed_to_make(&path))?;
        let lock = lock_new(&path).map_err(failed_to_make(&path))?;
        Ok(Self {
            path,
            maker: std::process::id(),
            _lock: lock,
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

pub(super) fn failed_to_make(path: &Path) -> impl FnOnce(io::Error) -> SessionError {
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
