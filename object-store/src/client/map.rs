//! The mapping of an arena in which ranges are read and written.
#![allow(
    unsafe_code,
    reason = "raw shared memory; what may be done to a range of it is said in crate::ranges"
)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use super::residency::WriteHistory;
use super::window::WriteWindows;
use super::write;
use crate::arena::{
    ArenaError, ArenaHandle, MappedMemory, access, ask_for_huge_pages, check_range, open_segment,
};

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

    /// Length of the arena in bytes.
    pub fn len_bytes(&self) -> u64 {
        match &*self.inner {
            Inner::Shared(shared) => shared.map.len() as u64,
            Inner::Local(memory) => memory.len_bytes(),
        }
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
        }
    }

    /// The file in which a range may be mapped on its own.
    pub(super) fn file(&self) -> Option<&File> {
        match &*self.inner {
            Inner::Shared(shared) => Some(&shared.file),
            Inner::Local(_) => None,
        }
    }

    /// Makes sure that a range which is going to be read cannot be written through this mapping.
    pub(crate) fn close_for_reading(&self, range: &Range<usize>) -> Result<(), ArenaError> {
        match &*self.inner {
            Inner::Shared(shared) => shared.windows.close(&shared.map, range).map_err(|source| {
                access("protect", range.start as u64, range.len() as u64, source)
            }),
            Inner::Local(_) => Ok(()),
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
