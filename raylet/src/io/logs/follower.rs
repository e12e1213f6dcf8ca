//! Reads what has grown.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::ids::{JobId, WorkerId};
use aktis_proto::v1::Done;
use aktis_proto::v1::node_frame::Kind;
use rustc_hash::FxHashMap;
use rustix::fs::inotify;
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc};

use super::output::{FRAGMENT_PATIENCE, Output, Round};
use super::{Flush, LogFolder, Order, last_words, stderr_path, stdout_path};
use crate::core::event::Event;
use crate::inbox::{Mailbox, Message};

/// How long lines are collected before they are sent.
const BUNDLE: Duration = Duration::from_millis(10);
/// How often files are looked at where the kernel does not tell.
const POLL: Duration = Duration::from_millis(200);
/// Bytes that are read in one round, of all files together.
const ROUND_BYTES: usize = 2 << 20;
/// Bytes of one file that are read in one round: at most and at least.
const MAX_SHARE_BYTES: usize = 256 << 10;
const MIN_SHARE_BYTES: usize = 8 << 10;
/// Bytes of lines that may wait for the loop. While they do, nothing is read.
pub(super) const ROOM: usize = 4 << 20;
/// Pieces of the kernel's news that are taken in at a time.
const MAX_NEWS: usize = 64;
/// How often it is looked at what is too old or too much.
const SWEEP_PERIOD: Duration = Duration::from_secs(30);

/// Both files of a worker.
type Outputs = [Output; 2];

/// The files of the workers that live.
pub(super) struct Follower {
    folder: Arc<LogFolder>,
    mailbox: Mailbox,
    outputs: FxHashMap<WorkerId, Outputs>,
    /// Files that have grown, or may have.
    grown: Grown,
    /// A permit is a byte of a line that waits for the loop.
    room: Arc<Semaphore>,
}

/// Which files are to be looked at.
#[derive(Debug, Default)]
struct Grown {
    names: HashSet<String>,
    is_all: bool,
}

impl Grown {
    fn is_meant(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        self.is_all || name.is_some_and(|name| self.names.contains(name))
    }
}

impl Follower {
    pub(super) fn new(folder: LogFolder, mailbox: Mailbox, room: Arc<Semaphore>) -> Self {
        Self {
            folder: Arc::new(folder),
            mailbox,
            outputs: FxHashMap::default(),
            grown: Grown::default(),
            room,
        }
    }

    /// Follows until it is told to close.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let watch = watch_folder(&self.folder.path);
        if let Err(error) = &watch {
            tracing::warn!(%error, "log files are polled: the kernel does not watch them");
        }
        let mut read_at = None;
        let mut sweep_at = tokio::time::Instant::now() + BUNDLE;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    None | Some(Order::Close) => break,
                    Some(Order::Follow { worker }) => self.follow(worker),
                    Some(Order::End { worker, job }) => self.end(worker, job).await,
                    Some(Order::Flush(flush)) => self.flush(flush).await,
                },
                () = growth(watch.as_ref().ok()), if read_at.is_none() && !self.outputs.is_empty() => {
                    read_at = Some(tokio::time::Instant::now() + BUNDLE);
                }
                () = sleep_until(read_at), if read_at.is_some() => {
                    take_news(watch.as_ref().ok(), &mut self.grown);
                    read_at = self.read_round().await.map(Into::into);
                }
                () = tokio::time::sleep_until(sweep_at) => {
                    sweep_at = tokio::time::Instant::now() + SWEEP_PERIOD;
                    self.sweep();
                }
            }
        }
        if let Some(folder) = Arc::into_inner(self.folder) {
            let _ = tokio::task::spawn_blocking(move || folder.leave()).await;
        }
    }

    fn follow(&mut self, worker: WorkerId) {
        let stdout = stdout_path(&self.folder.path, worker);
        let stderr = stderr_path(&stdout);
        self.outputs.insert(
            worker,
            [Output::new(stdout, false), Output::new(stderr, true)],
        );
    }

    /// Reads a part of what has come. Says when to read on without news: at once if a file has more.
    async fn read_round(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let grown = std::mem::take(&mut self.grown);
        let is_due = |output: &Output| {
            output.due().is_some_and(|due| due <= now) || grown.is_meant(&output.path)
        };
        let meant: Vec<WorkerId> = self
            .outputs
            .iter()
            .filter(|(_, outputs)| outputs.iter().any(is_due))
            .map(|(worker, _)| *worker)
            .collect();
        let share =
            (ROUND_BYTES / (2 * meant.len()).max(1)).clamp(MIN_SHARE_BYTES, MAX_SHARE_BYTES);
        let max_file_bytes = self.folder.limits().file_bytes;
        for worker in meant {
            let read = move |output: &mut Output| output.read(share, max_file_bytes, now);
            for name in self.pass_on(worker, read).await {
                self.grown.names.insert(name);
            }
        }
        if !self.grown.names.is_empty() {
            return Some(Instant::now());
        }
        let outputs = self.outputs.values().flatten();
        let due = outputs.filter_map(Output::due).min();
        due.map(|due| due.max(now + FRAGMENT_PATIENCE / 4))
    }

    /// Reads both files of a worker and sends the lines. Gives the names of those that have more.
    async fn pass_on(
        &mut self,
        worker: WorkerId,
        read: impl Fn(&mut Output) -> Round + Send + 'static,
    ) -> Vec<String> {
        let Some(mut outputs) = self.outputs.remove(&worker) else {
            return Vec::new();
        };
        let reading = tokio::task::spawn_blocking(move || {
            let rounds = outputs.each_mut().map(read);
            (outputs, rounds)
        });
        let Ok((outputs, rounds)) = reading.await else {
            return Vec::new();
        };
        let mut behind = Vec::new();
        for (output, round) in outputs.iter().zip(rounds) {
            if round.is_behind {
                let name = output.path.file_name().unwrap_or_default();
                behind.push(name.to_string_lossy().into_owned());
            }
            self.send(worker, output.is_stderr, round).await;
        }
        self.outputs.insert(worker, outputs);
        behind
    }

    /// Sends lines; waits while the loop is behind with them.
    async fn send(&self, worker: WorkerId, is_stderr: bool, round: Round) {
        for bundle in round.bundles {
            let bytes: usize = bundle.lines.iter().map(|line| line.len() + 1).sum();
            let wanted = u32::try_from(bytes.clamp(1, ROOM)).unwrap_or(1);
            let Ok(room) = Arc::clone(&self.room).acquire_many_owned(wanted).await else {
                return;
            };
            self.mailbox.send(Message::LogLines {
                worker,
                is_stderr,
                source: bundle.source,
                lines: bundle.lines,
                room: Some(room),
            });
        }
    }

    /// The process is gone: the rest of its lines, and its last words.
    async fn end(&mut self, worker: WorkerId, job: Option<JobId>) {
        self.pass_on(worker, |output| output.read_to_end(MAX_SHARE_BYTES))
            .await;
        self.outputs.remove(&worker);
        let stdout = stdout_path(&self.folder.path, worker);
        let folder = Arc::clone(&self.folder);
        let closing = tokio::task::spawn_blocking(move || {
            let words = last_words(&stdout);
            for path in [&stdout, &stderr_path(&stdout)] {
                folder.close_file(path);
            }
            words
        });
        let words = closing.await.unwrap_or_default();
        let last_words = job.map(|_| words).unwrap_or_default();
        self.mailbox.event(Event::LogEnded { worker, last_words });
    }

    /// Sends what the workers of a job have written, and then says so.
    async fn flush(&mut self, flush: Flush) {
        for worker in flush.workers {
            self.pass_on(worker, |output| output.read_to_end(MAX_SHARE_BYTES))
                .await;
        }
        self.mailbox.send(Message::Send {
            connection: flush.connection,
            request_id: flush.request_id,
            kind: Kind::Done(Done {}),
        });
        drop(flush.turn);
    }

    /// Removes what is too old or too much, in the background.
    fn sweep(&self) {
        let outputs = self.outputs.values().flatten();
        let written: HashSet<PathBuf> = outputs.map(|output| output.path.clone()).collect();
        let own = [self.folder.path.join("zygote.log")];
        let written = written.into_iter().chain(own).collect();
        let folder = Arc::clone(&self.folder);
        tokio::task::spawn_blocking(move || folder.sweep(&written));
    }
}

/// The kernel's news of files that grow. They are read like a pipe.
fn watch_folder(folder: &Path) -> io::Result<pipe::Receiver> {
    let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
    let descriptor = inotify::init(flags)?;
    inotify::add_watch(&descriptor, folder, inotify::WatchFlags::MODIFY)?;
    pipe::Receiver::from_owned_fd_unchecked(descriptor)
}

/// Waits until a file may have grown.
async fn growth(watch: Option<&pipe::Receiver>) {
    match watch {
        Some(watch) => {
            let _ = watch.readable().await;
        }
        None => tokio::time::sleep(POLL).await,
    }
}

/// Takes in which files the kernel says have grown; all of them where it does not.
fn take_news(watch: Option<&pipe::Receiver>, grown: &mut Grown) {
    let Some(watch) = watch else {
        grown.is_all = true;
        return;
    };
    let mut news = [0; 16 << 10];
    // Not until there are none: who writes makes more meanwhile.
    for _ in 0..MAX_NEWS {
        match watch.try_read(&mut news) {
            Ok(count @ 1..) => take_events(&news[..count], grown),
            _ => return,
        }
    }
}

/// `struct inotify_event`: watch, mask, cookie and length of the name, four bytes each; then the name, filled up with
/// zeros.
fn take_events(mut news: &[u8], grown: &mut Grown) {
    const HEADER: usize = 16;
    const OVERFLOW: u32 = 0x4000;
    let word = |at: usize, news: &[u8]| {
        let bytes = news.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_ne_bytes)
    };
    while news.len() >= HEADER {
        let length = word(12, news) as usize;
        grown.is_all |= word(4, news) & OVERFLOW != 0;
        let end = (HEADER + length).min(news.len());
        let name = news[HEADER..end].split(|byte| *byte == 0).next();
        if let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()) {
            grown.names.insert(name.to_owned());
        }
        news = &news[end..];
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
