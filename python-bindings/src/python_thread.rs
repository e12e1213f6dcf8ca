//! Python code that the runtime has to run, on threads of its own.
//!
//! Threads that poll the sockets must not run Python (`LANE-5 (polling-runs-no-python)`). They would wait for the interpreter
//! lock, or for whatever the code waits for, while nobody reads what would end that wait: a finaliser that the cyclic
//! collector runs may call `get()`, and standard output may be a full pipe. The thread that polls may also be the main one,
//! where a handler of a signal would raise into the runtime's code instead of the user's.
//!
//! ```text
//!   polling thread ─► PythonThread.run(work) ─► queue ─► aktis._process.threads: take() one after the other, and call it
//! ```
//! The threads are Python's, since the interpreter, when it ends, unwinds every other thread that wants its lock, and must not
//! do so through frames of Rust.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::interpreter_end::{detached, serve_the_session};

/// What is to be called, and with which arguments. Made on the thread that calls it.
pub(crate) type Call = (Py<PyAny>, Py<PyTuple>);
type Work = Box<dyn FnOnce(Python<'_>) -> PyResult<Call> + Send>;

/// Completions of futures and cancellations in async actors.
pub(crate) static CALLBACKS: PythonThread = PythonThread::new("aktis-callbacks", usize::MAX);
/// Lines that workers printed. Whoever reads them too slowly loses some, instead of memory growing.
pub(crate) static OUTPUT: PythonThread = PythonThread::new("aktis-output", 4096);

/// A daemon thread of Python, from [`PythonThread::start`] to [`PythonThread::finish`].
pub(crate) struct PythonThread {
    name: &'static str,
    most_waiting: usize,
    running: Mutex<Option<Running>>,
}

struct Running {
    work: Sender<(Work, Arc<()>)>,
    /// Held by each piece of work that is not begun.
    waiting: Arc<()>,
    /// Its last holder is the thread.
    is_alive: std::sync::Weak<()>,
}

impl PythonThread {
    const fn new(name: &'static str, most_waiting: usize) -> Self {
        Self {
            name,
            most_waiting,
            running: Mutex::new(None),
        }
    }

    /// Starts the thread if it does not run.
    pub(crate) fn start(&self, py: Python<'_>) -> PyResult<()> {
        let queue = {
            let mut running = self.running.lock();
            if running.is_some() {
                return Ok(());
            }
            let (work, queue) = mpsc::channel();
            let alive = Arc::new(());
            *running = Some(Running {
                work,
                waiting: Arc::new(()),
                is_alive: Arc::downgrade(&alive),
            });
            WorkQueue {
                work: Mutex::new(queue),
                _alive: alive,
            }
        };
        let threads = py.import("aktis._process.threads")?;
        threads.call_method1("start", (self.name, queue)).map(drop)
    }

    pub(crate) fn is_started(&self) -> bool {
        self.running.lock().is_some()
    }

    /// Queues work for the thread, and waits for nothing (`LANE-5`). False: too much waits already, or the thread was not started.
    pub(crate) fn run(
        &self,
        work: impl FnOnce(Python<'_>) -> PyResult<Call> + Send + 'static,
    ) -> bool {
        let running = self.running.lock();
        let Some(running) = &*running else {
            return false;
        };
        if Arc::strong_count(&running.waiting) > self.most_waiting {
            return false;
        }
        let token = Arc::clone(&running.waiting);
        running.work.send((Box::new(work), token)).is_ok()
    }

    /// Has the thread do what waits, and end. One that is still busy after `patience` is left to itself. To be called without
    /// the interpreter lock.
    pub(crate) fn finish(&self, patience: Duration) {
        let Some(Running { work, is_alive, .. }) = self.running.lock().take() else {
            return;
        };
        drop(work);
        let give_up_at = Instant::now() + patience;
        let mut pause = Duration::from_micros(50);
        while is_alive.strong_count() > 0 && Instant::now() < give_up_at {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }
}

/// What a thread of `aktis._process.threads` works off.
#[pyclass(module = "aktis._aktis", frozen)]
pub(crate) struct WorkQueue {
    work: Mutex<Receiver<(Work, Arc<()>)>>,
    /// Gone when the thread has let go of the queue.
    _alive: Arc<()>,
}

#[pymethods]
impl WorkQueue {
    /// The next function to call, and its arguments; waits for it. None: nothing will come any more.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Call>> {
        serve_the_session();
        let taken = detached(py, || self.work.lock().recv());
        match taken {
            Ok((work, token)) => {
                drop(token);
                work(py).map(Some)
            }
            Err(_) => Ok(None),
        }
    }
}
