//! Copying a value into the arena by the fastest way for its pages; see [`super`] for the
//! measurements behind it.
#![allow(
    unsafe_code,
    reason = "writes through a mapping that is read-only most of the time"
)]

#[cfg(target_os = "linux")]
pub(super) use adaptive::{write_made, write_parts};
#[cfg(not(target_os = "linux"))]
pub(super) use window::{write_made, write_parts};

use std::io;
use std::ops::Range;

/// What is made at once where it cannot be made in its place: little enough to be in the cache still when it is copied.
const MADE_BYTES: usize = 256 << 10;

/// Makes the bytes of a range piece by piece, and has each piece written to where it goes. `make`: the bytes from a place of the range on.
pub(super) fn in_pieces(
    range: Range<usize>,
    make: impl Fn(usize, &mut [u8]),
    mut write: impl FnMut(usize, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = vec![0; MADE_BYTES.min(range.len())];
    for start in range.clone().step_by(MADE_BYTES) {
        let piece = &mut piece[..MADE_BYTES.min(range.end - start)];
        make(start - range.start, piece);
        write(start, piece)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
mod adaptive {
    use std::io;
    use std::ops::Range;

    use memmap2::Advice;

    use super::in_pieces;
    use crate::arena::{page_bytes, write_all_at};
    use crate::client::map::SharedMap;
    use crate::client::parallel::{in_parallel, most_threads, shares_of};
    use crate::client::residency::{CHUNK_BYTES, LastWrite, is_resident, pieces};

    /// Shorter values are always written by the file: two changes of protection cost more than
    /// they bring. They also contain no whole chunk, so that nothing would be known about them.
    const BY_MAPPING_FROM_BYTES: usize = 2 * CHUNK_BYTES;
    /// Longer values are worth page table entries at once, others only when they come again.
    const POPULATE_FROM_BYTES: usize = 32 << 20;

    /// Writes `parts` into `range`.
    ///
    /// # Safety
    /// `range` is within the arena and as long as the parts together, and is the caller's alone, RANGE-1
    /// (alone-while-written).
    pub(in crate::client) unsafe fn write_parts(
        shared: &SharedMap,
        range: Range<usize>,
        parts: &[&[u8]],
    ) -> io::Result<()> {
        let has_own_pages = range.start.is_multiple_of(page_bytes() as usize);
        if range.len() < BY_MAPPING_FROM_BYTES || !has_own_pages {
            return write_by_file(shared, range.start, parts);
        }
        let mut source = PartsCursor { parts, skip: 0 };
        for Run { range, way } in runs(shared, range) {
            let parts = source.take(range.len());
            match way {
                // SAFETY: a run is a part of the range, and the parts are as long as it.
                Way::ByMapping => unsafe { write_by_mapping(shared, range.clone(), &parts) }?,
                Way::ByFile => write_by_file(shared, range.start, &parts)?,
            }
            let write = match way {
                Way::ByMapping => LastWrite::ByMapping,
                Way::ByFile => LastWrite::ByFile,
            };
            shared.history.note(range, write);
        }
        Ok(())
    }

    /// Writes into `range` what `make` makes: the bytes from a place of the range on. Where its pages are mapped it makes them there.
    ///
    /// # Safety
    /// `range` is within the arena, and is the caller's alone, RANGE-1 (alone-while-written).
    pub(in crate::client) unsafe fn write_made(
        shared: &SharedMap,
        range: Range<usize>,
        make: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) -> io::Result<()> {
        let whole = range.start;
        let has_own_pages = range.start.is_multiple_of(page_bytes() as usize);
        if range.len() < BY_MAPPING_FROM_BYTES || !has_own_pages {
            return make_by_file(shared, range, whole, make);
        }
        for Run { range, way } in runs(shared, range) {
            let write = match way {
                // SAFETY: a run is a part of the range.
                Way::ByMapping => unsafe {
                    make_by_mapping(shared, range.clone(), whole, make)?;
                    LastWrite::ByMapping
                },
                Way::ByFile => {
                    make_by_file(shared, range.clone(), whole, make)?;
                    LastWrite::ByFile
                }
            };
            shared.history.note(range, write);
        }
        Ok(())
    }

    fn make_by_file(
        shared: &SharedMap,
        range: Range<usize>,
        whole: usize,
        make: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) -> io::Result<()> {
        let before = range.start - whole;
        in_pieces(
            range,
            |at, piece| make(before + at, piece),
            |start, piece| write_by_file(shared, start, &[piece]),
        )
    }

    /// # Safety
    /// As of [`write_made`]. `range` starts at a page, and the rest of its last page belongs to the same object.
    unsafe fn make_by_mapping(
        shared: &SharedMap,
        range: Range<usize>,
        whole: usize,
        make: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) -> io::Result<()> {
        let _window = shared.windows.open(&shared.map, range.clone())?;
        let shares = shares_of(range, most_threads());
        in_parallel(shares.into_iter(), |share| {
            populate(shared, share.clone())?;
            // SAFETY: the window is in the mapping.
            let target = unsafe { shared.map.as_mut_ptr().add(share.start) };
            // SAFETY: the window is open, and a share is a part of the range that no other thread reads or writes (RANGE-1).
            let target = unsafe { std::slice::from_raw_parts_mut(target, share.len()) };
            make(share.start - whole, target);
            Ok(())
        })
    }

    fn write_by_file(shared: &SharedMap, offset: usize, parts: &[&[u8]]) -> io::Result<()> {
        write_all_at(&shared.file, offset as u64, parts)
    }

    /// # Safety
    /// As of [`write_parts`]. `range` starts at a page, and the rest of its last page belongs to the same object.
    unsafe fn write_by_mapping(
        shared: &SharedMap,
        range: Range<usize>,
        parts: &[&[u8]],
    ) -> io::Result<()> {
        let _window = shared.windows.open(&shared.map, range.clone())?;
        let mut source = PartsCursor { parts, skip: 0 };
        let shares = shares_of(range, most_threads());
        let shares = shares.into_iter().map(|range| {
            let parts = source.take(range.len());
            (range, parts)
        });
        in_parallel(shares, |(range, parts)| {
            populate(shared, range.clone())?;
            // SAFETY: the window is open, and a share is a part of the range that no other thread writes.
            unsafe { copy(shared, range.start, parts) };
            Ok(())
        })
    }

    /// Copies into the window that is open.
    ///
    /// # Safety
    /// The window has room for the parts from `at` on, and that part of it is the caller's alone.
    unsafe fn copy(shared: &SharedMap, mut at: usize, parts: &[&[u8]]) {
        for part in parts {
            // SAFETY: the window has room for the parts, and is in the mapping.
            let target = unsafe { shared.map.as_mut_ptr().add(at) };
            // SAFETY: `target` is writable while the window is open and has room for the part;
            // the part is not in the range, which nobody can read while it is written (RANGE-1).
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), target, part.len()) };
            at += part.len();
        }
    }

    /// Makes the pages writable in one go that this process has not written before. Page faults
    /// would do the same, one page at a time.
    fn populate(shared: &SharedMap, range: Range<usize>) -> io::Result<()> {
        let mut missing: Option<Range<usize>> = None;
        for piece in pieces(range) {
            let is_there = shared.history.last_write(&piece) == LastWrite::ByMapping;
            match (&mut missing, is_there) {
                (None, false) => missing = Some(piece),
                (Some(range), false) => range.end = piece.end,
                (_, true) => populate_pages(shared, missing.take())?,
            }
        }
        populate_pages(shared, missing)
    }

    fn populate_pages(shared: &SharedMap, range: Option<Range<usize>>) -> io::Result<()> {
        let Some(range) = range else { return Ok(()) };
        match shared
            .map
            .advise_range(Advice::PopulateWrite, range.start, range.len())
        {
            // Kernels before 5.14 do not know it.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result,
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Way {
        ByFile,
        ByMapping,
    }

    /// Adjacent chunks that are to be written in the same way.
    struct Run {
        range: Range<usize>,
        way: Way,
    }

    fn runs(shared: &SharedMap, range: Range<usize>) -> Vec<Run> {
        let is_long = range.len() >= POPULATE_FROM_BYTES;
        let mut runs: Vec<Run> = Vec::new();
        for piece in pieces(range) {
            let is_worth_mapping = is_long || shared.history.last_write(&piece) != LastWrite::Never;
            let way = if is_worth_mapping && is_resident(&shared.map, piece.start) {
                Way::ByMapping
            } else {
                Way::ByFile
            };
            match runs.last_mut() {
                Some(run) if run.way == way => run.range.end = piece.end,
                _ => runs.push(Run { range: piece, way }),
            }
        }
        runs
    }

    /// What is left of a list of buffers.
    struct PartsCursor<'a> {
        parts: &'a [&'a [u8]],
        /// How much of the first one is taken.
        skip: usize,
    }

    impl<'a> PartsCursor<'a> {
        /// Takes the next `len` bytes, of which there must be as many.
        fn take(&mut self, mut len: usize) -> Vec<&'a [u8]> {
            let mut taken = Vec::new();
            while len > 0 {
                let first = self.parts[0];
                let count = len.min(first.len() - self.skip);
                taken.push(&first[self.skip..self.skip + count]);
                len -= count;
                self.skip += count;
                if self.skip == first.len() {
                    self.parts = &self.parts[1..];
                    self.skip = 0;
                }
            }
            taken
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod window {
    use std::io;
    use std::ops::Range;

    use memmap2::MmapOptions;

    use crate::client::map::SharedMap;

    /// Writes through a mapping of just the range: elsewhere than on Linux, shared segments
    /// cannot be written by position.
    ///
    /// # Safety
    /// `range` is within the arena and as long as the parts together, and is the caller's alone, RANGE-1
    /// (alone-while-written).
    pub(in crate::client) unsafe fn write_parts(
        shared: &SharedMap,
        range: Range<usize>,
        parts: &[&[u8]],
    ) -> io::Result<()> {
        let mut options = MmapOptions::new();
        options.offset(range.start as u64).len(range.len());
        // SAFETY: nobody else accesses the range (RANGE-1).
        let mut window = unsafe { options.map_mut(&shared.file) }?;
        let mut at = 0;
        for part in parts {
            window[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Ok(())
    }

    /// The same of bytes that `make` makes: those from a place of the range on.
    ///
    /// # Safety
    /// `range` is within the arena, and is the caller's alone, RANGE-1 (alone-while-written).
    pub(in crate::client) unsafe fn write_made(
        shared: &SharedMap,
        range: Range<usize>,
        make: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) -> io::Result<()> {
        let mut options = MmapOptions::new();
        options.offset(range.start as u64).len(range.len());
        // SAFETY: nobody else accesses the range (RANGE-1).
        let mut window = unsafe { options.map_mut(&shared.file) }?;
        make(0, &mut window);
        Ok(())
    }
}
