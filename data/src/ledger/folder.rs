//! The output of one job, which becomes visible as a whole or not at all.
//!
//! ```text
//!  target/                          what readers see
//!    <prefix>_000000_000000.parquet
//!    .unfinished-<prefix>/          the job's own folder; readers pass over names with a dot
//!      job                          locked as long as the driver lives; says on which start of which machine
//!      <attempt>-<name>             files of workers
//!      old/                         while it is committed: what the new files replace
//!    .finished-<prefix>/            committed, about to be removed
//!    .begun-<prefix>/               not locked yet: nothing but `job` in it
//! ```
//! A commit moves the old entries into `old` (only to overwrite), gives the new files their names, and renames the job's
//! folder to `.finished-...`: that is the moment from which the job has succeeded. Whatever happens before is taken back:
//! by the job itself, or, if its driver was killed, by the next job that writes here ([`leftovers`](super::leftovers)).
//!
//! SINK-1 (all-or-nothing): under names that readers see there are all files of a job or none, and the files that it
//! replaces or they; except for the moment of the renames themselves.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::datatypes::SchemaRef;

use super::SaveMode;
use crate::error::PlanError;
use crate::os_error;
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
/// How many files are brought to the disk at once.
const SYNCS: usize = 16;
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
}

/// The folder that a job writes into. Dropped without a commit, it takes everything back.
pub(crate) struct FolderOutput {
    target: PathBuf,
    prefix: String,
    format: Box<dyn FileFormat>,
    mode: SaveMode,
    /// The target was not there before this job.
    is_new: bool,
    /// Holds the lock.
    job_file: Option<File>,
    files: Vec<WrittenFile>,
}

impl FolderOutput {
    /// Begins a job's output in `folder`.
    pub(crate) fn begin(
        folder: &str,
        prefix: &str,
        mode: SaveMode,
        format: Box<dyn FileFormat>,
    ) -> Result<Self, PlanError> {
        let target = PathBuf::from(folder);
        let mut made = Self {
            is_new: !target.is_dir(),
            target,
            prefix: prefix.to_owned(),
            format,
            mode,
            job_file: None,
            files: Vec::new(),
        };
        made.make_folder()
            .map_err(|error| PlanError::not_writable(folder, &error))?;
        Ok(made)
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
        outcome
    }

    fn begin_in(&mut self, begun: &Path) -> io::Result<()> {
        fs::create_dir_all(begun)?;
        let locked = lock_job_file(begun)?;
        fs::rename(begun, self.job_folder())?;
        self.job_file = Some(locked);
        Ok(())
    }

    /// Files that an input gave, which is used up.
    pub(crate) fn add(&mut self, files: impl IntoIterator<Item = WrittenFile>) {
        self.files.extend(files);
    }

    /// Ends the job's output: all of it becomes visible, or, if the job or this failed, nothing. If there are no rows and
    /// the columns are known, there is a file that has just these; all files have the same columns.
    pub(crate) fn close(
        mut self,
        outcome: Result<(), TaskFailure>,
        schema: Option<&SchemaRef>,
    ) -> Result<(), TaskFailure> {
        outcome?;
        if let Some(schema) = schema
            && self.files.is_empty()
        {
            self.files = self.format.empty_files(schema)?;
        }
        self.format.make_alike(&mut self.files)?;
        let committed = self.commit();
        if committed.is_ok() {
            // From here on there is nothing to take back.
            self.job_file = None;
        }
        committed.map_err(|error| {
            let what = format!(
                "{}: make the files of {} visible",
                self.format.operation(),
                self.target.display()
            );
            os_error::failure(&what, &error, ErrorCode::InvalidArgument)
        })
    }

    /// The rename of the job's folder decides: what was done before is undone unless that succeeds (`SINK-1`).
    fn commit(&mut self) -> io::Result<()> {
        sync_all(&self.files)?;
        let job = self.job_folder();
        if self.mode == SaveMode::Overwrite {
            let old = job.join(OLD_FOLDER);
            fs::create_dir(&old)?;
            for entry in visible_entries(&self.target)? {
                fs::rename(self.target.join(&entry), old.join(&entry))?;
            }
        }
        for file in &self.files {
            fs::rename(&file.unfinished, &file.path)?;
        }
        File::open(&self.target)?.sync_all()?;
        let finished = self.target.join(format!("{FINISHED}{}", self.prefix));
        fs::rename(&job, &finished)?;
        if let Err(error) = fs::remove_dir_all(&finished) {
            tracing::warn!(%error, folder = %finished.display(), "what was replaced is still there, hidden");
        }
        Ok(())
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
        if let Err(error) = take_back(&self.target, &self.prefix) {
            tracing::warn!(%error, folder = %self.target.display(), "unfinished files are left, hidden");
        }
        if self.is_new {
            // Only if nobody else has put something there.
            let _ = fs::remove_dir(&self.target);
        }
    }
}

/// Brings the files to the disk, so that a name never stands for less than its rows. Side by side: one after the other, each
/// would wait for the disk's journal.
fn sync_all(files: &[WrittenFile]) -> io::Result<()> {
    let share = files.len().div_ceil(SYNCS).max(1);
    let sync = |files: &[WrittenFile]| {
        let mut files = files.iter();
        files.try_for_each(|file| File::open(&file.unfinished)?.sync_all())
    };
    std::thread::scope(|scope| {
        // A thread that cannot be had fails the job, which takes its files back.
        let syncs: Vec<_> = files
            .chunks(share)
            .map(|files| {
                let thread = std::thread::Builder::new().name("aktis-sync".to_owned());
                thread.spawn_scoped(scope, move || sync(files))
            })
            .collect::<io::Result<_>>()?;
        let mut done = syncs.into_iter().map(|sync| sync.join());
        done.try_for_each(|done| {
            done.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    })
}

/// Undoes what the job with this prefix has done: its files go, what they should have replaced comes back.
pub(super) fn take_back(target: &Path, prefix: &str) -> io::Result<()> {
    let job = target.join(unfinished_folder(prefix));
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(&format!("{prefix}_"))
        {
            fs::remove_file(entry.path())?;
        }
    }
    let old = job.join(OLD_FOLDER);
    if old.is_dir() {
        for entry in fs::read_dir(&old)? {
            let entry = entry?;
            let back = target.join(entry.file_name());
            if back.symlink_metadata().is_ok() {
                let why = format!("{} was made meanwhile", back.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
            }
            fs::rename(entry.path(), back)?;
        }
    }
    // Under another name first: a worker that has not heard yet cannot begin a file in it any more.
    let swept = target.join(format!("{FINISHED}{prefix}"));
    fs::rename(&job, &swept)?;
    fs::remove_dir_all(&swept)
}

/// The entries of a folder that are not a job's own.
fn visible_entries(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let names: io::Result<Vec<_>> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect();
    let is_a_jobs = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        [UNFINISHED, FINISHED, BEGUN]
            .iter()
            .any(|jobs| name.starts_with(jobs))
    };
    Ok(names?.into_iter().filter(|name| !is_a_jobs(name)).collect())
}

fn lock_job_file(job_folder: &Path) -> io::Result<File> {
    let mut file = File::create(job_folder.join(JOB_FILE))?;
    // Whoever else holds it looks whether its job is dead, and lets go at once.
    file.lock()?;
    file.write_all(machine().as_bytes())?;
    file.sync_all()?;
    Ok(file)
}

/// This start of this machine: a lock says who lives only where it was taken.
pub(super) fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    boot.map(|boot| boot.trim().to_owned()).unwrap_or_default()
}
