//! The threads of a daemon, by duty.
//!
//! ```text
//!  main           signals; starts and ends the others
//!  aktis-gcs      the loop of the gcs (a head's)
//!  aktis-raylet   the loop of the raylet, the frames of its processes, what says that the node lives
//!  aktis-beside   some: connections with others, copies, lanes to other nodes, output
//!  tokio's own    files
//! ```
//! What takes long runs beside the loops and speaks with them by channels: nothing that a worker or a peer does holds a loop up
//! ([ADR 083](../../../docs/adr/083-daemons-have-threads-by-duty.md)).

use std::future::Future;
use std::io;
use std::num::NonZero;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Threads beside the loops: two at least, so that one long step holds nothing else up, and no more than copies can use.
const BESIDE: std::ops::RangeInclusive<usize> = 2..=4;

/// All of them. They end with this, without being waited for: the process is about to end.
pub(super) struct Threads {
    pub(super) gcs: LoopThread,
    pub(super) raylet: LoopThread,
    beside: Option<Runtime>,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(super) fn start() -> io::Result<Self> {
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let beside = Builder::new_multi_thread()
            .worker_threads(cpus.clamp(*BESIDE.start(), *BESIDE.end()))
            .thread_name("aktis-beside")
            .enable_all()
            .build()?;
        Ok(Self {
            gcs: LoopThread::start("aktis-gcs")?,
            raylet: LoopThread::start("aktis-raylet")?,
            beside: Some(beside),
        })
    }

    /// The runtime beside the loops.
    pub(super) fn beside(&self) -> Handle {
        let beside = self.beside.as_ref().expect("it is there until the drop");
        beside.handle().clone()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Work that hangs must not keep the process.
        if let Some(beside) = self.beside.take() {
            beside.shutdown_background();
        }
    }
}

/// A thread with a runtime of its own.
pub(super) struct LoopThread {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl LoopThread {
    fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
            })?;
        Ok(Self {
            handle,
            _stop: stop,
        })
    }

    /// Runs `work` on the thread. What it spawns stays there.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self.handle.spawn(work).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
