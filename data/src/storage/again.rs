//! Reads of local files that are tried again: a folder may be a mount, and its server busy for a moment.

use std::error::Error;
use std::thread;
use std::time::Duration;

use crate::operators::chance::mixed;
use crate::os_error;

/// How often a read is tried.
const TRIES: u32 = 4;
/// The longest pause before the second try; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// What the system says of a server that does not answer, or has lost track: another try may do. EINTR, EIO, EAGAIN, EBUSY, ENETDOWN,
/// ENETUNREACH, ECONNRESET, ETIMEDOUT, EHOSTDOWN, EHOSTUNREACH, ESTALE.
const MAY_PASS: [i32; 11] = [4, 5, 11, 16, 100, 101, 104, 110, 112, 113, 116];

/// Whether a read that ended so, after so many tries, is to be tried once more: now, a pause later. The thread of a reader waits for
/// its file anyway.
pub(super) fn is_worth_another<T, E>(outcome: &Result<T, E>, tries: u32) -> bool
where
    E: Error + 'static,
{
    let Err(error) = outcome else { return false };
    let Some(pause) = pause_after(error, tries) else {
        return false;
    };
    tracing::warn!(%error, tries, "a file is read again");
    thread::sleep(pause);
    true
}

/// The outcome of `read`, which is tried again where that may help.
pub(crate) fn read_again<T, E>(mut read: impl FnMut() -> Result<T, E>) -> Result<T, E>
where
    E: Error + 'static,
{
    let mut tries = 0;
    loop {
        let outcome = read();
        tries += 1;
        if !is_worth_another(&outcome, tries) {
            return outcome;
        }
    }
}

fn pause_after(error: &(dyn Error + 'static), tries: u32) -> Option<Duration> {
    let may_pass = os_error::number(error).is_some_and(|number| MAY_PASS.contains(&number));
    if !may_pass || tries >= TRIES {
        return None;
    }
    let longest = FIRST_PAUSE * 2_u32.pow(tries.saturating_sub(1));
    // Another one in each process, so that those who failed together do not come back together.
    let share = mixed((u64::from(std::process::id()) << 8) | u64::from(tries)) % 1000;
    Some(longest / 2 + longest / 2 * u32::try_from(share).unwrap_or(0) / 1000)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// How often a read is tried that fails with this number until a try is good.
    fn tries(number: i32, good_at: u32) -> u32 {
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = if tries == good_at {
                Ok(())
            } else {
                Err(object_store::Error::Generic {
                    store: "local",
                    source: Box::new(io::Error::from_raw_os_error(number)),
                })
            };
            if !is_worth_another(&outcome, tries) {
                return tries;
            }
        }
    }

    #[test]
    fn reads_are_tried_again_where_that_may_help() {
        assert_eq!(tries(116, 2), 2, "a stale handle");
        assert_eq!(tries(5, 9), TRIES, "a disk that is broken");
        assert_eq!(tries(2, 9), 1, "a file that is not there");
        assert_eq!(tries(13, 9), 1, "a file that is somebody else's");
    }

    #[test]
    fn pauses_grow() {
        let error = io::Error::from_raw_os_error(11);
        let pauses: Vec<Duration> = (1..=TRIES)
            .map_while(|tries| pause_after(&error, tries))
            .collect();
        assert_eq!(pauses.len(), 3);
        assert!(
            pauses.is_sorted() && pauses[2] <= 4 * FIRST_PAUSE,
            "{pauses:?}"
        );
    }
}
