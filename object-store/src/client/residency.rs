//! What is known about pages: which exist, and which this process has made writable before.
#![allow(unsafe_code, reason = "asks the system about pages of a mapping")]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::MmapRaw;

/// Knowledge is kept per chunk of this size.
pub(super) const CHUNK_BYTES: usize = 2 << 20;

/// The chunks that this process has written completely through its mapping, so that writing again
/// needs no page faults. Only a hint: pages may have been given back since.
#[derive(Debug)]
pub(super) struct PopulatedChunks {
    chunks: Vec<AtomicBool>,
}

impl PopulatedChunks {
    pub(super) fn new(len: usize) -> Self {
        let count = len.div_ceil(CHUNK_BYTES);
        Self {
            chunks: std::iter::repeat_with(|| AtomicBool::new(false))
                .take(count)
                .collect(),
        }
    }

    pub(super) fn contains(&self, piece: &Range<usize>) -> bool {
        self.chunks[piece.start / CHUNK_BYTES].load(Ordering::Relaxed)
    }

    /// Notes that `piece`, which lies within one chunk, was written.
    pub(super) fn note_written(&self, piece: &Range<usize>) {
        if piece.len() == CHUNK_BYTES {
            self.chunks[piece.start / CHUNK_BYTES].store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn note_cold(&self, piece: &Range<usize>) {
        self.chunks[piece.start / CHUNK_BYTES].store(false, Ordering::Relaxed);
    }
}

/// The parts of `range` in each chunk.
pub(super) fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let chunks = range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES);
    chunks.map(move |chunk| {
        let start = (chunk * CHUNK_BYTES).max(range.start);
        start..((chunk + 1) * CHUNK_BYTES).min(range.end)
    })
}

/// Whether the page at `at`, a multiple of the page size, exists. Where the system does not tell,
/// it does not.
#[cfg(target_os = "linux")]
pub(super) fn is_resident(map: &MmapRaw, at: usize) -> bool {
    assert!(at < map.len(), "the page is within the mapping");
    let mut answer = 0u8;
    // SAFETY: `at` is within the mapping.
    let page = unsafe { map.as_mut_ptr().add(at) };
    // SAFETY: one byte asks for one answer of one byte.
    let rc = unsafe { libc::mincore(page.cast(), 1, &raw mut answer) };
    rc == 0 && answer & 1 == 1
}
