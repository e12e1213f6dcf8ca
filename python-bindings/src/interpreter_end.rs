//! Waiting without the interpreter lock, also while the interpreter ends.
//!
//! An interpreter that ends unwinds every other thread that wants its lock, which frames of Rust do not survive: the process
//! would abort. So threads other than the ending one stay where they are, without the lock, until the process is gone. They
//! can only be daemon threads: Python has waited for all others before.
//!
//! ```text
//!   Running ── announce_end() ──► Ending ── the session is over, seal_end() ──► Over
//!              threads of the user stay          so do the runtime's own
//! ```
//! The runtime's own threads go on while the session is ended, whatever they call, because they print what workers have printed.
//! Both calls return when no thread is left that had found before that it may go on, and has yet to get the lock.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::prelude::*;

const RUNNING: usize = 0;
const ENDING: usize = 1;
const OVER: usize = 2;

static STATE: AtomicUsize = AtomicUsize::new(RUNNING);
/// The thread that ends the interpreter.
static ENDING_THREAD: Mutex<Option<ThreadId>> = Mutex::new(None);
/// Threads on their way from a wait to the lock.
static RETURNING: AtomicUsize = AtomicUsize::new(0);

/// A thread that has the lock for long holds up those that are on their way to it.
const RETURN_PATIENCE: Duration = Duration::from_secs(1);

thread_local! {
    /// From which state on the thread stays where it is.
    static STAYS_FROM: Cell<usize> = const { Cell::new(ENDING) };
}

/// The calling thread is one that the runtime needs until the session is over.
pub(crate) fn serve_the_session() {
    STAYS_FROM.set(OVER);
}

/// The calling thread is about to end the session, and the interpreter after it.
#[pyfunction]
pub(crate) fn announce_end(py: Python<'_>) {
    *ENDING_THREAD.lock() = Some(std::thread::current().id());
    enter(py, ENDING);
}

/// The session is over: nothing of the runtime goes on.
#[pyfunction]
pub(crate) fn seal_end(py: Python<'_>) {
    enter(py, OVER);
}

fn enter(py: Python<'_>, state: usize) {
    STATE.store(state, Ordering::SeqCst);
    let give_up_at = Instant::now() + RETURN_PATIENCE;
    while RETURNING.load(Ordering::SeqCst) > 0 && Instant::now() < give_up_at {
        py.detach(|| std::thread::sleep(Duration::from_micros(50)));
    }
}

/// Runs `wait` without the interpreter lock.
pub(crate) fn detached<T: Send>(py: Python<'_>, wait: impl FnOnce() -> T + Send) -> T {
    let (waited, returning) = py.detach(|| {
        let waited = wait();
        (waited, Returning::begin())
    });
    drop(returning);
    waited
}

/// Takes the interpreter lock in the middle of a wait.
pub(crate) fn attached<T>(work: impl FnOnce(Python<'_>) -> T) -> T {
    let returning = Returning::begin();
    let done = Python::try_attach(|py| {
        drop(returning);
        work(py)
    });
    done.unwrap_or_else(|| stay())
}

/// A thread that may take the lock, and does not have it yet.
struct Returning;

impl Returning {
    /// Does not return if the thread may not.
    fn begin() -> Self {
        RETURNING.fetch_add(1, Ordering::SeqCst);
        let returning = Self;
        if STATE.load(Ordering::SeqCst) >= STAYS_FROM.get() && !is_ending_thread() {
            drop(returning);
            stay();
        }
        returning
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        RETURNING.fetch_sub(1, Ordering::SeqCst);
    }
}

fn is_ending_thread() -> bool {
    *ENDING_THREAD.lock() == Some(std::thread::current().id())
}

fn stay() -> ! {
    loop {
        std::thread::park();
    }
}
