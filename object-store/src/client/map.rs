//! The mapping of an arena in which ranges are read and written.
#![allow(
    unsafe_code,
    reason = "raw shared memory; what may be done to a range of it is said in crate::ranges"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use super::residency::WriteHistory;
use super::window::WriteWindows;
use super::write;
use crate::arena::{
    ArenaError, ArenaHandle, MappedMemory, access, ask_for_huge_pages, check_range, open_segment,
    write_all_at,
};
use crate::shortage::with_patience;

/// An arena as this process sees it. Clones share one mapping. Its bytes are read through a
/// [`SealedRange`](crate::SealedRange) and written through a [`CreatingRange`](crate::CreatingRange).
#[derive(Debug, Clone)]
pub struct ArenaMap {
    inner: Arc<Inner>,
}

#[derive(Debug)]
enum Inner {
    Shared(SharedMap),
    Local(Arc<MappedMemory>),
    OnDisk(FileMap),
}

/// A file on the disk, for objects that the arena has no room for. It is read through the mapping, and written by calls alone:
/// where the disk has no room after all they fail, and a write to the mapping would end the process.
#[derive(Debug)]
struct FileMap {
    map: MmapRaw,
    /// Only as long as it is written: who reads many objects does not need a descriptor for each.
    file: Option<File>,
}

/// A mapping of another process's memory.
#[derive(Debug)]
pub(super) struct SharedMap {
    /// Read-only, except for what `windows` has open.
    pub(super) map: MmapRaw,
    pub(super) file: File,
    pub(super) history: WriteHistory,
    pub(super) windows: WriteWindows,
}

impl ArenaMap {
    /// Maps an arena by whichever handle the node sent.
    pub fn from_handle(handle: ArenaHandle) -> Result<Self, ArenaError> {
        match handle {
            ArenaHandle::Memfd { fd, len_bytes } => Self::from_memfd(fd, len_bytes),
            ArenaHandle::Named { name, len_bytes } => Self::from_named(&name, len_bytes),
            ArenaHandle::ProcessLocal(memory) => Ok(Self::from_memory(memory)),
        }
    }

    /// Maps an arena by the descriptor that was received over the socket.
    ///
    /// # Errors
    /// If it is shorter than `len_bytes`, or could be made shorter later.
    pub fn from_memfd(fd: OwnedFd, len_bytes: u64) -> Result<Self, ArenaError> {
        check_sealed(&fd).map_err(|source| ArenaError::Open {
            what: "memfd".to_owned(),
            step: "check its seals",
            source,
        })?;
        Self::from_file(fd, len_bytes, "memfd")
    }

    /// Maps an arena by the name of its segment.
    pub fn from_named(name: &str, len_bytes: u64) -> Result<Self, ArenaError> {
        let fd = open_segment(name).map_err(|source| ArenaError::Open {
            what: name.to_owned(),
            step: "shm_open",
            source,
        })?;
        Self::from_file(fd, len_bytes, name)
    }

    /// Uses memory that is mapped in this process.
    pub fn from_memory(memory: Arc<MappedMemory>) -> Self {
        Self {
            inner: Arc::new(Inner::Local(memory)),
        }
    }

    /// The file in which this process creates an object, as an arena of its own.
    ///
    /// # Errors
    /// When it cannot be opened or mapped.
    pub fn of_new_file(path: &Path) -> Result<Self, ArenaError> {
        let (map, file) = map_file(path, OpenOptions::new().read(true).write(true))?;
        Ok(Self::on_disk(map, Some(file)))
    }

    /// A file with objects that this process reads, as an arena of its own: reading in it may take as long as the disk does,
    /// see [`SealedRange::read_in`](crate::SealedRange::read_in).
    ///
    /// # Errors
    /// When it cannot be opened or mapped.
    pub fn of_sealed_file(path: &Path) -> Result<Self, ArenaError> {
        let (map, _) = map_file(path, OpenOptions::new().read(true))?;
        Ok(Self::on_disk(map, None))
    }

    fn on_disk(map: MmapRaw, file: Option<File>) -> Self {
        Self {
            inner: Arc::new(Inner::OnDisk(FileMap { map, file })),
        }
    }

    /// Length of the arena in bytes.
    pub fn len_bytes(&self) -> u64 {
        match &*self.inner {
            Inner::Shared(shared) => shared.map.len() as u64,
            Inner::Local(memory) => memory.len_bytes(),
            Inner::OnDisk(on_disk) => on_disk.map.len() as u64,
        }
    }

    /// Has the bytes of a range read from the disk, if they lie on one.
    pub(crate) fn read_in(&self, range: &Range<usize>) -> Result<(), ArenaError> {
        let Inner::OnDisk(on_disk) = &*self.inner else {
            return Ok(());
        };
        #[cfg(target_os = "linux")]
        match on_disk
            .map
            .advise_range(memmap2::Advice::PopulateRead, range.start, range.len())
        {
            // Kernels before 5.14 do not know it: bytes are then read when they are first used.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            result => {
                return result.map_err(|source| {
                    access("read in", range.start as u64, range.len() as u64, source)
                });
            }
        }
        let _ = on_disk;
        Ok(())
    }

    /// A range that is within the arena.
    pub(crate) fn checked(&self, offset: u64, len: u64) -> Result<Range<usize>, ArenaError> {
        check_range(offset, len, self.len_bytes())
    }

    /// Where the arena begins in this process. Writing through the pointer faults where the mapping is read-only.
    pub(crate) fn base(&self) -> *const u8 {
        match &*self.inner {
            Inner::Shared(shared) => shared.map.as_ptr(),
            Inner::Local(memory) => memory.base(),
            Inner::OnDisk(on_disk) => on_disk.map.as_ptr(),
        }
    }

    /// The file in which a range may be mapped on its own.
    pub(super) fn file(&self) -> Option<&File> {
        match &*self.inner {
            Inner::Shared(shared) => Some(&shared.file),
            Inner::Local(_) | Inner::OnDisk(_) => None,
        }
    }

    /// Makes sure that a range which is going to be read cannot be written through this mapping.
    pub(crate) fn close_for_reading(&self, range: &Range<usize>) -> Result<(), ArenaError> {
        match &*self.inner {
            Inner::Shared(shared) => shared.windows.close(&shared.map, range).map_err(|source| {
                access("protect", range.start as u64, range.len() as u64, source)
            }),
            Inner::Local(_) | Inner::OnDisk(_) => Ok(()),
        }
    }

    /// Copies `parts` into a range, one after the other.
    ///
    /// # Safety
    /// `range` is within the arena and as long as the parts together, and is the caller's alone ([`crate::ranges`], RANGE-1).
    pub(crate) unsafe fn write(
        &self,
        range: Range<usize>,
        parts: &[&[u8]],
    ) -> Result<(), ArenaError> {
        let (offset, len) = (range.start as u64, range.len() as u64);
        let written = match &*self.inner {
            // SAFETY: the caller's promise is the same.
            Inner::Shared(shared) => unsafe { write::write_parts(shared, range, parts) },
            // SAFETY: the caller's promise is the same.
            Inner::Local(memory) => unsafe { memory.write(range, parts) },
            Inner::OnDisk(FileMap {
                file: Some(file), ..
            }) => write_all_at(file, offset, parts),
            Inner::OnDisk(_) => Err(io::ErrorKind::PermissionDenied.into()),
        };
        written.map_err(|source| access("write", offset, len, source))
    }

    /// Writes into a range what `make` makes: the bytes from a place of the range on.
    ///
    /// # Safety
    /// `range` is within the arena, and is the caller's alone ([`crate::ranges`], RANGE-1).
    pub(crate) unsafe fn write_made(
        &self,
        range: Range<usize>,
        make: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) -> Result<(), ArenaError> {
        let (offset, len) = (range.start as u64, range.len() as u64);
        let written = match &*self.inner {
            // SAFETY: the caller's promise is the same.
            Inner::Shared(shared) => unsafe { write::write_made(shared, range, make) },
            Inner::Local(memory) => write::in_pieces(range, make, |start, piece| {
                // SAFETY: the piece is a part of the range.
                unsafe { memory.write(start..start + piece.len(), &[piece]) }
            }),
            Inner::OnDisk(FileMap {
                file: Some(file), ..
            }) => write::in_pieces(range, make, |start, piece| {
                write_all_at(file, start as u64, &[piece])
            }),
            Inner::OnDisk(_) => Err(io::ErrorKind::PermissionDenied.into()),
        };
        written.map_err(|source| access("write", offset, len, source))
    }

    fn from_file(fd: OwnedFd, len_bytes: u64, what: &str) -> Result<Self, ArenaError> {
        let failed = |step: &'static str| {
            let what = what.to_owned();
            move |source: io::Error| ArenaError::Open { what, step, source }
        };
        let file = File::from(fd);
        let actual_bytes = file.metadata().map_err(failed("fstat"))?.len();
        if actual_bytes != len_bytes {
            let what = what.to_owned();
            return Err(ArenaError::WrongLength {
                what,
                expected_bytes: len_bytes,
                actual_bytes,
            });
        }
        let map = MmapOptions::new()
            .len(len_bytes as usize)
            .no_reserve_swap()
            .map_raw_read_only(&file)
            .map_err(failed("mmap"))?;
        ask_for_huge_pages(&map);
        let history = WriteHistory::new(len_bytes as usize);
        Ok(Self {
            inner: Arc::new(Inner::Shared(SharedMap {
                map,
                file,
                history,
                windows: WriteWindows::default(),
            })),
        })
    }
}

/// A file with objects, for who reads them by calls: those can fail, and touching a mapping of a file that was cut ends the process.
/// Waits a little where descriptors are short.
///
/// # Errors
/// When it cannot be opened.
pub fn open_sealed_file(path: &Path) -> Result<File, ArenaError> {
    with_patience(|| File::open(path).map_err(file_error(path, "open")))
}

fn file_error(path: &Path, step: &'static str) -> impl Fn(io::Error) -> ArenaError {
    move |source| ArenaError::Open {
        what: path.display().to_string(),
        step,
        source,
    }
}

fn map_file(path: &Path, options: &OpenOptions) -> Result<(MmapRaw, File), ArenaError> {
    let failed = |step| file_error(path, step);
    let file = options.open(path).map_err(failed("open"))?;
    let len = file.metadata().map_err(failed("fstat"))?.len();
    let mapped = MmapOptions::new()
        .len(len as usize)
        .map_raw_read_only(&file);
    let map = mapped.map_err(failed("mmap"))?;
    Ok((map, file))
}

/// A file that its sender could shrink would let it crash this process.
#[cfg(target_os = "linux")]
fn check_sealed(fd: &OwnedFd) -> io::Result<()> {
    let seals = rustix::fs::fcntl_get_seals(fd)?;
    if seals.contains(rustix::fs::SealFlags::SHRINK) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "it is not sealed against shrinking",
    ))
}

#[cfg(not(target_os = "linux"))]
fn check_sealed(_fd: &OwnedFd) -> io::Result<()> {
    Ok(())
}
