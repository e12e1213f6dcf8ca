//! Taking back what a job that did not finish has done.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::book;
use super::folder::{FINISHED, OLD_FOLDER, unfinished_folder};
use super::record::{Committing, Told, path_of};
use super::together::{finish_others, is_final};

/// Undoes a commit: the new files are hidden again, what they should have replaced comes back.
pub(super) fn undo(target: &Path, job: &Path, committing: &Committing) -> io::Result<()> {
    for rename in &committing.renames {
        let (unfinished, path) = (target.join(&rename.unfinished), target.join(&rename.path));
        // One that is not hidden any more has become visible; if it is gone, somebody has removed it.
        if unfinished.symlink_metadata().is_err() && path.symlink_metadata().is_ok() {
            fs::rename(&path, &unfinished)?;
        }
        remove_empty_folders(target, &path);
    }
    let old = job.join(OLD_FOLDER);
    for entry in &committing.replaced {
        let entry = OsStr::from_bytes(entry);
        let (moved, back) = (old.join(entry), target.join(entry));
        if moved.symlink_metadata().is_err() {
            continue;
        }
        if back.symlink_metadata().is_ok() {
            let why = format!("{} was made meanwhile", back.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        fs::rename(moved, back)?;
    }
    Ok(())
}

/// Those of partitions that had only this file.
fn remove_empty_folders(target: &Path, path: &Path) {
    let folders = path.ancestors().skip(1);
    for folder in folders.take_while(|folder| *folder != target) {
        if fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

/// Undoes what the job with this prefix has done, unless it counts, and removes all that is left of it.
pub(super) fn take_back(target: &Path, prefix: &str) -> io::Result<()> {
    let job = target.join(unfinished_folder(prefix));
    let told = Told::read(&path_of(target, prefix))?;
    if let Some(committing) = &told.committing {
        if is_final(&told, target, prefix)? {
            finish_others(target, committing)?;
        } else {
            undo(target, &job, committing)?;
        }
    }
    // Under another name first: a worker that has not heard yet cannot begin a file in it any more.
    let swept = target.join(format!("{FINISHED}{prefix}"));
    fs::rename(&job, &swept)?;
    fs::remove_dir_all(&swept)?;
    book::remove(target, prefix)
}
