//! Ranges of the read-only mapping that are writable for a while.
//!
//! Changing the protection of 200 MB costs a tenth of copying it. So a range stays writable after
//! it was written, in the hope that the next value comes to lie there again, until another range
//! is written or somebody wants to look at this one. Pointers into the mapping are made for a
//! [`SealedRange`](crate::SealedRange) alone, which closes what is open there first: nobody ever holds
//! a pointer to sealed bytes that could be written through.
#![allow(unsafe_code, reason = "changes the protection of pages")]

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::MmapRaw;
use rustix::mm::{MprotectFlags, mprotect};

#[derive(Debug)]
struct Window {
    range: Range<usize>,
    is_busy: bool,
    /// Somebody looked at the range while it was written.
    has_to_close: bool,
}

/// The open windows: those being written, and at most one idle one.
#[derive(Debug, Default)]
pub(super) struct WriteWindows {
    open: Mutex<Vec<Window>>,
}

/// A range that can be written as long as this lives. Ranges are whole pages of one object.
#[derive(Debug)]
pub(super) struct OpenWindow<'a> {
    windows: &'a WriteWindows,
    map: &'a MmapRaw,
    start: usize,
}

impl WriteWindows {
    /// Makes `range` writable. Nobody else is writing there: it belongs to an object being
    /// created.
    pub(super) fn open<'a>(
        &'a self,
        map: &'a MmapRaw,
        range: Range<usize>,
    ) -> io::Result<OpenWindow<'a>> {
        let mut open = self.lock();
        let covers =
            |window: &Window| window.range.start == range.start && range.end <= window.range.end;
        let start = range.start;
        match open
            .iter_mut()
            .find(|window| !window.is_busy && covers(window))
        {
            Some(window) => window.is_busy = true,
            None => {
                close_if(&mut open, map, |_| true)?;
                protect(map, &range, MprotectFlags::READ | MprotectFlags::WRITE)?;
                open.push(Window {
                    range,
                    is_busy: true,
                    has_to_close: false,
                });
            }
        }
        Ok(OpenWindow {
            windows: self,
            map,
            start,
        })
    }

    /// Makes sure that nothing in `range` can be written, or will be once its writer is done.
    pub(super) fn close(&self, map: &MmapRaw, range: &Range<usize>) -> io::Result<()> {
        let mut open = self.lock();
        let overlaps = |other: &Range<usize>| other.start < range.end && range.start < other.end;
        for window in open.iter_mut().filter(|window| overlaps(&window.range)) {
            window.has_to_close = true;
        }
        close_if(&mut open, map, |window| window.has_to_close)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Window>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenWindow<'_> {
    fn drop(&mut self) {
        let mut open = self.windows.lock();
        if let Some(window) = open
            .iter_mut()
            .find(|window| window.range.start == self.start)
        {
            window.is_busy = false;
        }
        // If that fails the window stays on the list, and is tried again before anybody looks.
        let _ = close_if(&mut open, self.map, |window| window.has_to_close);
    }
}

/// Closes the idle windows for which `condition` holds.
fn close_if(
    open: &mut Vec<Window>,
    map: &MmapRaw,
    condition: impl Fn(&Window) -> bool,
) -> io::Result<()> {
    let mut result = Ok(());
    open.retain(|window| {
        if window.is_busy || !condition(window) || result.is_err() {
            return true;
        }
        result = protect(map, &window.range, MprotectFlags::READ);
        result.is_err()
    });
    result
}

fn protect(map: &MmapRaw, range: &Range<usize>, flags: MprotectFlags) -> io::Result<()> {
    assert!(range.end <= map.len(), "the range is within the mapping");
    // SAFETY: the range is within the mapping.
    let start = unsafe { map.as_mut_ptr().add(range.start) };
    // SAFETY: the pages belong to this mapping alone; whoever reads them may read them before and
    // after, and nobody writes them but the holder of an open window.
    Ok(unsafe { mprotect(start.cast(), range.len(), flags) }?)
}
