//! The legs of a job: jobs whose files are the source of others, in folders of its own (`docs/ledger.md`).
//!
//! Each is a job like any other, in a folder of readers of its own. So it is finished when its files have their names there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::folder::{JOB_FILE, LETTERS_FOLDER, UNFINISHED, machine, unfinished_folder};
use super::found::LegFound;
use super::{PreparedFolder, Request, Resume, SaveMode, Trait, durable, prepare_folder};
use crate::error::PlanError;

/// What the names of files of legs begin with.
pub(crate) const LEG_PREFIX: &str = "leg";
/// How they end.
const FILE: &str = ".parquet";
/// The folder in that of a job in which its legs lie.
const LEGS: &str = "legs";
/// Says of a leg that those are finished that read it, so that its files are gone.
const USED: &str = "used";

/// How far a leg has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LegState {
    /// Not begun, or nothing of it is kept.
    New,
    /// Some of its inputs are done.
    Begun,
    /// Its files are there.
    Done,
    /// Nobody needs its files any more.
    Used,
}

/// Where the legs of a job lie.
#[derive(Debug, Clone)]
pub(crate) struct LegFolders {
    /// The folder of the job, which is hidden.
    job: PathBuf,
}

impl LegFolders {
    /// Those of the job with this prefix.
    pub(super) fn of(target: &Path, prefix: &str) -> Self {
        Self {
            job: target.join(unfinished_folder(prefix)),
        }
    }

    fn all(&self) -> PathBuf {
        self.job.join(LEGS)
    }

    /// The folder of a leg.
    pub(crate) fn path(&self, leg: usize) -> PathBuf {
        self.all().join(leg.to_string())
    }

    /// Looks how far a leg of the job with this identity has come. Whatever else was left of it is removed.
    pub(crate) fn look(&self, leg: usize, identity: &[Trait]) -> Result<LegState, PlanError> {
        let path = self.path(leg);
        if !path.is_dir() {
            return Ok(LegState::New);
        }
        if path.join(USED).exists() {
            remove_files(&path);
            return Ok(LegState::Used);
        }
        let text = path.display().to_string();
        // Whoever has the job has its legs, on whatever machine they were begun.
        let job_file = path.join(unfinished_folder(LEG_PREFIX)).join(JOB_FILE);
        if job_file.exists() {
            let claimed = fs::write(&job_file, machine());
            claimed.map_err(|error| PlanError::not_writable(&text, &error))?;
        }
        let found = prepare_folder(Request {
            operation: "resume",
            folder: &text,
            mode: SaveMode::Append,
            identity,
            resume: Resume::Auto,
        })?;
        let takes_up = |found: &PreparedFolder| found.takes_up.is_some();
        let files = files_of(&path).map_err(|error| PlanError::not_writable(&text, &error))?;
        Ok(match found {
            Some(found) if takes_up(&found) => LegState::Begun,
            _ if files.is_empty() => LegState::New,
            _ => LegState::Done,
        })
    }

    /// The files of a leg that is finished, in the order of its rows.
    pub(crate) fn files(&self, leg: usize) -> io::Result<Vec<String>> {
        let mut files = files_of(&self.path(leg))?;
        // Numbers of more digits than usual come last.
        files.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        Ok(files
            .iter()
            .map(|path| path.display().to_string())
            .collect())
    }

    /// What a leg has found that is finished; `None`: somebody has removed it.
    pub(crate) fn found(&self, leg: usize) -> io::Result<Option<LegFound>> {
        LegFound::read(&self.path(leg))
    }

    /// The files of rows that a leg has put aside that is finished.
    pub(crate) fn letters(&self, leg: usize) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(self.path(leg).join(LETTERS_FOLDER)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let files = entries.map(|entry| Ok(entry?.path()));
        let mut files = files.collect::<io::Result<Vec<PathBuf>>>()?;
        files.sort();
        Ok(files)
    }

    /// Brings the names to the disk by which the folder of a leg is found.
    pub(crate) fn sync(&self) -> io::Result<()> {
        durable::sync_together(&[], &[&self.all(), &self.job])
    }

    /// Nobody needs the files of the leg any more.
    pub(crate) fn set_used(&self, leg: usize) -> io::Result<()> {
        let path = self.path(leg);
        File::create(path.join(USED))?;
        durable::sync_together(&[], &[&path])?;
        remove_files(&path);
        Ok(())
    }

    /// How many are finished, as far as their folders tell.
    pub(super) fn count_done(&self) -> u64 {
        let Ok(entries) = fs::read_dir(self.all()) else {
            return 0;
        };
        let folders = entries.flatten().map(|entry| entry.path());
        folders.filter(|path| is_done(path)).count() as u64
    }

    /// Whether anything is kept of any.
    pub(super) fn are_there(&self) -> bool {
        fs::read_dir(self.all()).is_ok_and(|mut entries| entries.next().is_some())
    }
}

fn is_done(leg: &Path) -> bool {
    let is_unfinished = fs::read_dir(leg).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED))
    });
    let has_files = || files_of(leg).is_ok_and(|files| !files.is_empty());
    leg.join(USED).exists() || (!is_unfinished && has_files())
}

/// Files of rows.
fn files_of(leg: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: io::Result<Vec<PathBuf>> = fs::read_dir(leg)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let is_file = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(LEG_PREFIX) && name.ends_with(FILE) && path.is_file()
    };
    Ok(entries?.into_iter().filter(is_file).collect())
}

fn remove_files(leg: &Path) {
    for path in files_of(leg).unwrap_or_default() {
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!(%error, path = %path.display(), "a file that nobody needs is still there");
        }
    }
}
