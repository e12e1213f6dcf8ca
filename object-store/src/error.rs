//! Failures of the store as a whole. Those of single operations are beside their types.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::arena::ArenaError;
use crate::shortage::advice;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// There is no memory for it.
    #[error("open object store: make its arena")]
    Arena(#[source] ArenaError),
    /// Its spill folder cannot be used.
    #[error("open object store: prepare spill folder {path}")]
    SpillFolder {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Its threads cannot be started.
    #[error("open object store: start its threads")]
    Threads(#[source] io::Error),
    /// This system does not have the backend.
    #[error("open object store: the {backend} backend is not available on this system")]
    NoBackend {
        /// The backend.
        backend: &'static str,
    },
}

/// An error with all its causes, for people.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let advice = advice(error);
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    match advice {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}
