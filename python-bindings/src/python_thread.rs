//! Python code that the runtime has to run, on threads of its own.
//!
//! Threads that poll the sockets must not run Python (`LANE-5 (polling-runs-no-python)`). They would wait for the interpreter
//! lock, or for whatever the code waits for, while nobody reads what would end that wait: a finaliser that the cyclic
//! collector runs may call `get()`, and standard output may be a full pipe. The thread that polls may also be the main one,
//! where a handler of a signal would raise into the runtime's code instead of the user's.
//!
//! ```text
//!   polling thread ─► PythonThread.run(work) ─► queue ─► thread: takes the interpreter lock, runs the work, in order
//! ```

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::prelude::*;

/// Something to run with the interpreter lock.
type Work = Box<dyn FnOnce(Python<'_>) + Send>;

/// Completions of futures and cancellations in async actors.
pub(crate) static CALLBACKS: PythonThread = PythonThread::new("aktis-callbacks", usize::MAX);
/// Lines that workers printed. Whoever reads them too slowly loses some, instead of memory growing.
pub(crate) static OUTPUT: PythonThread = PythonThread::new("aktis-output", 4096);

/// A thread that is started by its first work and ended by [`PythonThread::finish`].
pub(crate) struct PythonThread {
    name: &'static str,
    most_waiting: usize,
    running: Mutex<Option<Running>>,
}

struct Running {
    work: Sender<Work>,
    /// A token is held by each piece of work that is not done.
    waiting: Arc<()>,
    thread: JoinHandle<()>,
}

impl PythonThread {
    const fn new(name: &'static str, most_waiting: usize) -> Self {
        Self {
            name,
            most_waiting,
            running: Mutex::new(None),
        }
    }

    /// Queues the work. False: too much waits already, or the system gives no thread.
    pub(crate) fn run(&self, work: impl FnOnce(Python<'_>) + Send + 'static) -> bool {
        let mut running = self.running.lock();
        if running.is_none() {
            match self.start() {
                Ok(started) => *running = Some(started),
                Err(error) => {
                    tracing::error!(%error, thread = self.name, "failed to start a thread");
                    return false;
                }
            }
        }
        let Some(running) = &*running else {
            return false;
        };
        if Arc::strong_count(&running.waiting) > self.most_waiting {
            return false;
        }
        let token = Arc::clone(&running.waiting);
        let work = move |py: Python<'_>| {
            work(py);
            drop(token);
        };
        running.work.send(Box::new(work)).is_ok()
    }

    fn start(&self) -> std::io::Result<Running> {
        let (work, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(self.name.to_owned())
            .spawn(move || serve(&queue))?;
        Ok(Running {
            work,
            waiting: Arc::new(()),
            thread,
        })
    }

    /// Runs what waits and ends the thread. One that is still busy after `patience` is left to itself. To be called without
    /// the interpreter lock.
    pub(crate) fn finish(&self, patience: Duration) {
        let Some(Running { work, thread, .. }) = self.running.lock().take() else {
            return;
        };
        drop(work);
        let give_up_at = Instant::now() + patience;
        let mut pause = Duration::from_micros(50);
        while !thread.is_finished() {
            if Instant::now() >= give_up_at {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }
}

fn serve(queue: &Receiver<Work>) {
    while let Ok(work) = queue.recv() {
        // None: the interpreter is ending, and with it whoever waited for this.
        let is_alive = Python::try_attach(|py| {
            work(py);
            while let Ok(work) = queue.try_recv() {
                work(py);
            }
        });
        if is_alive.is_none() {
            return;
        }
    }
}
