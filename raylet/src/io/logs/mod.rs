//! The output of workers: files that are followed while the workers live.
//!
//! A line that begins with [`SOURCE_MARK`](aktis_common::zygote::SOURCE_MARK) names what prints the lines after it.
//!
//! ```text
//!  worker ──writes──► file ──kernel tells──► follower ──reads a round──► raylet loop ──► drivers of the job
//!                      │                      (a thread of the pool)  ▲
//!                      └─ shortened at its limit                      └ at most ROOM bytes wait for it
//! ```
//! The kernel tells which files have grown, so a quiet node does nothing. Files are never read on the thread of the loop,
//! a round is bounded, and so is what waits: a worker that prints faster is left behind (`output`), nothing else is.

mod follower;
mod keeping;
mod output;
mod shorten;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aktis_common::ids::{JobId, WorkerId};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::core::keys::ConnectionId;
use crate::inbox::Mailbox;

pub(crate) use self::keeping::LogFolder;
pub use self::keeping::LogLimits;
use self::output::last_lines;

/// Drivers that may wait for the output of their workers at a time.
const MOST_FLUSHES: usize = 256;
/// Lines quoted from a log in an error.
const QUOTED_LINES: usize = 20;
/// Bytes that are looked at for them.
const QUOTED_BYTES: u64 = 8 << 10;

enum Order {
    Follow {
        worker: WorkerId,
    },
    End {
        worker: WorkerId,
        job: Option<JobId>,
    },
    Flush(Flush),
    Close,
}

/// What a driver wants to have before it ends.
pub(crate) struct Flush {
    /// The workers of its job, also those that have just ended.
    pub(crate) workers: Vec<WorkerId>,
    /// Who is answered.
    pub(crate) connection: ConnectionId,
    /// The number of its request.
    pub(crate) request_id: u64,
    /// One of [`MOST_FLUSHES`].
    pub(crate) turn: OwnedSemaphorePermit,
}

/// Follows log files in the background.
///
/// Its orders are few: two for each worker, whose starts and ends are the loop's, and as many flushes as there are turns.
#[derive(Debug)]
pub(crate) struct LogPort {
    folder: PathBuf,
    orders: mpsc::UnboundedSender<Order>,
    /// A permit is a byte of a line that waits for the loop.
    room: Arc<Semaphore>,
    flushes: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl LogPort {
    /// Follows files of `folder`, on `beside`.
    pub(crate) fn open(folder: LogFolder, mailbox: Mailbox, beside: &Handle) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        let path = folder.path.clone();
        let room = Arc::new(Semaphore::new(follower::ROOM));
        let follower = follower::Follower::new(folder, mailbox, Arc::clone(&room));
        let task = beside.spawn(follower.run(receiver));
        Self {
            folder: path,
            orders,
            room,
            flushes: Arc::new(Semaphore::new(MOST_FLUSHES)),
            task,
        }
    }

    /// File of a worker's standard output.
    pub(crate) fn stdout_path(&self, worker: WorkerId) -> PathBuf {
        stdout_path(&self.folder, worker)
    }

    /// A worker begins to write.
    pub(crate) fn follow(&self, worker: WorkerId) {
        let _ = self.orders.send(Order::Follow { worker });
    }

    /// The process of a worker has ended: what is in its files is the last of it.
    pub(crate) fn end(&self, worker: WorkerId, job: Option<JobId>) {
        let _ = self.orders.send(Order::End { worker, job });
    }

    /// A turn for a flush; `None` where so many wait already that one more would only make all of them wait longer.
    pub(crate) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.flushes).try_acquire_owned().ok()
    }

    /// Reads what the workers of a job have written, and answers the driver after it has been sent the lines.
    pub(crate) fn flush(&self, flush: Flush) {
        let _ = self.orders.send(Order::Flush(flush));
    }

    /// Ends the following, and leaves what is to be kept.
    pub(crate) async fn close(self) {
        // Nobody takes lines any more, so none may wait for room.
        self.room.close();
        let _ = self.orders.send(Order::Close);
        let _ = self.task.await;
    }
}

fn stdout_path(folder: &Path, worker: WorkerId) -> PathBuf {
    folder.join(format!("worker-{worker}.out"))
}

/// By the contract with the zygote: the same name with `.err`.
fn stderr_path(stdout: &Path) -> PathBuf {
    stdout.with_extension("err")
}

/// The last lines of a worker's two files, with their names; empty if both are.
fn last_words(stdout: &Path) -> String {
    let quoted = [stdout.to_owned(), stderr_path(stdout)].map(|path| {
        let lines = quote_file(&path);
        (!lines.is_empty()).then(|| format!("last lines of {}:\n{lines}", path.display()))
    });
    quoted.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// The last lines of a file; empty if it has none.
fn quote_file(path: &Path) -> String {
    last_lines(path, QUOTED_LINES, QUOTED_BYTES)
}

/// Whose last lines are to be in an error.
#[derive(Debug)]
pub(crate) enum Quoted {
    /// A worker, by the file of its standard output.
    Worker { stdout: PathBuf },
    /// The zygote, by its file.
    Zygote { log: PathBuf },
}

impl Quoted {
    /// Reads them: not on the thread of the loop, as a disk may take its time.
    pub(crate) fn read(&self) -> String {
        let stdout = match self {
            Self::Zygote { log } => {
                return format!("last lines of {}:\n{}", log.display(), quote_file(log));
            }
            Self::Worker { stdout } => stdout,
        };
        let quoted = last_words(stdout);
        match quoted.is_empty() {
            true => format!("its log files {} are empty", stderr_path(stdout).display()),
            false => quoted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::inbox::{Message, channel};

    #[tokio::test]
    async fn flood_of_flushes_is_refused_and_those_that_have_a_turn_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let limits = LogLimits {
            file_bytes: 1 << 20,
            total_bytes: 1 << 20,
            age: Duration::from_secs(60),
        };
        let (mailbox, mut inbox) = channel();
        let kept = LogFolder::hold(folder.path().to_owned(), None, limits);
        let port = LogPort::open(kept, mailbox, &Handle::current());
        let turns: Vec<_> = std::iter::from_fn(|| port.turn()).collect();
        assert_eq!(turns.len(), MOST_FLUSHES);
        for (request_id, turn) in (1..).zip(turns) {
            port.flush(Flush {
                workers: Vec::new(),
                connection: ConnectionId(1),
                request_id,
                turn,
            });
        }
        for _ in 0..MOST_FLUSHES {
            assert!(matches!(
                inbox.messages.recv().await,
                Some(Message::Send { .. })
            ));
        }
        while port.turn().is_none() {
            tokio::task::yield_now().await;
        }
        port.close().await;
    }
}
