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
/// There is room for two, however little memory there is: one that is being read, and the next.
const LEAST_BYTES: usize = 2 * SMALL_BYTES;

/// The beginnings of files that were read last, which are all of them where they are small.
#[derive(Debug)]
pub(super) struct KeptFiles {
    most_bytes: usize,
    files: Mutex<KeptList>,
}

#[derive(Debug, Default)]
struct KeptList {
    /// The oldest one first.
    kept: VecDeque<(Path, Bytes)>,
    bytes: usize,
}

impl KeptList {
    fn take(&mut self, index: usize) -> Option<Bytes> {
        let (_, bytes) = self.kept.remove(index)?;
        self.bytes -= bytes.len();
        Some(bytes)
    }
}

impl KeptFiles {
    /// Keeps so much, if that is enough for two.
    pub(super) fn new(most_bytes: u64) -> Self {
        let most_bytes = usize::try_from(most_bytes).unwrap_or(usize::MAX);
        Self {
            most_bytes: most_bytes.max(LEAST_BYTES),
            files: Mutex::default(),
        }
    }

    /// What is kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.files.lock().bytes as u64
    }

    /// The parts, if all of them have been read.
    pub(super) fn parts(&self, location: &Path, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        let bytes = {
            let files = self.files.lock();
            let (_, bytes) = files
                .kept
                .iter()
                .rev()
                .find(|(known, _)| known == location)?;
            bytes.clone()
        };
        let part = |range: &Range<u64>| {
            let start = usize::try_from(range.start).ok()?;
            let end = usize::try_from(range.end).ok()?;
            (start <= end && end <= bytes.len()).then(|| bytes.slice(start..end))
        };
        ranges.iter().map(part).collect()
    }

    /// The whole file, of so many bytes, if it is here; whoever takes it is the last one to ask for it.
    pub(super) fn take(&self, location: &Path, size_bytes: u64) -> Option<Bytes> {
        let mut files = self.files.lock();
        let is_it =
            |(known, bytes): &(Path, Bytes)| known == location && bytes.len() as u64 == size_bytes;
        let index = files.kept.iter().rposition(is_it)?;
        files.take(index)
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
        while files.bytes + bytes.len() > self.most_bytes && files.take(0).is_some() {}
        files.bytes += bytes.len();
        files.kept.push_back((location.clone(), bytes.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(files: &KeptFiles, name: &str, bytes: usize) -> Path {
        let (location, whole) = (Path::from(name), Bytes::from(vec![7; bytes]));
        let range = 0..bytes as u64;
        files.keep(&location, std::slice::from_ref(&range), &[whole]);
        location
    }

    #[test]
    fn files_that_were_read_last_are_kept_as_long_as_there_is_room() {
        let files = KeptFiles::new(LEAST_BYTES as u64 + 100);
        for number in 0..20 {
            kept(&files, &format!("{number}"), 20 << 10);
            assert!(files.bytes() <= LEAST_BYTES as u64 + 100);
        }
        let is_kept = |number: u32| {
            files
                .parts(&Path::from(format!("{number}")), &[0..5, 7..8])
                .is_some()
        };
        assert_eq!((0..20).filter(|&number| is_kept(number)).count(), 6);
        assert!(is_kept(19) && is_kept(14) && !is_kept(13));
        kept(&files, "long", SMALL_BYTES + 1);
        assert!(files.parts(&Path::from("long"), &[0..5, 7..8]).is_none());
    }

    #[test]
    fn file_that_is_taken_is_kept_no_longer() {
        let files = KeptFiles::new(0);
        let location = kept(&files, "a", 1000);
        assert_eq!(files.take(&location, 999), None, "it has changed");
        assert_eq!(
            files.take(&location, 1000).map(|bytes| bytes.len()),
            Some(1000)
        );
        assert_eq!((files.bytes(), files.take(&location, 1000)), (0, None));
    }
}
