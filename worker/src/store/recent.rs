//! Objects of the store that were read a moment ago.
//!
//! Reading a stored object takes a question to the raylet, which pins it. Programs read the same object again and again (a
//! model's weights, a table), so from the second read on the pin is kept for [`LINGER`] after the last one: what is read
//! again meanwhile costs no question. The raylet can neither move nor spill a pinned object, hence the short time. An object
//! that is freed is let go at once, and one that is read a single time, as blocks of a stream are, is never kept.

use std::time::{Duration, Instant};

use aktis_common::ids::ObjectId;
use bytes::Bytes;
use rustc_hash::FxHashMap;

/// How long the pin of an object that is not read again is kept.
pub(crate) const LINGER: Duration = Duration::from_millis(200);

struct Read {
    /// `None` after the first read.
    bytes: Option<Bytes>,
    last: Instant,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct RecentReads {
    reads: FxHashMap<ObjectId, Read>,
}

impl RecentReads {
    /// The object, if it was read lately.
    pub(crate) fn again(&mut self, object: ObjectId, now: Instant) -> Option<Bytes> {
        let read = self.reads.get_mut(&object)?;
        read.last = now;
        read.bytes.clone()
    }

    /// Notes what was read. True: nothing was noted before, so that [`Self::expire`] is to be called in a while.
    pub(crate) fn keep(&mut self, object: ObjectId, bytes: Bytes, now: Instant) -> bool {
        let was_empty = self.reads.is_empty();
        let bytes = self.reads.contains_key(&object).then_some(bytes);
        self.reads.insert(object, Read { bytes, last: now });
        was_empty
    }

    /// The object is freed. What is returned is to be dropped without locks.
    pub(crate) fn forget(&mut self, object: ObjectId) -> Option<Bytes> {
        self.reads.remove(&object)?.bytes
    }

    /// What was not read for long, to be dropped without locks, and when to look again.
    pub(crate) fn expire(&mut self, now: Instant) -> (Vec<Bytes>, Option<Duration>) {
        let is_over = |_: &ObjectId, read: &mut Read| now.duration_since(read.last) >= LINGER;
        let over: Vec<Bytes> = self
            .reads
            .extract_if(is_over)
            .filter_map(|(_, read)| read.bytes)
            .collect();
        let next = self
            .reads
            .values()
            .map(|read| (read.last + LINGER).saturating_duration_since(now))
            .min();
        (over, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_is_kept_as_long_as_it_is_used_and_a_moment_longer() {
        let (mut recent, start, object) =
            (RecentReads::default(), Instant::now(), ObjectId::for_put());
        assert!(recent.keep(object, Bytes::from_static(b"weights"), start));
        assert!(recent.again(object, start).is_none());
        recent.keep(object, Bytes::from_static(b"weights"), start);
        for step in 1..5 {
            let now = start + LINGER / 2 * step;
            assert!(recent.expire(now).0.is_empty());
            assert!(recent.again(object, now).is_some());
        }
        let last = start + LINGER * 2;
        assert_eq!(recent.expire(last).1, Some(LINGER));
        assert_eq!(recent.expire(last + LINGER).0.len(), 1);
        assert!(recent.again(object, last + LINGER).is_none());
    }

    #[test]
    fn object_that_is_read_once_is_not_kept() {
        let (mut recent, now) = (RecentReads::default(), Instant::now());
        recent.keep(ObjectId::for_put(), Bytes::from_static(b"block"), now);
        assert_eq!(recent.expire(now + LINGER), (Vec::new(), None));
    }

    #[test]
    fn freed_object_is_let_go_at_once() {
        let (mut recent, now, object) =
            (RecentReads::default(), Instant::now(), ObjectId::for_put());
        recent.keep(object, Bytes::from_static(b"table"), now);
        recent.keep(object, Bytes::from_static(b"table"), now);
        assert!(recent.forget(object).is_some());
        assert_eq!(recent.expire(now), (Vec::new(), None));
    }
}
