//! The thread that keeps a ledger while its job runs: files are brought to the disk, and then said to be there (`LED-1`).
//!
//! In groups: one sync costs as much as many, and a job that is short is over before the first.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::book::{self, Book};
use super::durable;
use super::folder::{from_target, unfinished_folder};
use super::journal;
use super::ranges::DoneRanges;
use super::record::{Done, Entry, JudgedRows};
use crate::wire::spec::WrittenFile;

/// What is done waits so long, at least, until it is said.
const INTERVAL: Duration = Duration::from_millis(500);
/// And so many times as long as it took to say it last.
const RESTS: u32 = 10;

/// An input that is used up.
#[derive(Debug, Clone, Default)]
pub(super) struct DoneInput {
    pub(super) input: u64,
    pub(super) files: Vec<WrittenFile>,
    /// What expectations have found in it.
    pub(super) judged: Vec<JudgedRows>,
}

/// A ledger that is kept.
pub(super) struct Keeper {
    done: Sender<DoneInput>,
    thread: JoinHandle<(Book, HashSet<String>)>,
}

impl Keeper {
    /// Keeps this ledger from now on.
    pub(super) fn start(book: Book, target: &Path, prefix: &str) -> io::Result<Self> {
        let (done, inbox) = channel();
        let mut keeping = Keeping {
            book,
            target: target.to_owned(),
            prefix: prefix.to_owned(),
            inbox,
            synced: HashSet::new(),
            is_found: false,
        };
        let thread = std::thread::Builder::new().name("aktis-ledger".to_owned());
        let thread = thread.spawn(move || {
            keeping.run();
            (keeping.book, keeping.synced)
        })?;
        Ok(Self { done, thread })
    }

    /// One more input is used up.
    pub(super) fn add(&self, done: DoneInput) {
        // A keeper that has stopped because the disk is full says so at the end.
        let _ = self.done.send(done);
    }

    /// Ends it: the ledger, if it is there still, and the files that are on the disk.
    pub(super) fn end(self) -> (Option<Book>, HashSet<String>) {
        drop(self.done);
        match self.thread.join() {
            Ok((book, synced)) => (Some(book), synced),
            Err(_) => (None, HashSet::new()),
        }
    }
}

struct Keeping {
    book: Book,
    target: PathBuf,
    prefix: String,
    inbox: Receiver<DoneInput>,
    synced: HashSet<String>,
    /// The ledger's name is on the disk.
    is_found: bool,
}

impl Keeping {
    fn run(&mut self) {
        let mut rest = 2 * INTERVAL;
        while let Some(group) = self.next_group(rest) {
            let began = Instant::now();
            if let Err(error) = self.say_done(group) {
                // The job may end well all the same; if it does not, less of it is kept.
                tracing::warn!(%error, "what is done is not kept while the job runs");
            }
            rest = INTERVAL.max(RESTS * began.elapsed());
        }
    }

    /// What came within `rest`; `None` at the end, when whatever is left is synced by those who end the job.
    fn next_group(&self, rest: Duration) -> Option<Vec<DoneInput>> {
        let mut group = vec![self.inbox.recv().ok()?];
        let until = Instant::now() + rest;
        loop {
            match self
                .inbox
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(done) => group.push(done),
                Err(RecvTimeoutError::Timeout) => return Some(group),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn say_done(&mut self, group: Vec<DoneInput>) -> io::Result<()> {
        let job = self.target.join(unfinished_folder(&self.prefix));
        let files = group.iter().flat_map(|done| &done.files);
        let paths: Vec<&Path> = files.map(|file| Path::new(&file.unfinished)).collect();
        let mut folders = vec![job.clone()];
        if !self.is_found {
            folders.extend(book::folders(&self.target));
        }
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        durable::sync_together(&paths, &folders)?;
        self.is_found = true;
        let mut inputs = DoneRanges::default();
        group
            .iter()
            .for_each(|done| inputs.add(done.input, done.input + 1));
        let files = group.iter().flat_map(|done| done.files.iter().cloned());
        let judged = group.iter().flat_map(|done| done.judged.iter().copied());
        let entry = Entry::Done(done(&self.target, inputs.flat(), files, judged.collect()));
        self.book.write(entry)?;
        self.book.sync(&self.target, &self.prefix)?;
        journal::remove(&job, &group.iter().map(|done| done.input).collect());
        let files = group.into_iter().flat_map(|done| done.files);
        self.synced.extend(files.map(|file| file.unfinished));
        Ok(())
    }
}

/// These inputs and files as a ledger has them: with paths from the target on, wherever it is moved.
pub(super) fn done(
    target: &Path,
    inputs: Vec<u64>,
    files: impl Iterator<Item = WrittenFile>,
    judged: Vec<JudgedRows>,
) -> Done {
    let files = files.map(|file| WrittenFile {
        path: from_target(target, &file.path),
        unfinished: from_target(target, &file.unfinished),
        ..file
    });
    Done {
        inputs,
        files: files.collect(),
        judged,
    }
}
