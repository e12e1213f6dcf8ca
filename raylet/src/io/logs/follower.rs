//! Reads what has grown.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use aktis_common::ids::WorkerId;
use aktis_common::zygote::SOURCE_MARK;
use aktis_proto::v1::Done;
use aktis_proto::v1::node_frame::Kind;
use rustc_hash::FxHashMap;
use rustix::fs::inotify;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::{Epitaph, Flush, Order, stderr_path, stdout_path};
use crate::inbox::{Mailbox, Message};

/// How long lines are collected before they are sent.
const BUNDLE: Duration = Duration::from_millis(10);
/// How often files are looked at where the kernel does not tell.
const POLL: Duration = Duration::from_millis(200);
/// How long the last output of a worker may come after the end of its connection.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Bytes of a file that are read in one round.
const ROUND_BYTES: usize = 256 << 10;
/// A longer line is cut.
const MAX_LINE_BYTES: usize = 64 << 10;

/// One file of a worker.
struct Output {
    path: PathBuf,
    is_stderr: bool,
    offset: u64,
    unfinished: Vec<u8>,
    /// What the last mark said.
    source: String,
}

/// Lines of one source.
struct Lines {
    source: String,
    lines: Vec<String>,
}

/// The files of the workers that live.
pub(super) struct Follower {
    folder: PathBuf,
    mailbox: Mailbox,
    outputs: FxHashMap<WorkerId, [Output; 2]>,
    endings: Vec<(tokio::time::Instant, WorkerId, Option<Epitaph>)>,
}

impl Follower {
    pub(super) fn new(folder: PathBuf, mailbox: Mailbox) -> Self {
        Self {
            folder,
            mailbox,
            outputs: FxHashMap::default(),
            endings: Vec::new(),
        }
    }

    /// Follows until nobody gives orders any more.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let watch = watch_folder(&self.folder);
        if let Err(error) = &watch {
            tracing::warn!(%error, "log files are polled: the kernel does not watch them");
        }
        let mut read_at = None;
        loop {
            let next_ending = self.endings.iter().map(|(at, ..)| *at).min();
            tokio::select! {
                order = orders.recv() => match order {
                    None => return,
                    Some(Order::Follow { worker }) => self.follow(worker),
                    Some(Order::End { worker, epitaph }) => {
                        self.endings.push((tokio::time::Instant::now() + LAST_WORDS, worker, epitaph));
                    }
                    Some(Order::Flush(flush)) => self.flush(flush),
                },
                () = growth(watch.as_ref().ok()), if read_at.is_none() && !self.outputs.is_empty() => {
                    read_at = Some(tokio::time::Instant::now() + BUNDLE);
                }
                () = sleep_until(read_at), if read_at.is_some() => {
                    read_at = None;
                    if let Ok(watch) = &watch {
                        drain(watch);
                    }
                    self.read_all();
                }
                () = sleep_until(next_ending), if next_ending.is_some() => self.end_due(),
            }
        }
    }

    fn follow(&mut self, worker: WorkerId) {
        let stdout = stdout_path(&self.folder, worker);
        let stderr = stderr_path(&stdout);
        let output = |path, is_stderr| Output {
            path,
            is_stderr,
            offset: 0,
            unfinished: Vec::new(),
            source: String::new(),
        };
        self.outputs
            .insert(worker, [output(stdout, false), output(stderr, true)]);
    }

    fn read_all(&mut self) {
        for (worker, outputs) in &mut self.outputs {
            for output in outputs {
                output.pass_on(*worker, None, &self.mailbox);
            }
        }
    }

    fn end_due(&mut self) {
        let now = tokio::time::Instant::now();
        self.end_if(|at, _| at <= now);
    }

    fn end_if(&mut self, is_due: impl Fn(tokio::time::Instant, &Option<Epitaph>) -> bool) {
        let due: Vec<_> = self
            .endings
            .extract_if(.., |(at, _, epitaph)| is_due(*at, epitaph))
            .collect();
        for (_, worker, epitaph) in due {
            self.end(worker, epitaph);
        }
    }

    fn end(&mut self, worker: WorkerId, epitaph: Option<Epitaph>) {
        for mut output in self.outputs.remove(&worker).into_iter().flatten() {
            output.pass_on_all(worker, epitaph, &self.mailbox);
        }
    }

    /// Sends what the workers of a job have written, and then says so.
    fn flush(&mut self, flush: Flush) {
        let Flush {
            job,
            workers,
            connection,
            request_id,
        } = flush;
        self.end_if(|_, epitaph| epitaph.is_some_and(|epitaph| epitaph.job == job));
        for worker in workers {
            for output in self.outputs.get_mut(&worker).into_iter().flatten() {
                output.pass_on_all(worker, None, &self.mailbox);
            }
        }
        self.mailbox.send(Message::Send {
            connection,
            request_id,
            kind: Kind::Done(Done {}),
        });
    }
}

impl Output {
    /// Sends the lines that have come.
    fn pass_on(&mut self, worker: WorkerId, epitaph: Option<Epitaph>, mailbox: &Mailbox) {
        while let Some(bundles) = self.read_lines() {
            for lines in bundles {
                self.send(lines, worker, epitaph, mailbox);
            }
        }
    }

    /// Also the last line, if it has no end.
    fn pass_on_all(&mut self, worker: WorkerId, epitaph: Option<Epitaph>, mailbox: &Mailbox) {
        self.pass_on(worker, epitaph, mailbox);
        if !self.unfinished.is_empty() {
            let line = String::from_utf8_lossy(&self.unfinished).into_owned();
            self.unfinished.clear();
            let mut bundles = Vec::new();
            self.take_line(line, &mut bundles);
            for lines in bundles {
                self.send(lines, worker, epitaph, mailbox);
            }
        }
    }

    fn send(&self, lines: Lines, worker: WorkerId, epitaph: Option<Epitaph>, mailbox: &Mailbox) {
        let Lines { source, lines } = lines;
        mailbox.send(Message::LogLines {
            worker,
            is_stderr: self.is_stderr,
            source,
            lines,
            epitaph,
        });
    }

    /// The complete lines of the next round; `None` when nothing has grown.
    fn read_lines(&mut self) -> Option<Vec<Lines>> {
        let file = File::open(&self.path).ok()?;
        let mut buffer = vec![0; ROUND_BYTES];
        let count = file
            .read_at(&mut buffer, self.offset)
            .ok()
            .filter(|count| *count > 0)?;
        self.offset += count as u64;
        let mut bundles: Vec<Lines> = Vec::new();
        for piece in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            self.unfinished.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.unfinished.len() > MAX_LINE_BYTES {
                let line = String::from_utf8_lossy(&self.unfinished);
                let line = line.trim_end_matches(['\n', '\r']).to_owned();
                self.unfinished.clear();
                self.take_line(line, &mut bundles);
            }
        }
        Some(bundles)
    }

    fn take_line(&mut self, line: String, bundles: &mut Vec<Lines>) {
        if let Some(source) = line.strip_prefix(SOURCE_MARK) {
            source.clone_into(&mut self.source);
            return;
        }
        match bundles.last_mut() {
            Some(bundle) if bundle.source == self.source => bundle.lines.push(line),
            _ => bundles.push(Lines {
                source: self.source.clone(),
                lines: vec![line],
            }),
        }
    }
}

/// The kernel's news of files that grow. They are read like a pipe.
fn watch_folder(folder: &std::path::Path) -> io::Result<pipe::Receiver> {
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

/// Takes in what the kernel told: all files are looked at anyway.
fn drain(watch: &pipe::Receiver) {
    let mut news = [0; 4096];
    while watch.try_read(&mut news).is_ok_and(|count| count > 0) {}
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_name_the_lines_after_them_and_are_not_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.out");
        let text = format!("start\n{SOURCE_MARK}load\none\ntwo\n{SOURCE_MARK}save\nthree\nfo");
        std::fs::write(&path, text).unwrap();
        let mut output = Output {
            path,
            is_stderr: false,
            offset: 0,
            unfinished: Vec::new(),
            source: String::new(),
        };
        let bundles = output.read_lines().unwrap();
        let said: Vec<_> = bundles
            .iter()
            .map(|bundle| (bundle.source.as_str(), bundle.lines.join(",")))
            .collect();
        let expected = [("", "start"), ("load", "one,two"), ("save", "three")];
        assert_eq!(
            said,
            expected.map(|(source, lines)| (source, lines.to_owned()))
        );
        assert_eq!(output.unfinished, b"fo");
    }
}
