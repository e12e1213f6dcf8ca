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
    /// The file does not have the object.
    #[error("spill file {path} has {file_bytes} bytes, and no {len} at {file_offset}")]
    TooShort {
        /// Which.
        path: PathBuf,
        /// Its length.
        file_bytes: u64,
        /// Where the object is said to begin.
        file_offset: u64,
        /// How long it is said to be.
        len: u64,
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

/// An object in a spill file: a range that the file has, whatever the node said.
#[derive(Debug)]
pub struct SpilledObject<'a> {
    file: File,
    path: &'a Path,
    file_offset: u64,
    len: usize,
}

impl<'a> SpilledObject<'a> {
    /// The `len` bytes at `file_offset` of the file. The object must be referenced until it is read: the file goes with the
    /// last object in it.
    ///
    /// # Errors
    /// When the file cannot be opened, or is shorter.
    pub fn open(path: &'a Path, file_offset: u64, len: u64) -> Result<Self, SpilledReadError> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (file_bytes, file) = opened.map_err(|source| SpilledReadError::File {
            path: path.to_owned(),
            source,
        })?;
        let end = file_offset.checked_add(len);
        let is_there = end.is_some_and(|end| end <= file_bytes);
        match usize::try_from(len) {
            Ok(len) if is_there => Ok(Self {
                file,
                path,
                file_offset,
                len,
            }),
            _ => Err(SpilledReadError::TooShort {
                path: path.to_owned(),
                file_bytes,
                file_offset,
                len,
            }),
        }
    }

    /// Length of the object in bytes.
    pub fn len_bytes(&self) -> usize {
        self.len
    }

    /// Fills `buffer`, which is as long as the object.
    ///
    /// # Errors
    /// When the file cannot be read, or its bytes do not have the checksum.
    pub fn read(&self, checksum: u64, buffer: &mut [u8]) -> Result<(), SpilledReadError> {
        let read = self.file.read_exact_at(buffer, self.file_offset);
        read.map_err(|source| SpilledReadError::File {
            path: self.path.to_owned(),
            source,
        })?;
        if checksum64(buffer) != checksum {
            return Err(SpilledReadError::Corrupt {
                path: self.path.to_owned(),
                file_offset: self.file_offset,
            });
        }
        Ok(())
    }
}
