//! Why a raylet cannot start.

use std::io;
use std::path::PathBuf;

use aktis_object_store::StoreOpenError;
use aktis_proto::transport::{Address, ListenError};

/// A raylet that cannot start; everything it had begun is undone.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A folder of the session cannot be made.
    #[error(
        "cannot make folder {path:?} with mode 0700; check that its parent exists and is writable (temp_dir)"
    )]
    Folder {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A path is too long for a unix socket.
    #[error(
        "{path:?} has {length} bytes, a unix socket has at most 107; choose a shorter temp_dir"
    )]
    SocketPathTooLong {
        /// Which.
        path: PathBuf,
        /// Its length, with room for the longest socket below it.
        length: usize,
    },
    /// A socket cannot be made.
    #[error("cannot listen on {path:?}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Other nodes could not reach this one.
    #[error("cannot serve other nodes: {cause}")]
    Listen {
        /// What the transport says, with the way out.
        cause: ListenError,
    },
    /// There is no object store.
    #[error("cannot open the object store")]
    Store(#[source] StoreOpenError),
    /// The gcs does not answer.
    #[error(
        "no head at {address} within {waited_secs} s ({cause}); check the address and that \
         `aktis start --head` runs there"
    )]
    NoGcs {
        /// Where it was looked for.
        address: Address,
        /// How long.
        waited_secs: f64,
        /// What happened last.
        cause: String,
    },
    /// The gcs refuses this node.
    #[error("the head at {address} refuses this node: {cause}")]
    Refused {
        /// Where it is.
        address: Address,
        /// Its answer.
        cause: String,
    },
}
