//! Why a gcs does not start.

use aktis_proto::transport::ListenError;

use crate::core::RestoreError;
use crate::io::storage::StorageError;

/// Why a gcs does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was given no address.
    #[error("a gcs needs at least one address to listen on")]
    NoAddress,
    /// An address cannot be bound.
    #[error("{0}")]
    Listen(ListenError),
    /// The storage cannot be opened or read.
    #[error("{0}")]
    Storage(StorageError),
    /// The storage holds something that is no table of a gcs.
    #[error(
        "the storage cannot be taken up: {0}; `aktis start --head --fresh` begins a new session without it"
    )]
    Restore(RestoreError),
}
