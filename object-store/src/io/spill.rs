//! Spill files: objects one after the other, each at a multiple of 64 bytes.
//!
//! There is no index in the file: slots are kept in the object table, and files do not outlive
//! the store that wrote them, so nothing is synced either. What is read back is checked
//! (`checksum64`), since a disk is not the store's own memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use crate::arena::ArenaError;
use crate::checksum::checksum64;
use crate::core::{ALIGNMENT_BYTES, RestoreFailure, SpillFileId, SpillSlot};
use crate::ranges::{CreatingRange, SealedRange};

/// Bytes are read back in steps of this size: small enough to be copied on from the cache.
const READ_STEP_BYTES: u64 = 1 << 20;
/// How often, and after which pause, a read that lacked a descriptor or memory is tried again.
const SHORTAGE_TRIES: u32 = 10;
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);
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

    /// Whether it may be over in a moment: others give back what this one lacks.
    fn is_shortage(&self) -> bool {
        let Self::File { source, .. } = self else {
            return false;
        };
        let errno = source.raw_os_error().map(Errno::from_raw_os_error);
        matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
    }

    /// The error with all its causes, for people.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
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
        for _ in 0..SHORTAGE_TRIES {
            match self.try_read(slot, &mut place) {
                Err(error) if error.is_shortage() => std::thread::sleep(SHORTAGE_PAUSE),
                other => return other.and_then(|()| self.check(slot, place)),
            }
        }
        self.try_read(slot, &mut place)?;
        self.check(slot, place)
    }

    /// The file of a slot.
    pub(crate) fn path_of(&self, slot: SpillSlot) -> PathBuf {
        self.file_path(slot.file)
    }

    fn try_read(&self, slot: SpillSlot, place: &mut CreatingRange) -> Result<(), SpillError> {
        let path = self.file_path(slot.file);
        let failed = |step| file_error(step, &path);
        let file = File::open(&path).map_err(failed("open"))?;
        let mut buffer = vec![0u8; READ_STEP_BYTES.min(slot.len) as usize];
        let mut done = 0;
        while done < slot.len {
            let step = &mut buffer[..READ_STEP_BYTES.min(slot.len - done) as usize];
            match file.read_exact_at(step, slot.file_offset + done) {
                // It was longer when it was written.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(corrupt(&path, slot));
                }
                other => other.map_err(failed("read"))?,
            }
            place.write_at(done, &[step]).map_err(SpillError::Arena)?;
            done += step.len() as u64;
        }
        Ok(())
    }

    /// Whether what was read is what was written.
    fn check(&self, slot: SpillSlot, place: CreatingRange) -> Result<(), SpillError> {
        let bytes = place.freeze().map_err(SpillError::Arena)?;
        if checksum64(&bytes) != slot.checksum {
            return Err(corrupt(&self.file_path(slot.file), slot));
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

fn write_parts<P>(
    path: &Path,
    file: SpillFileId,
    parts: &[SealedRange<P>],
) -> Result<Vec<SpillSlot>, SpillError> {
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(file_error("create", path))?;
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
            checksum: checksum64(part),
        });
        file_offset += len.next_multiple_of(ALIGNMENT_BYTES);
    }
    Ok(slots)
}

fn corrupt(path: &Path, slot: SpillSlot) -> SpillError {
    SpillError::Corrupt {
        path: path.to_owned(),
        file_offset: slot.file_offset,
        len: slot.len,
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
