//! The read-only mapping of an arena.
#![allow(
    unsafe_code,
    reason = "raw shared memory; every access is bounds-checked here"
)]

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use super::residency::WriteHistory;
use super::window::WriteWindows;
use super::writable::WritableRange;
use super::write;
use crate::arena::{
    ArenaError, ArenaHandle, LocalMemory, access, ask_for_huge_pages, check_range, open_segment,
};

/// An arena as a client sees it. Clones share one mapping.
#[derive(Debug, Clone)]
pub struct ArenaMap {
    inner: Arc<Inner>,
}

#[derive(Debug)]
enum Inner {
    Shared(SharedMap),
    Local(Arc<LocalMemory>),
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
            ArenaHandle::ProcessLocal(memory) => Ok(Self::from_local(memory)),
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

    /// Uses the memory of an arena in this process.
    pub fn from_local(memory: Arc<LocalMemory>) -> Self {
        Self {
            inner: Arc::new(Inner::Local(memory)),
        }
    }

    /// Length of the arena in bytes.
    pub fn len_bytes(&self) -> u64 {
        match &*self.inner {
            Inner::Shared(shared) => shared.map.len() as u64,
            Inner::Local(local) => local.len_bytes(),
        }
    }

    /// The bytes of a sealed object.
    ///
    /// They stay valid and unchanged as long as the client holds a read reference to the object;
    /// whoever keeps the slice also keeps the reference.
    pub fn view(&self, offset: u64, len: u64) -> Result<&[u8], ArenaError> {
        let start = self.as_ptr(offset, len)?;
        // SAFETY: `as_ptr` checked the range; the mapping lives as long as `self`; sealed bytes
        // do not change, OBJ-3 (sealed-is-immutable).
        Ok(unsafe { std::slice::from_raw_parts(start, len as usize) })
    }

    /// Where a range lies in this process. Writing through the pointer faults.
    pub fn as_ptr(&self, offset: u64, len: u64) -> Result<*const u8, ArenaError> {
        let range = check_range(offset, len, self.len_bytes())?;
        let base: *const u8 = match &*self.inner {
            Inner::Shared(shared) => {
                let closed = shared.windows.close(&shared.map, &range);
                closed.map_err(|source| access("protect", offset, len, source))?;
                shared.map.as_ptr()
            }
            Inner::Local(local) => local.memory.base(),
        };
        // SAFETY: the range is within the mapping.
        Ok(unsafe { base.add(range.start) })
    }

    /// Copies `parts`, one after the other, into an object that this client is creating.
    pub fn write_vectored(&self, offset: u64, parts: &[&[u8]]) -> Result<(), ArenaError> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        check_range(offset, len, self.len_bytes())?;
        match &*self.inner {
            Inner::Shared(shared) => write::write_parts(shared, offset as usize, parts)
                .map_err(|source| access("write", offset, len, source)),
            Inner::Local(local) => {
                let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
                local.memory.write_at(offset, &parts)
            }
        }
    }

    /// Memory in which an object that this client is creating can be built in place. The bytes
    /// are in the object after [`WritableRange::commit`], which comes before sealing.
    ///
    /// `offset` and `len` are those of the whole object, as the create answered them.
    pub fn writable(&self, offset: u64, len: u64) -> Result<WritableRange, ArenaError> {
        check_range(offset, len, self.len_bytes())?;
        let file = match &*self.inner {
            Inner::Shared(shared) => Some(&shared.file),
            Inner::Local(_) => None,
        };
        WritableRange::new(self.clone(), file, offset, len)
            .map_err(|source| access("map for writing", offset, len, source))
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
