//! Building an object in place.
#![allow(unsafe_code, reason = "maps one object's pages for writing")]

use std::borrow::Borrow;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions};

use super::map::ArenaMap;
use crate::arena::{ArenaError, access, page_bytes};
use crate::core::PAGE_ALIGNED_FROM_BYTES;
use crate::ranges::CreatingRange;

/// Writable memory for one object that is being created, at least 64-byte aligned.
///
/// An object that has its pages to itself (64 KiB and more) is written right where it is, through
/// a mapping of these pages alone. A smaller one shares pages with others, so it is built beside
/// and copied by [`commit`](Self::commit). Nothing but the object's own bytes, and the unused rest
/// of its last page, can be reached through it.
pub struct WritableRange<A = ArenaMap> {
    memory: MmapMut,
    range: CreatingRange<A>,
    len: usize,
    is_in_place: bool,
}

impl<A> fmt::Debug for WritableRange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WritableRange")
            .field("range", &self.range)
            .field("is_in_place", &self.is_in_place)
            .finish_non_exhaustive()
    }
}

impl<A: Borrow<ArenaMap>> WritableRange<A> {
    pub(crate) fn new(range: CreatingRange<A>) -> Result<Self, ArenaError> {
        let (offset, size) = (range.range().start as u64, range.range().len());
        let has_own_pages =
            offset.is_multiple_of(page_bytes()) && range.len_bytes() >= PAGE_ALIGNED_FROM_BYTES;
        let mapped = match range.arena().file() {
            Some(file) if has_own_pages => {
                map_pages(file, offset, size).map(|memory| (memory, true))
            }
            _ => MmapMut::map_anon(size.max(1)).map(|memory| (memory, false)),
        };
        let (memory, is_in_place) =
            mapped.map_err(|source| access("map for writing", offset, size as u64, source))?;
        Ok(Self {
            memory,
            range,
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
        self.range.write(&[&self.memory[..self.len]])
    }
}

impl<A> Deref for WritableRange<A> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl<A> DerefMut for WritableRange<A> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

fn map_pages(file: &File, offset: u64, len: usize) -> io::Result<MmapMut> {
    let mut options = MmapOptions::new();
    options.offset(offset).len(len);
    // SAFETY: the pages belong to the range (the allocator gives objects of this size whole pages), and nobody else accesses
    // them while it exists, RANGE-1 (alone-while-written).
    let memory = unsafe { options.map_mut(file) }?;
    // The creator is going to write all of it. Where this is not possible, page faults do it.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::PopulateWrite);
    Ok(memory)
}
