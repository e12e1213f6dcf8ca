//! Reading a spilled object past the store: where the arena has no room for it, a reader reads the file into its own memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::checksum::checksum64;

/// Why a spilled object was not read.
#[derive(Debug, thiserror::Error)]
pub enum SpilledReadError {
    /// The file cannot be read.
    #[error("read spill file {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What was read is not what was written.
    #[error("spill file {path} is corrupt at {file_offset}")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// Where the object begins.
        file_offset: u64,
    },
}

/// Fills `buffer` with the object at `file_offset` of the file. The object must be referenced meanwhile: the file goes with
/// the last object in it.
///
/// # Errors
/// When the file cannot be read, or its bytes do not have the checksum.
pub fn read_spilled(
    path: &Path,
    file_offset: u64,
    checksum: u64,
    buffer: &mut [u8],
) -> Result<(), SpilledReadError> {
    let read = File::open(path).and_then(|file| file.read_exact_at(buffer, file_offset));
    read.map_err(|source| SpilledReadError::File {
        path: path.to_owned(),
        source,
    })?;
    if checksum64(buffer) != checksum {
        return Err(SpilledReadError::Corrupt {
            path: path.to_owned(),
            file_offset,
        });
    }
    Ok(())
}
