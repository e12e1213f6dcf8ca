//! Much work of one kind, each piece of it small: shared among threads, with what comes of it in order.

use std::panic::resume_unwind;
use std::thread;

use parking_lot::Mutex;

/// What a thread takes at once. Fewer pieces are not worth another thread.
const TAKEN: usize = 64;
/// Threads, also where there are fewer cores: a disk or a mount answers many questions at once.
const THREADS: usize = 16;

/// What `work` makes of each of `items`, with something of each thread's own beside; or what the first of them failed with.
pub(crate) fn in_order<T: Sync, S, R: Send, E: Send>(
    items: &[T],
    own: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let parts = items.len().div_ceil(TAKEN);
    // Parts are taken in order, so that nothing before what failed is left undone; after that none is.
    let left = Mutex::new(Some(items.chunks(TAKEN).enumerate()));
    let take = || left.lock().as_mut().and_then(Iterator::next);
    let take_all = || {
        let (mut own, mut done) = (own(), Vec::new());
        while let Some((index, part)) = take() {
            let made: Result<Vec<R>, E> = part.iter().map(|item| work(&mut own, item)).collect();
            if made.is_err() {
                *left.lock() = None;
            }
            done.push((index, made));
        }
        done
    };
    let mut done = thread::scope(|scope| {
        let others = 1..THREADS.min(parts);
        let started: Vec<_> = others
            .map_while(|_| {
                let thread = thread::Builder::new().name("aktis-files".to_owned());
                // This thread does what no other could be had for.
                thread.spawn_scoped(scope, take_all).ok()
            })
            .collect();
        let mut done = take_all();
        for thread in started {
            done.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    let mut all = Vec::with_capacity(items.len());
    for (_, made) in done {
        all.extend(made?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread::ThreadId;
    use std::time::{Duration, Instant};

    use parking_lot::Condvar;

    use super::*;

    #[test]
    fn threads_share_the_work() {
        let items: Vec<usize> = (0..2 * TAKEN).collect();
        let (seen, more) = (Mutex::new(HashSet::<ThreadId>::new()), Condvar::new());
        let deadline = Instant::now() + Duration::from_secs(60);
        let meet = |_: &mut (), _: &usize| {
            let mut seen = seen.lock();
            seen.insert(thread::current().id());
            more.notify_all();
            while seen.len() < 2 {
                if more.wait_until(&mut seen, deadline).timed_out() {
                    return Err("no other thread has come");
                }
            }
            Ok(())
        };
        assert!(in_order(&items, || (), meet).is_ok());
    }

    #[test]
    fn results_come_in_order_and_are_complete() {
        for count in [0, 1, TAKEN, 10 * TAKEN + 3, 100 * TAKEN] {
            let items: Vec<usize> = (0..count).collect();
            let doubled = in_order(&items, || (), |(), item| Ok::<_, ()>(item * 2));
            assert!(doubled.is_ok_and(|all| all.into_iter().eq((0..count).map(|item| item * 2))));
        }
    }

    #[test]
    fn failure_is_that_of_the_first_item_that_fails() {
        let items: Vec<usize> = (0..100 * TAKEN).collect();
        for first in [0, TAKEN - 1, 50 * TAKEN + 7] {
            let work = |_: &mut (), &item: &usize| if item < first { Ok(()) } else { Err(item) };
            assert_eq!(in_order(&items, || (), work), Err(first));
        }
    }
}
