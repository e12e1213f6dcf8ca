//! Small files that were read as a whole.
//!
//! Whoever has asked for the end of a small file, for its footer, has got all of it, and asks for the rest next.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;
use parking_lot::Mutex;

/// Files of at most so many bytes are small: so much of a file's end is read for its footer.
const SMALL_BYTES: usize = 64 << 10;
/// So many of them are kept, those that were read last: a reader has so many under way at most, and as many of which it has the footers.
const KEPT_FILES: usize = 64;

/// The beginnings of files that were read last, which are all of them where they are small.
#[derive(Debug, Default)]
pub(super) struct KeptFiles {
    files: Mutex<VecDeque<(Path, Bytes)>>,
}

impl KeptFiles {
    /// The parts, if all of them have been read.
    pub(super) fn parts(&self, location: &Path, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        let bytes = {
            let files = self.files.lock();
            let (_, bytes) = files.iter().rev().find(|(known, _)| known == location)?;
            bytes.clone()
        };
        let part = |range: &Range<u64>| {
            let start = usize::try_from(range.start).ok()?;
            let end = usize::try_from(range.end).ok()?;
            (start <= end && end <= bytes.len()).then(|| bytes.slice(start..end))
        };
        ranges.iter().map(part).collect()
    }

    /// Keeps what was read, if it is the beginning of a file and small.
    pub(super) fn keep(&self, location: &Path, ranges: &[Range<u64>], parts: &[Bytes]) {
        let ([Range { start: 0, .. }], [bytes]) = (ranges, parts) else {
            return;
        };
        if bytes.len() > SMALL_BYTES {
            return;
        }
        let mut files = self.files.lock();
        if files.len() >= KEPT_FILES {
            files.pop_front();
        }
        files.push_back((location.clone(), bytes.clone()));
    }
}
