//! What is known about pages: which exist, and how this process has written them before.
#![allow(unsafe_code, reason = "asks the system about pages of a mapping")]

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use memmap2::MmapRaw;

/// Knowledge is kept per chunk of this size.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// How this process has last written a chunk, as a whole. Only a hint: pages may have been given
/// back to the system since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum LastWrite {
    Never,
    /// By the file: the pages exist, but not in this process's page table.
    ByFile,
    /// By the mapping: writing again costs no page faults.
    ByMapping,
}

/// The last write to every chunk of an arena.
#[derive(Debug)]
pub(super) struct WriteHistory {
    chunks: Vec<AtomicU8>,
}

impl WriteHistory {
    pub(super) fn new(len: usize) -> Self {
        let count = len.div_ceil(CHUNK_BYTES);
        Self {
            chunks: std::iter::repeat_with(AtomicU8::default)
                .take(count)
                .collect(),
        }
    }

    /// The last write to the chunk in which `piece` lies.
    pub(super) fn last_write(&self, piece: &Range<usize>) -> LastWrite {
        match self.chunks[piece.start / CHUNK_BYTES].load(Ordering::Relaxed) {
            0 => LastWrite::Never,
            1 => LastWrite::ByFile,
            _ => LastWrite::ByMapping,
        }
    }

    /// Notes how the chunks that `range` covers completely were written.
    pub(super) fn note(&self, range: Range<usize>, write: LastWrite) {
        for piece in pieces(range).filter(|piece| piece.len() == CHUNK_BYTES) {
            self.chunks[piece.start / CHUNK_BYTES].store(write as u8, Ordering::Relaxed);
        }
    }
}

/// The parts of `range` in each chunk.
pub(super) fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let chunks = range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES);
    let pieces = chunks.map(move |chunk| {
        let start = (chunk * CHUNK_BYTES).max(range.start);
        start..((chunk + 1) * CHUNK_BYTES).min(range.end)
    });
    pieces.filter(|piece| !piece.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_range_chunk_by_chunk() {
        let range = 5..3 * CHUNK_BYTES + 7;
        let all: Vec<_> = pieces(range.clone()).collect();
        assert_eq!(all.len(), 4);
        assert_eq!((all[0].start, all[3].end), (range.start, range.end));
        assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(pieces(8..8).count(), 0);
    }

    #[test]
    fn only_chunks_written_as_a_whole_are_known() {
        let history = WriteHistory::new(4 * CHUNK_BYTES);
        history.note(10..3 * CHUNK_BYTES, LastWrite::ByFile);
        let known = [0, 1, 2, 3]
            .map(|chunk| history.last_write(&(chunk * CHUNK_BYTES..chunk * CHUNK_BYTES + 1)));
        assert_eq!(
            known,
            [
                LastWrite::Never,
                LastWrite::ByFile,
                LastWrite::ByFile,
                LastWrite::Never
            ]
        );
    }
}
