//! Where the tables are kept.

mod file;
mod memory;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use async_trait::async_trait;

use crate::core::{Row, Write};

pub use file::FileStorage;
pub use memory::MemoryStorage;

/// A place for tables. Every backend passes the same tests.
#[async_trait]
pub trait Storage: Send {
    /// What `aktis status` calls it.
    fn name(&self) -> String;

    /// Everything that is kept.
    async fn load(&mut self) -> Result<Vec<Row>, StorageError>;

    /// Keeps all the changes or none of them, in order. When this returns they survive the process.
    async fn commit(&mut self, writes: Vec<Write>) -> Result<(), StorageError>;
}

/// A storage that does not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file cannot be opened.
    #[error("cannot open the head's storage {path:?}: {cause}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system or the database said.
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
