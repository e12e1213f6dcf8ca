//! A read-write mapping of a whole arena, and the page operations on it.
#![allow(
    unsafe_code,
    reason = "raw shared memory; what may be done to a range of it is said in crate::ranges"
)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use memmap2::{MmapOptions, MmapRaw};

use super::positional::write_all_at;
use super::{ArenaError, check_range, page_bytes};

/// Memory of this process's address space that other processes may share. Its bytes are read and written through the
/// [ranges](crate::ranges) of an [`ArenaMap`](crate::ArenaMap) alone.
#[derive(Debug)]
pub struct MappedMemory {
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

    /// Length in bytes.
    pub fn len_bytes(&self) -> u64 {
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

    /// Writes by the file where there is one: the server mostly writes to pages that do not exist
    /// yet, see [`crate::client`] for the measurements.
    ///
    /// # Safety
    /// `range` is within the mapping and as long as the parts together, and is the caller's alone
    /// ([`crate::ranges`], RANGE-1).
    pub(crate) unsafe fn write(&self, range: Range<usize>, parts: &[&[u8]]) -> io::Result<()> {
        match &self.file {
            Some(file) if cfg!(target_os = "linux") => {
                write_all_at(file, range.start as u64, parts)
            }
            _ => {
                // SAFETY: the caller's promise is the same.
                unsafe { self.copy_in(range, parts) };
                Ok(())
            }
        }
    }

    /// # Safety
    /// As of [`Self::write`].
    unsafe fn copy_in(&self, range: Range<usize>, parts: &[&[u8]]) {
        let mut at = range.start;
        for part in parts {
            // SAFETY: the parts are as long as the range, which is within the mapping.
            let target = unsafe { self.base().add(at) };
            // SAFETY: `target` has room for the part, see above; the part is no part of a range that is the caller's alone
            // (RANGE-1).
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), target, part.len()) };
            at += part.len();
        }
    }

    /// Makes the pages of a range now, so that writing to them later costs no page faults. Their bytes stay as they are.
    /// Does nothing where the system cannot do it.
    pub fn prefault(&self, offset: u64, len: u64) -> Result<(), ArenaError> {
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

    /// Gives the pages that lie wholly within a range back to the system. Their bytes are undefined afterwards.
    ///
    /// # Safety
    /// The range is the caller's alone ([`crate::ranges`], RANGE-1).
    pub unsafe fn discard(&self, offset: u64, len: u64) -> Result<(), ArenaError> {
        let range = check_range(offset, len, self.len_bytes())?;
        let page = page_bytes() as usize;
        let start = range.start.next_multiple_of(page);
        let end = range.end / page * page;
        if start >= end {
            return Ok(());
        }
        // SAFETY: the pages are within the range, and the caller's promise is the same.
        unsafe { self.discard_pages(start, end - start) }
            .map_err(|source| access("discard", offset, len, source))
    }

    /// # Safety
    /// As of [`Self::discard`], for whole pages.
    #[cfg(target_os = "linux")]
    unsafe fn discard_pages(&self, start: usize, len: usize) -> io::Result<()> {
        use memmap2::UncheckedAdvice;
        let advice = match self.file {
            Some(_) => UncheckedAdvice::Remove,
            None => UncheckedAdvice::DontNeed,
        };
        // SAFETY: nothing refers to the bytes of a range that is the caller's alone (RANGE-1).
        unsafe { self.map.unchecked_advise_range(advice, start, len) }
    }

    /// # Safety
    /// As of [`Self::discard`], for whole pages.
    #[cfg(not(target_os = "linux"))]
    unsafe fn discard_pages(&self, start: usize, len: usize) -> io::Result<()> {
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
