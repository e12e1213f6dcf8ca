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
use super::left_out::LeftOut;
use super::ranges::DoneRanges;
use super::record::{Done, Entry, JudgedRows};
use super::spans::DonePart;
use crate::wire::spec::WrittenFile;

/// What is done first waits so long until it is said: a job that is over before says all at once.
const FIRST: Duration = Duration::from_secs(1);
/// Later, what is done waits so long, at least: it is done again where nobody notes it in another way.
const INTERVAL: Duration = Duration::from_millis(100);
/// And so many times as long as it took to say it last.
const RESTS: u32 = 10;

/// What is done.
#[derive(Default)]
pub(super) struct News {
    /// Inputs of the source.
    pub(super) inputs: DoneRanges,
    /// Of jobs of several stages.
    pub(super) parts: Vec<DonePart>,
    pub(super) files: Vec<WrittenFile>,
    /// What expectations have found in these inputs.
    pub(super) judged: Vec<JudgedRows>,
    pub(super) left_out: Vec<LeftOut>,
}

impl News {
    fn add(&mut self, more: Self) {
        for range in more.inputs.flat().chunks_exact(2) {
            self.inputs.add(range[0], range[1]);
        }
        self.parts.extend(more.parts);
        self.files.extend(more.files);
        self.judged.extend(more.judged);
        self.left_out.extend(more.left_out);
    }

    /// The numbers of inputs of the last stage that need no journal any more.
    fn journaled(&self) -> HashSet<u64> {
        let inputs = self.inputs.flat();
        let inputs = inputs.chunks_exact(2).flat_map(|range| range[0]..range[1]);
        let outputs = self.parts.iter().flat_map(|part| &part.outputs);
        inputs.chain(outputs.copied()).collect()
    }
}

/// A ledger that is kept.
pub(super) struct Keeper {
    done: Sender<News>,
    thread: JoinHandle<KeeperEnd>,
}

/// What a keeper leaves at its end.
#[derive(Default)]
pub(super) struct KeeperEnd {
    /// The ledger, if it is there still.
    pub(super) book: Option<Book>,
    /// Files that are on the disk.
    pub(super) synced: HashSet<String>,
    /// What was not said of rows that were left out. All else is said once more by those who end the job.
    pub(super) left_out: Vec<LeftOut>,
}

impl Keeper {
    /// Keeps this ledger from now on. `folders`: of all outputs of the job, of which the first has the ledger.
    pub(super) fn start(book: Book, folders: Vec<PathBuf>, prefix: &str) -> io::Result<Self> {
        let (done, inbox) = channel();
        let mut keeping = Keeping {
            book,
            folders,
            prefix: prefix.to_owned(),
            inbox,
            synced: HashSet::new(),
            is_found: false,
            unsaid: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("aktis-ledger".to_owned());
        let thread = thread.spawn(move || {
            keeping.run();
            KeeperEnd {
                book: Some(keeping.book),
                synced: keeping.synced,
                left_out: keeping.unsaid,
            }
        })?;
        Ok(Self { done, thread })
    }

    /// More is done.
    pub(super) fn add(&self, news: News) {
        // A keeper that has stopped because the disk is full says so at the end.
        let _ = self.done.send(news);
    }

    /// Ends it.
    pub(super) fn end(self) -> KeeperEnd {
        drop(self.done);
        // Without the ledger that a thread had which panicked, nothing more is said.
        self.thread.join().unwrap_or_default()
    }
}

struct Keeping {
    book: Book,
    folders: Vec<PathBuf>,
    prefix: String,
    inbox: Receiver<News>,
    synced: HashSet<String>,
    /// The ledger's name is on the disk.
    is_found: bool,
    /// What was left out, and is not in the ledger for certain.
    unsaid: Vec<LeftOut>,
}

impl Keeping {
    fn run(&mut self) {
        let mut rest = FIRST;
        while let Some(group) = self.next_group(rest) {
            let began = Instant::now();
            let left_out = group.left_out.clone();
            if let Err(error) = self.say_done(group) {
                self.unsaid.extend(left_out);
                // The job may end well all the same; if it does not, less of it is kept.
                tracing::warn!(%error, "what is done is not kept while the job runs");
            }
            rest = INTERVAL.max(RESTS * began.elapsed());
        }
    }

    /// What came within `rest`; `None` at the end, when whatever is left is synced by those who end the job.
    fn next_group(&mut self, rest: Duration) -> Option<News> {
        let mut group = self.inbox.recv().ok()?;
        let until = Instant::now() + rest;
        loop {
            match self
                .inbox
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(more) => group.add(more),
                Err(RecvTimeoutError::Timeout) => return Some(group),
                Err(RecvTimeoutError::Disconnected) => {
                    self.unsaid.extend(group.left_out);
                    return None;
                }
            }
        }
    }

    fn say_done(&mut self, group: News) -> io::Result<()> {
        let jobs = self.folders.iter();
        let jobs: Vec<PathBuf> = jobs
            .map(|folder| folder.join(unfinished_folder(&self.prefix)))
            .collect();
        let files = group.files.iter();
        let paths: Vec<&Path> = files.map(|file| Path::new(&file.unfinished)).collect();
        let mut folders = jobs.clone();
        if !self.is_found {
            folders.extend(self.folders.iter().flat_map(|folder| book::folders(folder)));
        }
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        durable::sync_together(&paths, &folders)?;
        self.is_found = true;
        let journaled = group.journaled();
        let files = group.files.iter().map(|file| file.unfinished.clone());
        let synced: Vec<String> = files.collect();
        let entry = Entry::Done(done(&self.folders, group));
        self.book.write(entry)?;
        self.book.sync(&self.folders[0], &self.prefix)?;
        journal::remove(&jobs[0], &journaled);
        self.synced.extend(synced);
        Ok(())
    }
}

/// What is done as a ledger has it: with paths from the folders of the outputs on, wherever these are moved.
pub(super) fn done(folders: &[PathBuf], news: News) -> Done {
    let files = news.files.into_iter().map(|file| {
        let folder = folder_of(folders, &file);
        WrittenFile {
            path: from_target(folder, &file.path),
            unfinished: from_target(folder, &file.unfinished),
            ..file
        }
    });
    Done {
        inputs: news.inputs.flat(),
        files: files.collect(),
        judged: news.judged,
        parts: news.parts,
        left_out: news.left_out,
    }
}

/// The folder of the output that the file is of.
pub(super) fn folder_of<'a>(folders: &'a [PathBuf], file: &WrittenFile) -> &'a Path {
    let output = usize::try_from(file.output).ok();
    let folder = output.and_then(|output| folders.get(output));
    folder.unwrap_or(&folders[0])
}
