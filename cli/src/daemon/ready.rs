//! The file by which a daemon tells its starter how it went.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How the start of a daemon went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ready {
    /// It runs.
    Up {
        /// Where the gcs is reached.
        gcs_address: String,
        session_id: String,
        session_dir: PathBuf,
        node_id: String,
        pid: u32,
    },
    /// It does not.
    Failed {
        /// Cause and way out.
        message: String,
    },
}

impl Ready {
    /// Writes the file, whole or not at all. Errors have nowhere to go: the starter notices the end of the daemon.
    pub(crate) fn write(&self, path: &Path) {
        let partial = path.with_extension("partial");
        let text = serde_json::to_string(self).expect("plain data");
        let _ = std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, path));
    }

    /// Reads the file, if it is there.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
    }
}
