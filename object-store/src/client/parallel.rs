//! Sharing a long copy among threads.
//!
//! The threads live as long as the copy: starting one takes some 20 microseconds, and the copy of a share a millisecond and
//! more. Threads that are kept would have to be left behind by forks and found again after them.

use std::io;
use std::ops::Range;
use std::thread::Builder;

use aktis_common::machine::cpu_count;

use super::residency::CHUNK_BYTES;

/// A thread is worth starting for this many bytes.
const SHARE_BYTES: usize = 8 << 20;
/// More threads do not make memory faster. Ray's object store copies with as many.
const MOST_THREADS: usize = 6;

/// How many threads may share a copy.
pub(super) fn most_threads() -> usize {
    usize::try_from(cpu_count()).map_or(MOST_THREADS, |cores| cores.min(MOST_THREADS))
}

/// Splits `range` into shares for at most so many threads, between chunks.
pub(super) fn shares_of(range: Range<usize>, most_threads: usize) -> Vec<Range<usize>> {
    let threads = (range.len() / SHARE_BYTES).clamp(1, most_threads);
    let share = (range.len() / threads).next_multiple_of(CHUNK_BYTES);
    let mut shares = Vec::with_capacity(threads);
    let mut rest = range;
    while rest.len() > share && shares.len() + 1 < threads {
        let end = (rest.start + share) / CHUNK_BYTES * CHUNK_BYTES;
        shares.push(rest.start..end);
        rest.start = end;
    }
    shares.push(rest);
    shares
}

/// Does all shares of a piece of work at once, the last one on this thread. The first error, if there was any.
pub(super) fn in_parallel<S: Send + Sync>(
    shares: impl Iterator<Item = S>,
    work: impl Fn(&S) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let shares: Vec<S> = shares.collect();
    let Some((own, others)) = shares.split_last() else {
        return Ok(());
    };
    let work = &work;
    std::thread::scope(|scope| {
        let mut started = Vec::with_capacity(others.len());
        let mut refused = Vec::new();
        for share in others {
            let name = "aktis-copy".to_owned();
            match Builder::new()
                .name(name)
                .spawn_scoped(scope, move || work(share))
            {
                Ok(thread) => started.push(thread),
                // The system has no thread to spare.
                Err(_) => refused.push(share),
            }
        }
        let mut done = work(own);
        for share in refused {
            done = done.and(work(share));
        }
        for thread in started {
            let theirs = thread.join();
            done = done.and(theirs.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const MIB: usize = 1 << 20;

    fn is_whole(range: &Range<usize>, shares: &[Range<usize>]) -> bool {
        shares[0].start == range.start
            && shares[shares.len() - 1].end == range.end
            && shares.windows(2).all(|pair| pair[0].end == pair[1].start)
    }

    #[test]
    fn shares_add_up_to_the_range_and_end_between_chunks() {
        for start in [0, 4096, 5 * MIB, 5 * MIB + 4096] {
            for len in [1, MIB, 16 * MIB, 100 * MIB + 1, 200_000_123] {
                for threads in 1..=6 {
                    let range = start..start + len;
                    let shares = shares_of(range.clone(), threads);
                    assert!(is_whole(&range, &shares), "{range:?}: {shares:?}");
                    assert!(shares.len() <= threads);
                    let inner = &shares[..shares.len() - 1];
                    assert!(inner.iter().all(|share| share.end % CHUNK_BYTES == 0));
                    assert!(shares.iter().all(|share| !share.is_empty()));
                }
            }
        }
    }

    #[test]
    fn short_copies_are_not_shared_and_long_ones_evenly() {
        assert_eq!(shares_of(0..15 * MIB, 6).len(), 1);
        assert_eq!(shares_of(0..16 * MIB, 6), [0..8 * MIB, 8 * MIB..16 * MIB]);
        let shares = shares_of(4096..200 * MIB, 4);
        let longest = shares.iter().map(Range::len).max();
        assert_eq!(shares.len(), 4);
        assert!(longest <= Some(51 * MIB), "{shares:?}");
    }

    #[test]
    fn every_share_is_worked_off_and_an_error_is_told() {
        let done = AtomicUsize::new(0);
        let result = in_parallel(0..5, |share| {
            done.fetch_add(1, Ordering::Relaxed);
            if *share == 2 {
                return Err(io::Error::other("the third"));
            }
            Ok(())
        });
        assert_eq!(done.into_inner(), 5);
        assert_eq!(
            result.map_err(|error| error.to_string()),
            Err("the third".to_owned())
        );
    }
}
