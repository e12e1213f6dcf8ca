//! Waiting without the interpreter lock, also while the interpreter ends.
//!
//! An interpreter that ends unwinds every other thread that wants its lock, which frames of Rust do not survive: the process
//! would abort. So from the moment when the end is announced, threads other than the ending one stay where they are, without
//! the lock, until the process is gone. They can only be daemon threads: Python has waited for all others before.

use std::sync::OnceLock;
use std::thread::ThreadId;

use pyo3::prelude::*;

/// The thread that ends the interpreter.
static ENDING: OnceLock<ThreadId> = OnceLock::new();

/// The calling thread is about to end the interpreter.
#[pyfunction]
pub(crate) fn announce_end() {
    let _ = ENDING.set(std::thread::current().id());
}

/// Runs `wait` without the interpreter lock.
pub(crate) fn detached<T: Send>(py: Python<'_>, wait: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        let waited = wait();
        stay_if_ending();
        waited
    })
}

/// Takes the interpreter lock in the middle of a wait.
pub(crate) fn attached<T>(work: impl FnOnce(Python<'_>) -> T) -> T {
    stay_if_ending();
    match Python::try_attach(work) {
        Some(done) => done,
        None => stay(),
    }
}

fn stay_if_ending() {
    let is_other = |ending: &ThreadId| *ending != std::thread::current().id();
    if ENDING.get().is_some_and(is_other) {
        stay();
    }
}

fn stay() -> ! {
    loop {
        std::thread::park();
    }
}
