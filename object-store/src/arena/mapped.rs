//! A read-write mapping of a whole arena, and the page operations on it.
#![allow(
    unsafe_code,
    reason = "raw shared memory; every access is bounds-checked here"
)]

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use memmap2::{MmapOptions, MmapRaw};

use super::positional::write_all_at;
use super::{ArenaError, check_range, page_bytes};

/// Memory of this process's address space that other processes may share.
#[derive(Debug)]
pub(crate) struct MappedMemory {
    map: MmapRaw,
    /// The file behind the mapping, where there is one.
    file: Option<File>,
}

impl MappedMemory {
    /// Maps all of a shared-memory file.
    pub(crate) fn of_file(fd: OwnedFd, len_bytes: u64) -> io::Result<Self> {
        let file = File::from(fd);
        let map = MmapOptions::new()
            .len(len_bytes as usize)
            .no_reserve_swap()
            .map_raw(&file)?;
        ask_for_huge_pages(&map);
        Ok(Self {
            map,
            file: Some(file),
        })
    }

    /// Private memory.
    pub(crate) fn anonymous(len_bytes: u64) -> io::Result<Self> {
        let map = MmapOptions::new()
            .len(len_bytes as usize)
            .no_reserve_swap()
            .map_anon()?;
        Ok(Self {
            map: MmapRaw::from(map),
            file: None,
        })
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Another descriptor of the file.
    pub(crate) fn duplicate_fd(&self) -> io::Result<Option<OwnedFd>> {
        self.file
            .as_ref()
            .map(|file| file.as_fd().try_clone_to_owned())
            .transpose()
    }

    pub(crate) fn slice(&self, offset: u64, len: u64) -> Result<&[u8], ArenaError> {
        let range = check_range(offset, len, self.len_bytes())?;
        // SAFETY: the range is within the mapping, whose offsets all fit in `isize`.
        let start = unsafe { self.base().add(range.start) };
        // SAFETY: the mapping lives as long as `self`. Nobody writes into a range that is being
        // read: OBJ-3 (sealed-is-immutable) and OBJ-4 (readers-pin).
        Ok(unsafe { std::slice::from_raw_parts(start, range.len()) })
    }

    /// Writes by the file where there is one: the server mostly writes to pages that do not exist
    /// yet, see [`crate::client`] for the measurements.
    pub(crate) fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> Result<(), ArenaError> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let range = check_range(offset, len, self.len_bytes())?;
        match &self.file {
            Some(file) if cfg!(target_os = "linux") => write_all_at(file, offset, parts)
                .map_err(|source| access("write", offset, len, source)),
            _ => {
                self.copy_in(range.start, parts);
                Ok(())
            }
        }
    }

    fn copy_in(&self, mut at: usize, parts: &[IoSlice<'_>]) {
        for part in parts {
            // SAFETY: the caller checked that all parts fit in the mapping after `at`.
            let target = unsafe { self.base().add(at) };
            // SAFETY: `target` has room for the part, see above; a caller's slice cannot overlap
            // a range that is being written, by the contract of `Arena`.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), target, part.len()) };
            at += part.len();
        }
    }

    /// Makes pages now, where the system can.
    pub(crate) fn prefault(&self, offset: u64, len: u64) -> Result<(), ArenaError> {
        let range = check_range(offset, len, self.len_bytes())?;
        #[cfg(target_os = "linux")]
        match self
            .map
            .advise_range(memmap2::Advice::PopulateWrite, range.start, range.len())
        {
            // Kernels before 5.14 do not know it: pages are then made when they are first used.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            result => {
                return result.map_err(|source| access("prefault", offset, len, source));
            }
        }
        let _ = range;
        Ok(())
    }

    /// Gives back the whole pages within a range.
    pub(crate) fn discard(&self, offset: u64, len: u64) -> Result<(), ArenaError> {
        let range = check_range(offset, len, self.len_bytes())?;
        let page = page_bytes() as usize;
        let start = range.start.next_multiple_of(page);
        let end = range.end / page * page;
        if start >= end {
            return Ok(());
        }
        self.discard_pages(start, end - start)
            .map_err(|source| access("discard", offset, len, source))
    }

    #[cfg(target_os = "linux")]
    fn discard_pages(&self, start: usize, len: usize) -> io::Result<()> {
        use memmap2::UncheckedAdvice;
        let advice = match self.file {
            Some(_) => UncheckedAdvice::Remove,
            None => UncheckedAdvice::DontNeed,
        };
        // SAFETY: the range is reserved for this operation (see `Arena`): nothing refers to it.
        unsafe { self.map.unchecked_advise_range(advice, start, len) }
    }

    #[cfg(not(target_os = "linux"))]
    fn discard_pages(&self, start: usize, len: usize) -> io::Result<()> {
        // SAFETY: as above; this is only a hint that the pages are not needed soon.
        unsafe {
            self.map
                .unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len)
        }
    }
}

/// Huge pages make page tables shorter and copies faster. Systems that do not give them to shared
/// memory ignore the wish.
pub(crate) fn ask_for_huge_pages(map: &MmapRaw) {
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    let _ = map;
}

/// An [`ArenaError::Access`].
pub(crate) fn access(
    operation: &'static str,
    offset: u64,
    len: u64,
    source: io::Error,
) -> ArenaError {
    ArenaError::Access {
        operation,
        offset,
        len,
        source,
    }
}
