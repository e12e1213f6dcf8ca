//! Spill files: objects one after the other, each at a multiple of 64 bytes.
//!
//! There is no index in the file: slots are kept in the object table, and files do not outlive
//! the store that wrote them, so nothing is synced either. What is read back is checked
//! (`checksum64`), since a disk is not the store's own memory.
//!
//! An object for which memory has no room is written into such a file by its creator itself. The file has its whole length
//! before: its creator finds room on the disk, or is told that there is none.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::arena::ArenaError;
use crate::checksum::{Checksum64, checksum64};
use crate::core::{ALIGNMENT_BYTES, FileLocation, RestoreFailure, SpillFileId, SpillSlot};
use crate::error::with_causes;
use crate::ranges::{CreatingRange, SealedRange};
use crate::shortage::until_there_is_enough;

/// Bytes are read back in steps of this size: small enough to be copied on from the cache.
const READ_STEP_BYTES: u64 = 1 << 20;
const FILE_PREFIX: &str = "spill-";
const FILE_SUFFIX: &str = ".bin";

/// Why spilling or restoring failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpillError {
    #[error("{step} spill file {path}")]
    File {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "disk of {path} is nearly full: {available_bytes} bytes available, {needed_bytes} needed \
         and {reserved_bytes} kept free"
    )]
    DiskFull {
        path: PathBuf,
        available_bytes: u64,
        needed_bytes: u64,
        reserved_bytes: u64,
    },
    #[error("spill file {path} is corrupt: {len} bytes at {file_offset} fail their checksum")]
    Corrupt {
        path: PathBuf,
        file_offset: u64,
        len: u64,
    },
    #[error("use the arena")]
    Arena(#[source] ArenaError),
    #[error("there is no spill folder")]
    NoFolder,
    #[error("the operation panicked")]
    Panicked,
}

impl SpillError {
    /// What it means for an object that was to be read back: only wrong bytes are lost ones.
    pub(crate) fn into_restore_failure(self) -> RestoreFailure {
        let text = self.chain();
        match self {
            Self::Corrupt { .. } => RestoreFailure::Corrupt(text),
            _ => RestoreFailure::Unreadable(text),
        }
    }

    /// The error with all its causes, for people.
    pub(crate) fn chain(&self) -> String {
        with_causes(self)
    }
}

/// The folder of one store's spill files. Nothing else uses it.
#[derive(Debug, Clone)]
pub(crate) struct SpillFolder {
    path: PathBuf,
    min_free: MinFree,
}

/// What is left free of the disk: the smaller of the two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MinFree {
    pub(crate) fraction: f64,
    pub(crate) bytes: u64,
}

impl MinFree {
    fn of_disk(self, total_bytes: u64) -> u64 {
        ((total_bytes as f64 * self.fraction) as u64).min(self.bytes)
    }
}

impl SpillFolder {
    /// Makes the folder, and removes spill files that an earlier store left in it.
    pub(crate) fn open(path: &Path, min_free: MinFree) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let folder = Self {
            path: path.to_owned(),
            min_free,
        };
        folder.remove_files()?;
        Ok(folder)
    }

    /// Writes objects into a new file; returns their slots in the same order. If it fails, the
    /// file is removed.
    pub(crate) fn write<P>(
        &self,
        file: SpillFileId,
        parts: &[SealedRange<P>],
    ) -> Result<Vec<SpillSlot>, SpillError> {
        let path = self.file_path(file);
        let needed = parts
            .iter()
            .map(|part| (part.len() as u64).next_multiple_of(ALIGNMENT_BYTES));
        self.check_disk(needed.sum())?;
        let result = write_parts(&path, file, parts);
        if result.is_err() {
            let _ = fs::remove_file(&path);
        }
        result
    }

    /// Reads one object into its place in the arena. Waits a little where descriptors or memory are short.
    pub(crate) fn read(&self, slot: SpillSlot, mut place: CreatingRange) -> Result<(), SpillError> {
        let from = slot.location();
        until_there_is_enough(|| {
            self.read_steps(from, |done, step| {
                place.write_at(done, &[step]).map_err(SpillError::Arena)
            })
        })?;
        let bytes = place.freeze().map_err(SpillError::Arena)?;
        self.compare(from, checksum64(&bytes), slot.checksum)
    }

    /// Makes a file for an object that somebody else is going to write. It takes its room on the disk now. If it fails, the
    /// file is removed.
    pub(crate) fn create(&self, file: SpillFileId, len: u64) -> Result<(), SpillError> {
        let path = self.file_path(file);
        self.check_disk(len)?;
        let result = until_there_is_enough(|| {
            // A file that could not be made long enough would be in the way of the next attempt.
            allocate(&path, len).inspect_err(|_| drop(fs::remove_file(&path)))
        });
        if result.is_err() {
            let _ = fs::remove_file(&path);
        }
        result
    }

    /// Reads one object for its checksum, which has to be `expected` if there is one.
    pub(crate) fn checksum(
        &self,
        place: FileLocation,
        expected: Option<u64>,
    ) -> Result<u64, SpillError> {
        let found = until_there_is_enough(|| {
            let mut sum = Checksum64::default();
            let mut rest = Vec::new();
            // All steps but the last are multiples of a block.
            self.read_steps(place, |_, step| {
                rest = sum.add(step).to_vec();
                Ok(())
            })?;
            Ok(sum.finish(&rest))
        })?;
        self.compare(place, found, expected)?;
        Ok(found)
    }

    /// Where a file lies.
    pub(crate) fn path_of(&self, file: SpillFileId) -> PathBuf {
        self.file_path(file)
    }

    fn read_steps(
        &self,
        place: FileLocation,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        let path = self.file_path(place.file);
        let failed = |step| file_error(step, &path);
        let file = File::open(&path).map_err(failed("open"))?;
        let mut buffer = vec![0u8; READ_STEP_BYTES.min(place.len) as usize];
        let mut done = 0;
        while done < place.len {
            let step = &mut buffer[..READ_STEP_BYTES.min(place.len - done) as usize];
            match file.read_exact_at(step, place.offset + done) {
                // It was longer when it was written.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(corrupt(&path, place));
                }
                other => other.map_err(failed("read"))?,
            }
            take(done, step)?;
            done += step.len() as u64;
        }
        Ok(())
    }

    /// Whether what was read is what was written.
    fn compare(
        &self,
        place: FileLocation,
        found: u64,
        expected: Option<u64>,
    ) -> Result<(), SpillError> {
        if expected.is_some_and(|expected| expected != found) {
            return Err(corrupt(&self.file_path(place.file), place));
        }
        Ok(())
    }

    /// Deletes a file that no object needs.
    pub(crate) fn delete(&self, file: SpillFileId) -> Result<(), SpillError> {
        let path = self.file_path(file);
        fs::remove_file(&path).map_err(file_error("delete", &path))
    }

    /// Removes all spill files, and the folder if it is empty then.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.remove_files()?;
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
            _ => Ok(()),
        }
    }

    fn remove_files(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_ours = name
                .to_str()
                .is_some_and(|name| name.starts_with(FILE_PREFIX) && name.ends_with(FILE_SUFFIX));
            if is_ours {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn file_path(&self, file: SpillFileId) -> PathBuf {
        self.path
            .join(format!("{FILE_PREFIX}{:08}{FILE_SUFFIX}", file.0))
    }

    fn check_disk(&self, needed_bytes: u64) -> Result<(), SpillError> {
        let path = self.path.clone();
        let stat = rustix::fs::statvfs(&path)
            .map_err(|error| file_error("look at the disk of", &path)(error.into()))?;
        let available_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        let total_bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
        let reserved_bytes = self.min_free.of_disk(total_bytes);
        if available_bytes < needed_bytes.saturating_add(reserved_bytes) {
            let full = SpillError::DiskFull {
                path,
                available_bytes,
                needed_bytes,
                reserved_bytes,
            };
            return Err(full);
        }
        Ok(())
    }
}

/// A file of `len` bytes that has them on the disk, as far as the file system can promise that.
fn allocate(path: &Path, len: u64) -> Result<(), SpillError> {
    let file = new_file(path)?;
    // A mapping has at least a byte.
    let len = len.max(1);
    file.set_len(len).map_err(file_error("lengthen", path))?;
    #[cfg(target_os = "linux")]
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len) {
        // Then it is seen when it is written.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => {}
        Err(error) => return Err(file_error("allocate", path)(error.into())),
    }
    Ok(())
}

fn new_file(path: &Path) -> Result<File, SpillError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(file_error("create", path))
}

fn write_parts<P>(
    path: &Path,
    file: SpillFileId,
    parts: &[SealedRange<P>],
) -> Result<Vec<SpillSlot>, SpillError> {
    let target = new_file(path)?;
    let mut file_offset = 0;
    let mut slots = Vec::with_capacity(parts.len());
    for part in parts {
        let len = part.len() as u64;
        target
            .write_all_at(part, file_offset)
            .map_err(file_error("write", path))?;
        slots.push(SpillSlot {
            file,
            file_offset,
            len,
            checksum: Some(checksum64(part)),
        });
        file_offset += len.next_multiple_of(ALIGNMENT_BYTES);
    }
    Ok(slots)
}

fn corrupt(path: &Path, place: FileLocation) -> SpillError {
    SpillError::Corrupt {
        path: path.to_owned(),
        file_offset: place.offset,
        len: place.len,
    }
}

fn file_error(step: &'static str, path: &Path) -> impl Fn(io::Error) -> SpillError + use<> {
    let path = path.to_owned();
    move |source| SpillError::File {
        step,
        path: path.clone(),
        source,
    }
}
