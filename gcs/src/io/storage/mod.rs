//! Where the tables are kept.

mod file;
mod memory;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use aktis_common::error::ErrorCode;
use async_trait::async_trait;

use crate::core::{Row, Write};

pub use file::{FileStorage, forget_tables};
pub use memory::MemoryStorage;

/// A place for tables. Every backend passes the same tests.
#[async_trait]
pub trait Storage: Send {
    /// What `aktis status` calls it.
    fn name(&self) -> String;

    /// Everything that is kept.
    async fn load(&mut self) -> Result<Vec<Row>, StorageError>;

    /// Keeps all the changes or none of them, in order. When this returns they survive the process. After a failure it may be
    /// called again, and does its work if the cause is gone.
    async fn commit(&mut self, writes: Vec<Write>) -> Result<(), StorageError>;
}

/// A storage that does not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file cannot be opened.
    #[error(
        "cannot open the head's storage {path:?}: {cause}; if another head has it open, end that or choose another --port; \
         `aktis start --head --fresh` begins anew without it"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system or the database said.
        cause: String,
    },
    /// The disk is full.
    #[error("the disk of the head's storage {path:?} is full ({cause}); make room there")]
    Full {
        /// The file.
        path: PathBuf,
        /// What the database said.
        cause: String,
    },
    /// Reading or writing failed.
    #[error("the head's storage {path:?} failed: {cause}")]
    Access {
        /// The file.
        path: PathBuf,
        /// What the database said.
        cause: String,
    },
}

impl StorageError {
    /// What it is for other processes.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Full { .. } => ErrorCode::OutOfDisk,
            Self::Open { .. } | Self::Access { .. } => ErrorCode::Internal,
        }
    }
}
