//! The output of one job, which becomes visible as a whole or not at all.
//!
//! ```text
//!  target/                          what readers see
//!    <prefix>_000000_000000.parquet
//!    _aktis/<prefix>.ledger         what is done, and what becomes visible; gone when the job is over
//!    _dead_letters/                 rows that functions failed for: <prefix>_000000.parquet
//!    .unfinished-<prefix>/          the job's own folder; readers pass over names with a dot
//!      job                          locked as long as the driver lives; says on which start of which machine
//!      <attempt>-<name>             files of workers
//!      legs/                        of a job in legs: a target for each
//!      old/                         while it is committed: what the new files replace
//!    .finished-<prefix>/            committed, about to be removed
//!    .begun-<prefix>/               not locked yet: nothing but `job` in it
//! ```
//! A commit says in the ledger which names will change, moves the old entries into `old` (only to overwrite), gives the new files
//! their names, and says in the ledger that it is finished: that is the moment from which the job has succeeded. Whatever happens
//! before is undone ([`undo`](super::undo)): by the job itself, or, if its driver was killed, by the next job that writes here
//! ([`leftovers`](super::leftovers)).
//!
//! A job that has an identity is taken up where it was left: what the ledger says to be done is not done again.
//!
//! - SINK-1 (all-or-nothing): under names that readers see there are all files of a job or none, and the files that it
//!   replaces or they; except for the moment of the renames themselves.
//! - LED-1 (synced-before-it-counts): what the ledger says of files is said when these are on the disk.

mod commit;
mod legs;
mod progress;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aktis_worker::TaskFailure;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use super::book::Book;
use super::durable;
use super::identity::JobIdentity;
use super::keeper::Keeper;
use super::left_out::LeftOut;
use super::ranges::DoneRanges;
use super::record::{Entry, Finished, JudgedRows, Told, path_of};
use super::taken_up::{TakenUp, take_up};
use super::together::is_final;
use super::undo::{take_back, undo};
use super::{DonePart, FarFolder, SaveMode};
use crate::error::PlanError;
use crate::sinks::FileNames;
use crate::wire::spec::WrittenFile;

/// The folder inside of a job's target that holds what a job has not finished: hidden, so that nobody reads it.
pub(crate) fn unfinished_folder(prefix: &str) -> String {
    format!("{UNFINISHED}{prefix}")
}

/// What the names of such folders begin with.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// What the names of folders of committed jobs begin with.
pub(super) const FINISHED: &str = ".finished-";
/// What the names of folders begin with that are not locked yet.
pub(super) const BEGUN: &str = ".begun-";
/// How often a job begins anew whose folder was swept before it was locked; each time it was another job that did so.
const BEGINNINGS: usize = 100;
/// The file in a job's folder that its driver holds a lock on.
pub(super) const JOB_FILE: &str = "job";
/// What the new files replace, while they do.
pub(super) const OLD_FOLDER: &str = "old";

/// What only the format of the files knows.
pub(crate) trait FileFormat: Send {
    /// The call of the user, for messages.
    fn operation(&self) -> &str;

    /// What there is if there are no rows: a file without any, so that what was written can be read again with its columns.
    fn empty_files(&self, schema: &SchemaRef) -> Result<Vec<WrittenFile>, TaskFailure>;

    /// Makes all files have the columns that all of them fit into. Blocks.
    fn make_alike(&self, files: &mut [WrittenFile]) -> Result<(), TaskFailure>;

    /// Whether [`make_alike`](Self::make_alike) needs files that have other columns than others.
    fn makes_alike(&self) -> bool;
}

/// The folder beside a job's files for rows that functions failed for: readers pass over names with such a line.
pub(super) const LETTERS_FOLDER: &str = "_dead_letters";

/// Where files of such rows go.
pub(crate) struct LettersPlace {
    /// Where they are written.
    pub(crate) unfinished: PathBuf,
    /// Where they are seen.
    pub(crate) folder: PathBuf,
    /// What their names begin with.
    pub(crate) prefix: String,
}

/// What a job's output is.
pub(crate) struct OutputPlan<'a> {
    pub(crate) folder: &'a str,
    pub(crate) prefix: &'a str,
    pub(crate) mode: SaveMode,
    /// What the files are called, if the user says so.
    pub(crate) names: Option<FileNames>,
    /// What tells the job from others, if it is taken up when it was left unfinished.
    pub(crate) identity: Option<JobIdentity>,
}

/// The folder that a job writes into. Dropped without a commit, it takes everything back.
pub(crate) struct FolderOutput {
    target: PathBuf,
    prefix: String,
    format: Box<dyn FileFormat>,
    mode: SaveMode,
    names: Option<FileNames>,
    identity: Option<JobIdentity>,
    /// The target was not there before this job.
    is_new: bool,
    /// Where the files go at the end, if the target is only where they are made.
    far: Option<FarFolder>,
    /// Holds the lock.
    job_file: Option<File>,
    /// `None` while the keeper has it.
    book: Option<Book>,
    keeper: Option<Keeper>,
    files: Vec<WrittenFile>,
    /// Those that are on the disk already, by their paths.
    synced: HashSet<String>,
    /// Rows that functions failed for: visible with the others, with columns and names of their own.
    letters: Vec<WrittenFile>,
    /// Inputs whose files are among these.
    done: DoneRanges,
    /// What expectations have found in these.
    judged: Vec<JudgedRows>,
    /// Of jobs of several stages: what the files are made of.
    parts: Vec<DonePart>,
    /// What was left out of these inputs and rows, as far as the ledger does not say it yet.
    left_out: Vec<LeftOut>,
    /// What an earlier run of this job has left.
    left: TakenUp,
    /// It goes on with what another run had begun.
    goes_on: bool,
    /// Of a job in legs: nothing of what it writes itself is kept.
    is_made_as_a_whole: bool,
    /// It is that of a leg.
    is_leg: bool,
}

impl FolderOutput {
    /// Begins a job's output, or goes on with it.
    pub(crate) fn begin(
        output: OutputPlan<'_>,
        format: Box<dyn FileFormat>,
    ) -> Result<Self, PlanError> {
        let target = PathBuf::from(output.folder);
        let mut made = Self {
            is_new: !target.is_dir(),
            target,
            prefix: output.prefix.to_owned(),
            format,
            mode: output.mode,
            names: output.names,
            identity: output.identity,
            far: None,
            job_file: None,
            book: None,
            keeper: None,
            files: Vec::new(),
            synced: HashSet::new(),
            letters: Vec::new(),
            done: DoneRanges::default(),
            judged: Vec::new(),
            parts: Vec::new(),
            left_out: Vec::new(),
            left: TakenUp::default(),
            goes_on: false,
            is_made_as_a_whole: false,
            is_leg: false,
        };
        let takes_up = made
            .identity
            .as_ref()
            .is_some_and(|identity| identity.takes_up);
        // Of several outputs, one may be gone that was not the first.
        let is_there = made.keeps() || made.job_folder().is_dir();
        let begun = if takes_up && is_there {
            made.take_up()
        } else {
            made.make_folder()
        };
        begun.map_err(|error| PlanError::not_writable(output.folder, &error))?;
        Ok(made)
    }

    /// The same, whose files become visible in another folder, which is not local.
    pub(crate) fn ending_in(mut self, far: FarFolder) -> Self {
        self.far = Some(far);
        self
    }

    /// Makes the job's folder. It gets its name when it is locked, so that nobody takes it for that of a dead job.
    fn make_folder(&mut self) -> io::Result<()> {
        let begun = self.target.join(format!("{BEGUN}{}", self.prefix));
        let mut beginnings = 0;
        let outcome = loop {
            beginnings += 1;
            match self.begin_in(&begun) {
                // Until it is locked, others cannot tell it from that of a dead job, and may have swept it.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && beginnings < BEGINNINGS => {}
                outcome => break outcome,
            }
        };
        if outcome.is_err() {
            // Nothing is lost with it; and on a full disk it may be all that was made.
            let _ = fs::remove_dir_all(&begun);
            if self.is_new {
                let _ = fs::remove_dir(&self.target);
            }
        }
        outcome?;
        self.book = Some(Book::begin(&self.target, &self.prefix)?);
        Ok(())
    }

    fn begin_in(&mut self, begun: &Path) -> io::Result<()> {
        fs::create_dir_all(begun)?;
        let locked = lock_job_file(begun)?;
        fs::rename(begun, self.job_folder())?;
        self.job_file = Some(locked);
        Ok(())
    }

    /// Goes on where the job was left.
    fn take_up(&mut self) -> io::Result<()> {
        let job = self.job_folder();
        let path = job.join(JOB_FILE);
        let locked = File::options().read(true).write(true).open(&path)?;
        if locked.try_lock().is_err() {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "another run of this job has just taken it up",
            ));
        }
        // In the place of what is there, which has the same length: whatever a power cut leaves says whose it is.
        let machine = machine();
        (&locked).write_all(machine.as_bytes())?;
        locked.set_len(machine.len() as u64)?;
        durable::sync_open_file(&locked, &path)?;
        let mut told = Told::read(&path_of(&self.target, &self.prefix))?;
        if is_final(&told, &self.target, &self.prefix)? {
            return Err(io::Error::other(
                "another run of this job has just finished it",
            ));
        }
        // Of an output that is not the first it may be lost: nothing that counts is in it before a commit.
        let mut book = if told.begun.is_some() || self.keeps() {
            Book::go_on(&self.target, &self.prefix, told.bytes)?
        } else {
            Book::begin(&self.target, &self.prefix)?
        };
        if let Some(committing) = &told.committing {
            undo(&self.target, &job, committing)?;
            book.write(Entry::Undone(Finished {}))?;
        }
        if let Some(begun) = &mut told.begun {
            begun.runs += 1;
            book.write(Entry::Begun(begun.clone()))?;
        }
        self.is_new = told.begun.as_ref().is_some_and(|begun| begun.is_new);
        let folders = self.kept_folders();
        self.left = if folders.is_empty() {
            TakenUp::told_elsewhere(told.begun)
        } else {
            take_up(&folders, &self.prefix, told)?
        };
        let own = self.left.files.iter().filter(|file| file.output == 0);
        self.files = own.cloned().collect();
        self.done.clone_from(&self.left.done);
        self.judged.clone_from(&self.left.judged);
        self.parts.clone_from(&self.left.parts);
        // From here on it is not taken back as a whole: another one may take it up again.
        self.job_file = Some(locked);
        self.book = Some(book);
        self.goes_on = true;
        Ok(())
    }

    /// The folders of the job whose files its ledger knows.
    fn kept_folders(&self) -> Vec<PathBuf> {
        let identity = self.identity.as_ref();
        identity.map_or_else(Vec::new, |identity| identity.kept_folders(&self.target))
    }

    /// Whether what is done of the job is kept here.
    pub(super) fn keeps(&self) -> bool {
        !self.kept_folders().is_empty()
    }

    /// Where files of rows that functions failed for go, if it takes them. `is_apart`: this output is for nothing else.
    pub(crate) fn letters_place(&self, is_apart: bool) -> Option<LettersPlace> {
        if self.far.as_ref().is_some_and(|far| !far.holds_letters) {
            return None;
        }
        Some(LettersPlace {
            unfinished: self.job_folder(),
            folder: if is_apart {
                self.target.clone()
            } else {
                self.target.join(LETTERS_FOLDER)
            },
            prefix: self.prefix.clone(),
        })
    }

    /// Files of such rows.
    pub(crate) fn add_letters(&mut self, files: Vec<WrittenFile>) {
        self.letters.extend(files);
    }

    /// Makes the files whole. If there are no rows and the columns are known, there is a file that has just these; all files have the
    /// same columns.
    pub(super) fn make_whole(&mut self, schema: Option<&SchemaRef>) -> Result<(), TaskFailure> {
        if let Some(schema) = schema
            && self.files.is_empty()
        {
            self.files = self.format.empty_files(schema)?;
        }
        if let Some(far) = self.far.as_ref().filter(|_| self.format.makes_alike()) {
            far.bring_back(&self.target, &self.files)?;
        }
        let columns = |file: &WrittenFile| (file.unfinished.clone(), file.schema.clone());
        let before: HashMap<String, Bytes> = self.files.iter().map(columns).collect();
        let made = self.format.make_alike(&mut self.files);
        // Under the name of one that was on the disk lies another now.
        for file in &self.files {
            if before.get(&file.unfinished) != Some(&file.schema) {
                self.synced.remove(&file.unfinished);
            }
        }
        made
    }

    /// Whether its files become visible elsewhere.
    pub(super) fn is_far(&self) -> bool {
        self.far.is_some()
    }

    /// Gives files that go elsewhere their names there. What is here has served its purpose, and is taken back with this.
    pub(super) fn publish(&mut self) -> Result<(), TaskFailure> {
        self.files.append(&mut self.letters);
        let published = self
            .far
            .as_ref()
            .map(|far| far.publish(&self.target, &self.files));
        published.unwrap_or(Ok(()))
    }

    /// A commit is not to be, or was none.
    pub(super) fn give_up(&mut self) {
        if self.hide_again() {
            self.take_nothing_back();
        }
    }

    /// From here on there is nothing to take back, or it is kept.
    pub(super) fn take_nothing_back(&mut self) {
        self.job_file = None;
    }

    /// Undoes a commit that failed, and keeps the job for whoever runs it again: all of it is done.
    fn hide_again(&mut self) -> bool {
        let (true, Some(book)) = (self.identity.is_some(), &mut self.book) else {
            return false;
        };
        let job = self.target.join(unfinished_folder(&self.prefix));
        let mut hide = || -> io::Result<()> {
            let told = Told::read(&path_of(&self.target, &self.prefix))?;
            if let Some(committing) = &told.committing {
                undo(&self.target, &job, committing)?;
                book.write(Entry::Undone(Finished {}))?;
            }
            Ok(())
        };
        let hidden = hide();
        if let Err(error) = &hidden {
            tracing::warn!(%error, folder = %self.target.display(), "a commit that failed could not be undone");
        }
        hidden.is_ok()
    }

    fn job_folder(&self) -> PathBuf {
        self.target.join(unfinished_folder(&self.prefix))
    }
}

impl Drop for FolderOutput {
    fn drop(&mut self) {
        // Held until the folder has another name: a lock that is free says that its job is dead.
        let Some(_locked) = self.job_file.take() else {
            return;
        };
        self.end_keeper();
        // A run that goes on with another one's work does not take that back.
        if self.goes_on {
            return;
        }
        if let Some(far) = &self.far {
            far.sweep(&unfinished_folder(&self.prefix));
        }
        if let Err(error) = take_back(&self.target, &self.prefix) {
            tracing::warn!(%error, folder = %self.target.display(), "unfinished files are left, hidden");
        }
        if self.is_new {
            // Only if nobody else has put something there.
            let _ = fs::remove_dir(&self.target);
        }
    }
}

fn no_book() -> io::Error {
    io::Error::other("the ledger was lost with the thread that kept it")
}

/// A path from the target on.
pub(super) fn from_target(target: &Path, path: &str) -> String {
    let path = Path::new(path);
    path.strip_prefix(target)
        .unwrap_or(path)
        .display()
        .to_string()
}

fn lock_job_file(job_folder: &Path) -> io::Result<File> {
    let path = job_folder.join(JOB_FILE);
    let mut file = File::create(&path)?;
    // Whoever else holds it looks whether its job is dead, and lets go at once.
    file.lock()?;
    file.write_all(machine().as_bytes())?;
    // Before the folder has the name by which it is found: one that has it after a power cut says whose it was.
    durable::sync_together(&[&path], &[job_folder])?;
    Ok(file)
}

/// This start of this machine: a lock says who lives only where it was taken. Then the machine, where it has an id: what another
/// start of it had under way is dead.
pub(super) fn machine() -> String {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let (boot, machine) = (
        read("/proc/sys/kernel/random/boot_id"),
        read("/etc/machine-id"),
    );
    format!("{boot}\n{machine}")
}
