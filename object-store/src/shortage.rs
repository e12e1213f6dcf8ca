//! What the system is short of: descriptors, memory. Others give back what one lacks, so it is tried again for a moment; and when that
//! is no help, people are told which limit it was.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::arena::ArenaError;

/// How often, and after which pause, it is tried again.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// Tries again for a moment what lacked a descriptor or memory. For threads that may wait for a second.
///
/// # Errors
/// The last one.
pub fn with_patience<T>(attempt: impl FnMut() -> Result<T, ArenaError>) -> Result<T, ArenaError> {
    until_there_is_enough(attempt)
}

pub(crate) fn until_there_is_enough<T, E: Error + 'static>(
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 0..TRIES {
        match attempt() {
            Err(error) if is_shortage(&error) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    attempt()
}

fn is_shortage(error: &(dyn Error + 'static)) -> bool {
    let errno = errno_of(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// What people can do about an error of the system that says little by itself.
pub(crate) fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    Some(match errno_of(error)? {
        Errno::MFILE => {
            "this process has as many files open as it may: raise its limit (ulimit -n), or let it close some"
        }
        Errno::NFILE => "this machine has as many files open as it may: raise fs.file-max",
        Errno::NOMEM => {
            "this process may not map more memory: raise vm.max_map_count, or its limit of memory, or drop views of objects"
        }
        // What touching a page would be a signal for.
        Errno::FAULT => "the file is shorter than it was, or its disk fails",
        _ => return None,
    })
}

pub(crate) fn errno_of(error: &(dyn Error + 'static)) -> Option<Errno> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(system) = error.downcast_ref::<io::Error>() {
            return system.raw_os_error().map(Errno::from_raw_os_error);
        }
        cause = error.source();
    }
    None
}
