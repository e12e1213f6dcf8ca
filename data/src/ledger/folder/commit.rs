//! The moment in which the files of a job become visible.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use bytes::Bytes;

use super::{BEGUN, FINISHED, FolderOutput, OLD_FOLDER, UNFINISHED, from_target, no_book};
use crate::ledger::SaveMode;
use crate::ledger::record::{Committing, Entry, Finished, LEDGERS, Member, Rename};
use crate::ledger::{book, durable, together};
use crate::os_error;

impl FolderOutput {
    /// Brings what was made to the disk.
    pub(in crate::ledger) fn bring_to_disk(&mut self) -> Result<(), TaskFailure> {
        let brought = self.sync_all();
        brought.map_err(|error| self.not_visible(&error))
    }

    /// Says of what is on the disk, of all outputs that go on with this one, that it is there.
    pub(in crate::ledger) fn tell_all(&mut self, others: &[Self]) -> Result<(), TaskFailure> {
        if !self.keeps() || self.is_made_as_a_whole {
            return Ok(());
        }
        let told = self.write_done(others);
        told.map_err(|error| self.not_visible(&error))
    }

    /// Gives what was made the names that it will have.
    pub(in crate::ledger) fn give_names(&mut self) -> Result<(), TaskFailure> {
        if let Some(names) = &self.names {
            names.apply(self.format.operation(), &mut self.files)?;
        }
        self.files.append(&mut self.letters);
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        if self.mode == SaveMode::Overwrite {
            // Its name is on the disk before that of anything that will lie there alone.
            fs::create_dir_all(self.job_folder().join(OLD_FOLDER))?;
        }
        self.sync_made()
    }

    /// Makes all files visible. They count when [`decide`](Self::decide) says so, here or where another output of the job lies.
    pub(in crate::ledger) fn show(
        &mut self,
        decided_by: Option<Member>,
        decides_for: Vec<Member>,
    ) -> Result<(), TaskFailure> {
        let shown = self.names_that_change().and_then(|committing| {
            self.rename_all(Committing {
                decided_by,
                decides_for,
                ..committing
            })
        });
        shown.map_err(|error| self.not_visible(&error))
    }

    /// The ledger's last word: what was done before is undone unless that is said (`SINK-1`).
    pub(in crate::ledger) fn decide(&mut self) -> Result<(), TaskFailure> {
        let decided = self.write_finished();
        decided.map_err(|error| self.not_visible(&error))
    }

    fn write_finished(&mut self) -> io::Result<()> {
        let book = self.book.as_mut().ok_or_else(no_book)?;
        book.seal(Entry::Finished(Finished {}), &self.target, &self.prefix)
    }

    /// Removes the job's folder and its ledger: all is done.
    pub(in crate::ledger) fn tidy(&mut self) -> Result<(), TaskFailure> {
        let tidied = self.remove_own();
        tidied.map_err(|error| self.not_visible(&error))
    }

    fn remove_own(&mut self) -> io::Result<()> {
        let finished = self.target.join(format!("{FINISHED}{}", self.prefix));
        fs::rename(self.job_folder(), &finished)?;
        if let Err(error) = fs::remove_dir_all(&finished) {
            tracing::warn!(%error, folder = %finished.display(), "what was replaced is still there, hidden");
        }
        book::remove(&self.target, &self.prefix)
    }

    /// What the other output of the job is known by here.
    pub(in crate::ledger) fn member(&self, other: &Self) -> Result<Member, TaskFailure> {
        let way = together::way(&self.target, &other.target);
        let way = way.map_err(|error| self.not_visible(&error))?;
        Ok(Member {
            folder: way.display().to_string(),
            prefix: other.prefix.clone(),
        })
    }

    pub(super) fn not_visible(&self, error: &io::Error) -> TaskFailure {
        let (operation, target) = (self.format.operation(), self.target.display());
        let what = format!("{operation}: make the files of {target} visible");
        os_error::failure(&what, error, ErrorCode::InvalidArgument)
    }

    fn rename_all(&mut self, committing: Committing) -> io::Result<()> {
        let job = self.job_folder();
        let book = self.book.as_mut().ok_or_else(no_book)?;
        book.write(Entry::Committing(committing.clone()))?;
        book.sync(&self.target, &self.prefix)?;
        let mut folders = HashSet::from([self.target.clone()]);
        if self.mode == SaveMode::Overwrite {
            let old = job.join(OLD_FOLDER);
            for entry in &committing.replaced {
                let entry = OsStr::from_bytes(entry);
                fs::rename(self.target.join(entry), old.join(entry))?;
            }
            folders.insert(old);
        }
        for rename in &committing.renames {
            let path = self.target.join(&rename.path);
            if let Some(folder) = path.parent()
                && !folders.contains(folder)
            {
                fs::create_dir_all(folder)?;
                let made = folder.ancestors().take_while(|made| *made != self.target);
                folders.extend(made.map(Path::to_owned));
            }
            fs::rename(self.target.join(&rename.unfinished), path)?;
        }
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        durable::sync_together(&[], &folders)
    }

    fn names_that_change(&self) -> io::Result<Committing> {
        let replaced = match self.mode {
            SaveMode::Overwrite => visible_entries(&self.target)?,
            _ => Vec::new(),
        };
        let mut renames = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let path = Path::new(&file.path);
            // Names of its own are taken by no other job.
            if self.names.is_some()
                && self.mode != SaveMode::Overwrite
                && path.symlink_metadata().is_ok()
            {
                let why = format!("there is a file {} already", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
            }
            renames.push(Rename {
                unfinished: from_target(&self.target, &file.unfinished),
                path: from_target(&self.target, &file.path),
            });
        }
        Ok(Committing {
            replaced,
            renames,
            ..Committing::default()
        })
    }
}

/// The entries of a folder that are not a job's own.
fn visible_entries(folder: &Path) -> io::Result<Vec<Bytes>> {
    let names: io::Result<Vec<_>> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect();
    let is_a_jobs = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name == LEDGERS
            || [UNFINISHED, FINISHED, BEGUN]
                .iter()
                .any(|jobs| name.starts_with(jobs))
    };
    let names = names?.into_iter().filter(|name| !is_a_jobs(name));
    Ok(names.map(|name| Bytes::from(name.into_vec())).collect())
}
