//! Which bytes of the arena belong to whom: a best-fit free list with coalescing.
//!
//! ```text
//!  0                                     high_water                      capacity
//!  |#### used ####|  free  |## used ##| free |        never used          |
//!                 `----------- free list ----'`------- untouched tail -----'
//! ```
//! Bytes below the high-water mark have been written before, so their pages are there ("warm");
//! the tail has none yet. A request is served from the free list first (smallest extent that
//! fits, among equals the most recently freed), and only then from the tail. That keeps the
//! memory of a session close to what it really uses, and keeps writes on warm pages.
//!
//! All operations are O(log n) in the number of extents.
//!
//! Invariants: `OBJ-2 (no-overlap)` and `OBJ-5 (no-leak)`, see [`crate`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aktis_common::checks::Broken;
use rustc_hash::FxHashMap;

/// Every extent starts at a multiple of this many bytes: a cache line, and what Arrow asks for.
pub const ALIGNMENT_BYTES: u64 = 64;

/// Objects of at least this many bytes get whole pages of their own, so that a client can map
/// exactly the object it is creating and nothing else.
pub const PAGE_ALIGNED_FROM_BYTES: u64 = 64 * 1024;

/// How many extents that might be too small after alignment are tried before one is taken that
/// fits for sure.
const ALIGNED_FIT_PROBES: usize = 8;

/// A range of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// Distance from the start of the arena.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Extent {
    /// First byte after the extent.
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }
}

#[derive(Debug, Clone, Copy)]
struct FreeExtent {
    len: u64,
    /// Rises with every free: tells which extent was freed last.
    stamp: u64,
    freed_at: Duration,
    /// Whether some of its pages may be there.
    is_resident: bool,
}

/// Sorted by length, then by most recently freed.
type SizeKey = (u64, u64, u64);

fn size_key(offset: u64, extent: &FreeExtent) -> SizeKey {
    (extent.len, u64::MAX - extent.stamp, offset)
}

/// The free and the allocated extents of one arena.
#[derive(Debug)]
pub struct Allocator {
    capacity_bytes: u64,
    page_bytes: u64,
    high_water: u64,
    free: BTreeMap<u64, FreeExtent>,
    by_size: BTreeSet<SizeKey>,
    allocated: FxHashMap<u64, u64>,
    used_bytes: u64,
    next_stamp: u64,
}

impl Allocator {
    /// An arena of which nothing is used. `page_bytes` must be a power of two.
    pub fn new(capacity_bytes: u64, page_bytes: u64) -> Self {
        assert!(page_bytes.is_power_of_two(), "page size is a power of two");
        Self {
            capacity_bytes: capacity_bytes / ALIGNMENT_BYTES * ALIGNMENT_BYTES,
            page_bytes: page_bytes.max(ALIGNMENT_BYTES),
            high_water: 0,
            free: BTreeMap::new(),
            by_size: BTreeSet::new(),
            allocated: FxHashMap::default(),
            used_bytes: 0,
            next_stamp: 0,
        }
    }

    /// Bytes that can be allocated in all.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// Bytes allocated now.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Bytes not allocated now, in however many pieces.
    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes - self.used_bytes
    }

    /// End of the highest extent ever allocated and not given back.
    pub fn high_water(&self) -> u64 {
        self.high_water
    }

    /// Length of the longest free piece.
    pub fn largest_free_bytes(&self) -> u64 {
        let tail = self.capacity_bytes - self.tail_start();
        self.by_size.last().map_or(tail, |(len, ..)| tail.max(*len))
    }

    /// Length of the longest free piece whose pages may be there.
    pub fn largest_warm_bytes(&self) -> u64 {
        self.free
            .values()
            .filter(|e| e.is_resident)
            .map(|e| e.len)
            .max()
            .unwrap_or(0)
    }

    /// How many bytes an object of `size_bytes` takes.
    pub fn footprint_bytes(&self, size_bytes: u64) -> u64 {
        let (align, _) = self.layout(size_bytes);
        size_bytes
            .max(1)
            .checked_next_multiple_of(align)
            .unwrap_or(u64::MAX)
    }

    /// Takes an extent for an object of `size_bytes`, or `None` if no free piece is long enough.
    pub fn allocate(&mut self, size_bytes: u64) -> Option<Extent> {
        let (align, len) = self.layout(size_bytes);
        if len > self.capacity_bytes {
            return None;
        }
        let offset = match self.find_fit(align, len) {
            Some(start) => self.carve_free(start, align, len),
            None => self.carve_tail(align, len)?,
        };
        Some(self.mark_allocated(offset, len))
    }

    /// Takes up to `len` bytes of the untouched tail, so that its pages can be made beforehand.
    pub fn reserve_tail(&mut self, len: u64) -> Option<Extent> {
        let page = self.page_bytes;
        let start = self.high_water.next_multiple_of(page);
        let end = (start + len.next_multiple_of(page)).min(self.capacity_bytes);
        if start >= end {
            return None;
        }
        let offset = self.carve_tail_at(start, end - start);
        Some(self.mark_allocated(offset, end - start))
    }

    /// Takes a free extent of at least `min_len` bytes that has been idle since before
    /// `idle_since` and may hold pages, so that they can be given back to the system.
    pub fn reserve_idle(&mut self, idle_since: Duration, min_len: u64) -> Option<Extent> {
        let is_idle = |e: &FreeExtent| e.is_resident && e.len >= min_len && e.freed_at < idle_since;
        let (&offset, extent) = self.free.iter().find(|(_, e)| is_idle(e))?;
        let len = extent.len;
        self.remove_free(offset);
        Some(self.mark_allocated(offset, len))
    }

    /// Gives an extent back. `now` is what idleness is measured from.
    ///
    /// # Panics
    /// If `extent` is not allocated exactly like this: the caller's own state is broken.
    pub fn free(&mut self, extent: Extent, now: Duration) {
        self.unmark_allocated(extent);
        self.insert_free(extent, now, true);
    }

    /// Gives back an extent whose pages were given back to the system.
    ///
    /// # Panics
    /// As [`Self::free`].
    pub fn free_discarded(&mut self, extent: Extent, now: Duration) {
        self.unmark_allocated(extent);
        let merged = self.insert_free(extent, now, false);
        if merged.end() == self.high_water && !self.free[&merged.offset].is_resident {
            self.remove_free(merged.offset);
            self.high_water = merged.offset;
        }
    }

    /// Checks `OBJ-2 (no-overlap)` and the allocator's half of `OBJ-5 (no-leak)`.
    pub fn check_invariants(&self) -> Result<(), Broken> {
        let mut pieces: Vec<(u64, u64, bool)> = self
            .free
            .iter()
            .map(|(&offset, e)| (offset, e.len, true))
            .collect();
        pieces.extend(
            self.allocated
                .iter()
                .map(|(&offset, &len)| (offset, len, false)),
        );
        pieces.sort_unstable();
        let mut end = 0;
        let mut previous_is_free = false;
        for (offset, len, is_free) in pieces {
            if offset != end || len == 0 {
                return Err(Broken {
                    label: "OBJ-2",
                    state: format!("piece at {offset} follows one that ends at {end}"),
                });
            }
            if is_free && previous_is_free {
                return Err(Broken {
                    label: "OBJ-5",
                    state: format!("free pieces are not merged at {offset}"),
                });
            }
            if offset % ALIGNMENT_BYTES != 0 {
                return Err(Broken {
                    label: "OBJ-2",
                    state: format!("offset {offset} is not aligned"),
                });
            }
            end = offset + len;
            previous_is_free = is_free;
        }
        if end != self.high_water || end > self.capacity_bytes {
            return Err(Broken {
                label: "OBJ-2",
                state: format!("pieces end at {end}, high water is {}", self.high_water),
            });
        }
        let used: u64 = self.allocated.values().sum();
        if used != self.used_bytes || self.by_size.len() != self.free.len() {
            return Err(Broken {
                label: "OBJ-5",
                state: format!("{used} bytes allocated, counted {}", self.used_bytes),
            });
        }
        Ok(())
    }

    fn layout(&self, size_bytes: u64) -> (u64, u64) {
        let align = if size_bytes >= PAGE_ALIGNED_FROM_BYTES {
            self.page_bytes
        } else {
            ALIGNMENT_BYTES
        };
        (
            align,
            size_bytes
                .max(1)
                .checked_next_multiple_of(align)
                .unwrap_or(u64::MAX),
        )
    }

    fn tail_start(&self) -> u64 {
        match self.free.last_key_value() {
            Some((&offset, extent)) if offset + extent.len == self.high_water => offset,
            _ => self.high_water,
        }
    }

    fn find_fit(&self, align: u64, len: u64) -> Option<u64> {
        let fits = |&&(extent_len, _, offset): &&SizeKey| {
            offset.next_multiple_of(align) + len <= offset + extent_len
        };
        let fits_for_sure = len + align - ALIGNMENT_BYTES;
        self.by_size
            .range((len, 0, 0)..)
            .take(ALIGNED_FIT_PROBES)
            .find(fits)
            .or_else(|| self.by_size.range((fits_for_sure, 0, 0)..).next())
            .map(|&(_, _, offset)| offset)
    }

    fn carve_free(&mut self, start: u64, align: u64, len: u64) -> u64 {
        let extent = self.remove_free(start);
        let offset = start.next_multiple_of(align);
        let end = start + extent.len;
        self.put_back(start, offset, extent);
        self.put_back(offset + len, end, extent);
        offset
    }

    fn carve_tail(&mut self, align: u64, len: u64) -> Option<u64> {
        let offset = self.tail_start().next_multiple_of(align);
        if offset.checked_add(len)? > self.capacity_bytes {
            return None;
        }
        Some(self.carve_tail_at(offset, len))
    }

    /// Moves the high-water mark to `offset + len`; what lies between the old one and `offset`
    /// joins the free list.
    fn carve_tail_at(&mut self, offset: u64, len: u64) -> u64 {
        let tail_start = self.tail_start();
        if tail_start < self.high_water && offset < self.high_water {
            let extent = self.remove_free(tail_start);
            self.put_back(tail_start, offset, extent);
        } else if offset > self.high_water {
            let gap = Extent {
                offset: self.high_water,
                len: offset - self.high_water,
            };
            self.insert_free(gap, Duration::ZERO, false);
        }
        self.high_water = offset + len;
        offset
    }

    /// Returns part of a free extent to the free list with its history unchanged.
    fn put_back(&mut self, start: u64, end: u64, from: FreeExtent) {
        if start < end {
            let extent = FreeExtent {
                len: end - start,
                ..from
            };
            self.by_size.insert(size_key(start, &extent));
            self.free.insert(start, extent);
        }
    }

    fn remove_free(&mut self, offset: u64) -> FreeExtent {
        let extent = self
            .free
            .remove(&offset)
            .expect("callers take offsets from the free list");
        self.by_size.remove(&size_key(offset, &extent));
        extent
    }

    fn insert_free(&mut self, extent: Extent, freed_at: Duration, is_resident: bool) -> Extent {
        let (mut start, mut end) = (extent.offset, extent.end());
        let (mut freed_at, mut is_resident) = (freed_at, is_resident);
        let before = self.free.range(..start).next_back().map(|(&o, e)| (o, *e));
        if let Some((offset, neighbour)) = before
            && offset + neighbour.len == start
        {
            self.remove_free(offset);
            start = offset;
            freed_at = freed_at.max(neighbour.freed_at);
            is_resident |= neighbour.is_resident;
        }
        if self.free.contains_key(&end) {
            let neighbour = self.remove_free(end);
            end += neighbour.len;
            freed_at = freed_at.max(neighbour.freed_at);
            is_resident |= neighbour.is_resident;
        }
        self.next_stamp += 1;
        let merged = FreeExtent {
            len: end - start,
            stamp: self.next_stamp,
            freed_at,
            is_resident,
        };
        self.put_back(start, end, merged);
        Extent {
            offset: start,
            len: end - start,
        }
    }

    fn mark_allocated(&mut self, offset: u64, len: u64) -> Extent {
        self.allocated.insert(offset, len);
        self.used_bytes += len;
        Extent { offset, len }
    }

    fn unmark_allocated(&mut self, extent: Extent) {
        let len = self.allocated.remove(&extent.offset);
        assert_eq!(
            len,
            Some(extent.len),
            "freed extent {extent:?} is not allocated"
        );
        self.used_bytes -= extent.len;
    }
}

#[cfg(test)]
mod tests;
