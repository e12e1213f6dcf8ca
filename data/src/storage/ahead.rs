//! Bytes that were read before somebody asked for parts of them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use parking_lot::Mutex;

/// What was read ahead, and is still wanted.
#[derive(Debug, Default)]
pub(super) struct ReadAhead(Mutex<Vec<Arc<AheadBytes>>>);

/// A range of a file.
#[derive(Debug)]
struct AheadBytes {
    location: Path,
    start: u64,
    bytes: Bytes,
}

/// Keeps a range of a file at hand for as long as it lives.
#[derive(Debug)]
pub(crate) struct KeptAhead {
    ahead: Arc<ReadAhead>,
    kept: Arc<AheadBytes>,
}

impl ReadAhead {
    /// Keeps `bytes`, which begin at `start`, for whoever asks for parts of them.
    pub(super) fn keep(self: &Arc<Self>, location: &Path, start: u64, bytes: Bytes) -> KeptAhead {
        let location = location.clone();
        let kept = Arc::new(AheadBytes {
            location,
            start,
            bytes,
        });
        self.0.lock().push(Arc::clone(&kept));
        let ahead = Arc::clone(self);
        KeptAhead { ahead, kept }
    }

    /// The parts, if all of them lie in what is at hand.
    pub(super) fn parts(&self, location: &Path, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        let kept = self.0.lock();
        let mut of_file = kept.iter().filter(|kept| kept.location == *location);
        of_file.find_map(|kept| ranges.iter().map(|range| kept.part(range)).collect())
    }
}

impl AheadBytes {
    fn part(&self, range: &Range<u64>) -> Option<Bytes> {
        let place = |at: u64| usize::try_from(at.checked_sub(self.start)?).ok();
        let (start, end) = (place(range.start)?, place(range.end)?);
        (start <= end && end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}

impl Drop for KeptAhead {
    fn drop(&mut self) {
        let mut kept = self.ahead.0.lock();
        kept.retain(|one| !Arc::ptr_eq(one, &self.kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_what_is_at_hand_are_given_until_it_is_let_go() {
        let ahead = Arc::new(ReadAhead::default());
        let (file, other) = (Path::from("a"), Path::from("b"));
        let kept = ahead.keep(&file, 100, Bytes::from_static(b"0123456789"));
        let second = ahead.keep(&file, 200, Bytes::from_static(b"abc"));
        let part = |file: &Path, range: Range<u64>| {
            let parts = ahead.parts(file, std::slice::from_ref(&range))?;
            parts.into_iter().next()
        };
        let parts = ahead.parts(&file, &[101..103, 108..110]);
        assert_eq!(parts.expect("is there"), ["12", "89"]);
        assert_eq!(part(&file, 200..203).expect("is there"), "abc");
        for beyond in [99..101, 109..111, 109..201] {
            assert_eq!(part(&file, beyond), None);
        }
        assert_eq!(part(&other, 101..103), None);
        drop(kept);
        assert_eq!(part(&file, 101..103), None);
        assert_eq!(part(&file, 201..203).expect("is there"), "bc");
        drop(second);
        assert!(ahead.0.lock().is_empty());
    }
}
