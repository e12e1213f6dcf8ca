//! Bringing files to the disk. All of the ledger's syncs go through here, so that tests know what a power cut would leave.

use std::fs::File;
use std::io;
use std::path::Path;

/// How many files are brought to the disk at once.
const SYNCS: usize = 16;

pub(super) fn sync_file(path: &Path) -> io::Result<()> {
    sync_open_file(&File::open(path)?, path)
}

pub(super) fn sync_open_file(file: &File, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    power::check(path)?;
    file.sync_all()?;
    #[cfg(test)]
    power::file_is_safe(path);
    #[cfg(not(test))]
    let _ = path;
    Ok(())
}

/// The names in a folder.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    #[cfg(test)]
    power::names_are_safe(path);
    Ok(())
}

/// Brings files, and the names in folders, to the disk, so that a name never stands for less than its rows. Side by side: one after
/// the other, each would wait for the disk's journal.
pub(super) fn sync_together(files: &[&Path], folders: &[&Path]) -> io::Result<()> {
    let files = files.iter().map(|&file| Unsafe::File(file));
    let folders = folders.iter().map(|&folder| Unsafe::Names(folder));
    let all: Vec<Unsafe<'_>> = files.chain(folders).collect();
    let share = all.len().div_ceil(SYNCS).max(1);
    let sync = |some: &[Unsafe<'_>]| some.iter().try_for_each(Unsafe::sync);
    if all.len() <= 1 {
        return sync(&all);
    }
    std::thread::scope(|scope| {
        // A thread that cannot be had fails the job, which takes its files back.
        let syncs: Vec<_> = all
            .chunks(share)
            .map(|some| {
                let thread = std::thread::Builder::new().name("aktis-sync".to_owned());
                thread.spawn_scoped(scope, move || sync(some))
            })
            .collect::<io::Result<_>>()?;
        let mut done = syncs.into_iter().map(std::thread::ScopedJoinHandle::join);
        done.try_for_each(|done| {
            done.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    })
}

/// What a power cut may take.
enum Unsafe<'a> {
    File(&'a Path),
    Names(&'a Path),
}

impl Unsafe<'_> {
    fn sync(&self) -> io::Result<()> {
        match self {
            Self::File(path) => sync_file(path),
            Self::Names(folder) => sync_folder(folder),
        }
    }
}

#[cfg(test)]
pub(super) mod power;
