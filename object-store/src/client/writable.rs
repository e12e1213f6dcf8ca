//! Building an object in place.
#![allow(unsafe_code, reason = "maps one object's pages for writing")]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions};

use super::map::ArenaMap;
use crate::arena::{ArenaError, page_bytes};
use crate::core::PAGE_ALIGNED_FROM_BYTES;

/// Writable memory for one object that is being created, at least 64-byte aligned.
///
/// An object that has its pages to itself (64 KiB and more) is written right where it is, through
/// a mapping of these pages alone. A smaller one shares pages with others, so it is built beside
/// and copied by [`commit`](Self::commit). Nothing but the object's own bytes, and the unused rest
/// of its last page, can be reached through it.
pub struct WritableRange {
    arena: ArenaMap,
    offset: u64,
    memory: MmapMut,
    len: usize,
    is_in_place: bool,
}

impl fmt::Debug for WritableRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WritableRange")
            .field("offset", &self.offset)
            .field("len", &self.len)
            .field("is_in_place", &self.is_in_place)
            .finish_non_exhaustive()
    }
}

impl WritableRange {
    pub(super) fn new(
        arena: ArenaMap,
        file: Option<&File>,
        offset: u64,
        len: u64,
    ) -> io::Result<Self> {
        let has_own_pages = offset.is_multiple_of(page_bytes()) && len >= PAGE_ALIGNED_FROM_BYTES;
        let size = len as usize;
        let (memory, is_in_place) = match file {
            Some(file) if has_own_pages => (map_pages(file, offset, size)?, true),
            _ => (MmapMut::map_anon(size.max(1))?, false),
        };
        Ok(Self {
            arena,
            offset,
            memory,
            len: size,
            is_in_place,
        })
    }

    /// Where the bytes are to be written.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_mut_ptr()
    }

    /// Puts the bytes into the object. Without it, what was written may or may not be there.
    pub fn commit(self) -> Result<(), ArenaError> {
        if self.is_in_place {
            return Ok(());
        }
        self.arena.write_vectored(self.offset, &[&self])
    }
}

impl Deref for WritableRange {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl DerefMut for WritableRange {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

fn map_pages(file: &File, offset: u64, len: usize) -> io::Result<MmapMut> {
    let mut options = MmapOptions::new();
    options.offset(offset).len(len);
    // SAFETY: the pages belong to the object being created (the allocator gives objects of this
    // size whole pages), and nobody else accesses them before it is sealed.
    let memory = unsafe { options.map_mut(file) }?;
    // The creator is going to write all of it. Where this is not possible, page faults do it.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::PopulateWrite);
    Ok(memory)
}
