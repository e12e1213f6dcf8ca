//! The output of workers: files that are followed while the workers live.
//!
//! A line that begins with [`SOURCE_MARK`] names what prints the lines after it.
//!
//! The kernel tells which files have grown, so a quiet node does nothing. Lines are bundled for a few milliseconds.

mod follower;

use std::path::{Path, PathBuf};

use aktis_common::ids::{JobId, WorkerId};
use aktis_common::zygote::SOURCE_MARK;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::core::keys::ConnectionId;
use crate::inbox::Mailbox;

/// Lines quoted from a log in an error.
const QUOTED_LINES: usize = 20;
/// Bytes that are looked at for them.
const QUOTED_BYTES: u64 = 8 << 10;

/// Whose lines a driver gets once the worker is gone from the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epitaph {
    /// The job it served.
    pub(crate) job: JobId,
    /// Its process id.
    pub(crate) pid: u32,
}

enum Order {
    Follow {
        worker: WorkerId,
    },
    End {
        worker: WorkerId,
        epitaph: Option<Epitaph>,
    },
    Flush(Flush),
}

/// What a driver wants to have before it ends.
pub(crate) struct Flush {
    /// Its job.
    pub(crate) job: JobId,
    /// The living workers of the job.
    pub(crate) workers: Vec<WorkerId>,
    /// Who is answered.
    pub(crate) connection: ConnectionId,
    /// The number of its request.
    pub(crate) request_id: u64,
}

/// Follows log files in the background.
#[derive(Debug)]
pub(crate) struct LogPort {
    folder: PathBuf,
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

impl LogPort {
    /// Follows files of `folder`.
    pub(crate) fn open(folder: PathBuf, mailbox: Mailbox) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        let follower = follower::Follower::new(folder.clone(), mailbox);
        let task = tokio::spawn(follower.run(receiver));
        Self {
            folder,
            orders,
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

    /// A worker is gone: what is left in its files is the last of it.
    pub(crate) fn end(&self, worker: WorkerId, epitaph: Option<Epitaph>) {
        let _ = self.orders.send(Order::End { worker, epitaph });
    }

    /// Reads what the workers of a job have written, and answers the driver after it has been sent the lines.
    pub(crate) fn flush(&self, flush: Flush) {
        let _ = self.orders.send(Order::Flush(flush));
    }

    /// The last lines of a worker's files, for an error message.
    pub(crate) fn quote(&self, worker: WorkerId) -> String {
        let stdout = self.stdout_path(worker);
        let stderr = stderr_path(&stdout);
        let quoted = [&stderr, &stdout].map(|path| quote_file(path));
        match quoted.iter().find(|text| !text.is_empty()) {
            Some(text) => format!("last lines of {}:\n{text}", stderr.display()),
            None => format!("its log files {} are empty", stderr.display()),
        }
    }

    /// Ends the following.
    pub(crate) fn close(self) {
        self.task.abort();
    }
}

fn stdout_path(folder: &Path, worker: WorkerId) -> PathBuf {
    folder.join(format!("worker-{worker}.out"))
}

/// By the contract with the zygote: the same name with `.err`.
fn stderr_path(stdout: &Path) -> PathBuf {
    stdout.with_extension("err")
}

/// The last lines of a file; empty if it has none.
pub(crate) fn quote_file(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(QUOTED_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(QUOTED_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with(SOURCE_MARK))
        .collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quote_has_the_last_lines_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let text: String = (0..1_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let quoted = quote_file(&path);
        assert!(
            quoted.starts_with("line 980\n") && quoted.ends_with("line 999"),
            "{quoted}"
        );
        assert_eq!(quote_file(&folder.path().join("none")), "");
    }
}
