//! Memory for values on their way: aligned for numpy and Arrow, and used again.
//!
//! The system's allocator gives memory of this size back to the kernel when it is freed, and every page of it faults again
//! at its next use, which costs more than copying the bytes. So a few buffers of each size are kept.
//!
//! Nobody waits for the lock on these: in the child of a fork another thread of the parent may hold it for ever, and elsewhere
//! it is held for a moment, in which the allocator is as good.
#![allow(unsafe_code, reason = "aligned allocation that Bytes cannot make")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use bytes::Bytes;

use crate::sync::Mutex;

/// Alignment of every part of a laid-out value, in bytes.
pub const PART_ALIGNMENT: usize = 64;

/// Capacities that are kept are powers of two, from this one
const SMALLEST_KEPT_BYTES: usize = 16 << 10;
/// to this one.
const LARGEST_KEPT_BYTES: usize = 1 << 20;
const SIZE_CLASSES: usize = (LARGEST_KEPT_BYTES.ilog2() - SMALLEST_KEPT_BYTES.ilog2() + 1) as usize;
/// Memory that is kept per size class.
const KEPT_BYTES_PER_CLASS: usize = 2 << 20;

static KEPT: [Mutex<Vec<Allocation>>; SIZE_CLASSES] =
    [const { Mutex::new(Vec::new()) }; SIZE_CLASSES];

/// Initialised memory that nothing else points to.
struct Allocation {
    data: NonNull<u8>,
    capacity: usize,
}

// SAFETY: the allocation is owned and not aliased.
unsafe impl Send for Allocation {}
// SAFETY: shared access only reads.
unsafe impl Sync for Allocation {}

impl Allocation {
    fn new(capacity: usize) -> Self {
        let layout = Self::layout(capacity);
        // SAFETY: the layout has a non-zero size (at least one alignment unit).
        let data = unsafe { alloc_zeroed(layout) };
        let data = NonNull::new(data).unwrap_or_else(|| handle_alloc_error(layout));
        Self { data, capacity }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(
            capacity.max(1).next_multiple_of(PART_ALIGNMENT),
            PART_ALIGNMENT,
        )
        .expect("payloads are limited to MAX_FRAME_BYTES")
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.data.as_ptr(), Self::layout(self.capacity)) }
    }
}

fn size_class(capacity: usize) -> Option<usize> {
    let is_kept = capacity.is_power_of_two()
        && (SMALLEST_KEPT_BYTES..=LARGEST_KEPT_BYTES).contains(&capacity);
    is_kept.then(|| (capacity.ilog2() - SMALLEST_KEPT_BYTES.ilog2()) as usize)
}

/// A buffer of exactly `len` bytes, aligned to [`PART_ALIGNMENT`].
pub(crate) struct AlignedBuffer {
    /// `None` only while it is being dropped.
    allocation: Option<Allocation>,
    len: usize,
}

impl AlignedBuffer {
    /// A buffer with any content.
    pub(crate) fn new(len: usize) -> Self {
        let is_kept = (SMALLEST_KEPT_BYTES / 2..=LARGEST_KEPT_BYTES).contains(&len);
        let capacity = if is_kept {
            len.next_power_of_two().max(SMALLEST_KEPT_BYTES)
        } else {
            len
        };
        let known = size_class(capacity).and_then(|class| KEPT[class].try_lock()?.pop());
        Self {
            allocation: Some(known.unwrap_or_else(|| Allocation::new(capacity))),
            len,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn data(&self) -> *mut u8 {
        let allocation = self.allocation.as_ref();
        allocation.expect("taken only by drop").data.as_ptr()
    }

    /// Its bytes, to be written.
    #[inline]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: `data` points to at least `len` initialised bytes that only `self` owns.
        unsafe { std::slice::from_raw_parts_mut(self.data(), self.len) }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `data` points to `len` initialised bytes, never written after the buffer is shared.
        unsafe { std::slice::from_raw_parts(self.data(), self.len) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        let Some(allocation) = self.allocation.take() else {
            return;
        };
        if let Some(class) = size_class(allocation.capacity)
            && let Some(mut kept) = KEPT[class].try_lock()
            && (kept.len() + 1) * allocation.capacity <= KEPT_BYTES_PER_CLASS
        {
            kept.push(allocation);
        }
    }
}

/// Copies bytes into memory aligned to [`PART_ALIGNMENT`].
pub fn aligned_copy(bytes: &[u8]) -> Bytes {
    let mut buffer = AlignedBuffer::new(bytes.len());
    buffer.as_mut_slice().copy_from_slice(bytes);
    Bytes::from_owner(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_gets_aligned_memory_of_its_own() {
        for len in [0, 1, 63, 9_000, 80_000, 1 << 20, (1 << 20) + 1] {
            let mut buffers: Vec<_> = (0..5).map(|_| AlignedBuffer::new(len)).collect();
            for (fill, buffer) in (0..).zip(&mut buffers) {
                assert_eq!(buffer.len(), len);
                assert_eq!(buffer.data() as usize % PART_ALIGNMENT, 0);
                buffer.as_mut_slice().fill(fill);
            }
            for (fill, buffer) in (0..).zip(&buffers) {
                assert!(buffer.as_ref().iter().all(|byte| *byte == fill));
            }
        }
    }

    /// As in the child of a fork, where that thread does not exist.
    #[test]
    fn buffers_are_made_and_dropped_while_another_thread_has_the_pool() {
        let len = 200_000;
        let class = size_class(usize::next_power_of_two(len)).expect("a size that is kept");
        let _held = KEPT[class].lock();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(AlignedBuffer::new(len));
            done.send(())
        });
        let patience = std::time::Duration::from_secs(30);
        is_done.recv_timeout(patience).expect("nobody waits");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let buffers: Vec<_> = (0..100).map(|_| AlignedBuffer::new(1 << 20)).collect();
        drop(buffers);
        let class = size_class(1 << 20).expect("a size that is kept");
        assert!(KEPT[class].lock().len() * (1 << 20) <= KEPT_BYTES_PER_CLASS);
    }
}
