//! What jobs that were killed have left in a folder.
//!
//! A job that fails tidies up by itself ([`folder`](super::folder)); one whose driver was killed cannot. The next one that
//! writes into the folder takes back what such a job had done, if it is certain that it is dead: its lock is free, and
//! it was taken since this machine was started. What it cannot tell, it names and leaves alone.
//!
//! A folder that was begun and never locked holds nothing. Whether its job is dead cannot be told for certain, because a living
//! one is in that state for a moment: on a busy disk for a long one, in which it would lose its folder again and again to jobs
//! that come. So it is swept if it is not locked [`BEGUN_FOR`] after it was made; a job that loses its folder even so makes it
//! anew ([`FolderOutput`](super::folder::FolderOutput)).

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::book;
use super::folder::{BEGUN, FINISHED, JOB_FILE, UNFINISHED, machine, unfinished_folder};
use super::record::{LEDGERS, Told, path_of};
use super::together::is_final;
use super::undo::take_back;

/// How long a job may take, at least, from making its folder to locking it.
pub(super) const BEGUN_FOR: Duration = Duration::from_secs(60);

/// Takes back what dead jobs have done in `target`; of those that have only begun, what is older than `begun_for`. Returns
/// what was found, in words.
pub(super) fn clear(target: &Path, begun_for: Duration) -> io::Result<Vec<String>> {
    let mut warnings = Vec::new();
    let Ok(entries) = fs::read_dir(target) else {
        return Ok(warnings);
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(FINISHED) {
            remove_finished(&entry.path());
        } else if let Some(prefix) = name.strip_prefix(BEGUN) {
            if is_older(&entry, begun_for) {
                sweep_begun(target, &entry.path(), prefix);
            }
        } else if let Some(prefix) = name.strip_prefix(UNFINISHED) {
            warnings.extend(clear_unfinished(target, &entry.path(), prefix)?);
        }
    }
    sweep_ledgers(target);
    Ok(warnings)
}

/// The job had succeeded; only its empty shell, or what it has replaced, is still there.
fn remove_finished(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::debug!(%error, folder = %folder.display(), "removed by somebody else");
    }
}

/// A clock that was set back, or that of another machine, makes it younger, which only spares it.
fn is_older(entry: &fs::DirEntry, age: Duration) -> bool {
    let made = entry.metadata().and_then(|metadata| metadata.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|elapsed| elapsed >= age))
}

/// The job may have been killed before it had locked its folder.
fn sweep_begun(target: &Path, begun: &Path, prefix: &str) {
    // Held while the folder gets another name, so that its job, if it lives, waits and then sees that it is gone.
    let job_file = File::open(begun.join(JOB_FILE)).ok();
    if job_file
        .as_ref()
        .is_some_and(|file| file.try_lock().is_err())
    {
        return;
    }
    // Not the name that its job would take at its end.
    let swept = target.join(format!("{FINISHED}begun-{prefix}"));
    if fs::rename(begun, &swept).is_ok() {
        remove_finished(&swept);
    }
}

enum Owner {
    Lives,
    /// As long as this is held, nobody else takes the job up, or back.
    IsDead(File),
    /// It has ended in good order while this looked.
    HasEnded,
    Unknown,
}

fn clear_unfinished(target: &Path, job: &Path, prefix: &str) -> io::Result<Option<String>> {
    let told = Told::read(&path_of(target, prefix))?;
    let is_final = is_final(&told, target, prefix)?;
    let (files, visible) = (count_files(job), visible_files(target, &told));
    let shown = job.display();
    match owner(job) {
        Owner::Lives | Owner::HasEnded => Ok(None),
        Owner::IsDead(_held) => {
            match take_back(target, prefix) {
                // Another job has just done so.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                done => done?,
            }
            if is_final {
                return Ok(None);
            }
            let replaced = if visible > 0 {
                "; files that it replaced are back"
            } else {
                ""
            };
            Ok(Some(format!(
                "{shown} was left by a job that was killed: {files} of its files were not visible yet, {visible} were. None \
                 of its rows counts, so all of them were removed{replaced}"
            )))
        }
        Owner::Unknown => Ok(Some(format!(
            "{shown} holds {files} files of a job that has not finished, and {visible} of its files are visible. Nobody here \
             can tell whether it still runs: if it does not, remove it and {}",
            path_of(target, prefix).display()
        ))),
    }
}

/// A job that did not finish and whose driver is gone.
pub(super) struct Unfinished {
    pub(super) prefix: String,
    pub(super) told: Told,
    /// Nobody here can tell whether its driver still runs.
    pub(super) may_live: bool,
}

/// The jobs that could be taken up.
pub(super) fn unfinished(target: &Path) -> io::Result<Vec<Unfinished>> {
    let Ok(entries) = fs::read_dir(target) else {
        return Ok(Vec::new());
    };
    let mut jobs = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(prefix) = name.strip_prefix(UNFINISHED) else {
            continue;
        };
        let owner = owner(&entry.path());
        let may_live = matches!(owner, Owner::Unknown);
        if !may_live && !matches!(owner, Owner::IsDead(_)) {
            continue;
        }
        let told = Told::read(&path_of(target, prefix))?;
        if !is_final(&told, target, prefix)? {
            jobs.push(Unfinished {
                prefix: prefix.to_owned(),
                told,
                may_live,
            });
        }
    }
    Ok(jobs)
}

/// Removes ledgers whose jobs are gone: the driver was killed between the two.
fn sweep_ledgers(target: &Path) {
    let Ok(entries) = fs::read_dir(target.join(LEDGERS)) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(prefix) = name.strip_suffix(".ledger") else {
            continue;
        };
        if !target.join(unfinished_folder(prefix)).exists()
            && let Err(error) = book::remove(target, prefix)
        {
            tracing::debug!(%error, ledger = %entry.path().display(), "a ledger without a job is left");
        }
    }
}

fn owner(job: &Path) -> Owner {
    let path = job.join(JOB_FILE);
    let (Ok(file), Ok(says)) = (File::open(&path), fs::read_to_string(&path)) else {
        return if job.is_dir() {
            Owner::Unknown
        } else {
            Owner::HasEnded
        };
    };
    let (here, there) = (machine(), says);
    let (here, there) = (parts_of(&here), parts_of(&there));
    // One of this machine that is not of this start of it is of one before.
    let is_of_here = here == there || here.1 == there.1 && !here.1.is_empty();
    if !is_of_here || here.0.is_empty() || there.0.is_empty() {
        return Owner::Unknown;
    }
    match file.try_lock() {
        // Whoever ends gives the folder another name before letting go of the lock.
        Ok(()) if !path.exists() => Owner::HasEnded,
        Ok(()) => Owner::IsDead(file),
        Err(fs::TryLockError::WouldBlock) => Owner::Lives,
        Err(fs::TryLockError::Error(_)) => Owner::Unknown,
    }
}

/// The start of a machine, and the machine.
fn parts_of(said: &str) -> (&str, &str) {
    let (boot, machine) = said.split_once('\n').unwrap_or((said, ""));
    (boot.trim(), machine.trim())
}

fn count_files(job: &Path) -> usize {
    let is_data = |entry: &fs::DirEntry| {
        entry.file_name() != JOB_FILE && entry.file_type().is_ok_and(|kind| kind.is_file())
    };
    fs::read_dir(job).map_or(0, |entries| entries.flatten().filter(is_data).count())
}

fn visible_files(target: &Path, told: &Told) -> usize {
    let renames = told
        .committing
        .iter()
        .flat_map(|committing| &committing.renames);
    renames
        .filter(|rename| {
            target.join(&rename.path).exists() && !target.join(&rename.unfinished).exists()
        })
        .count()
}
