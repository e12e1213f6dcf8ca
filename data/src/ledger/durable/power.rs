//! What a power cut would leave of a folder: a model for tests.
//!
//! A file has the length that it had when it was synced last, a folder the names that it had, whatever it is called itself. A rename is there
//! as a whole or not at all, as file systems with a journal have it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Folders that are watched, by their paths.
static WATCHED: Mutex<BTreeMap<PathBuf, Watched>> = Mutex::new(BTreeMap::new());

/// Files that the disk does not take any more after so many syncs.
static REFUSED: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Watched {
    /// Lengths by inode.
    lengths: BTreeMap<u64, u64>,
    /// Inodes by the inode of a folder that was synced and a name in it.
    names: BTreeMap<(u64, OsString), u64>,
    /// Where copies of what a cut would leave go; each sync makes one.
    copies: PathBuf,
    count: usize,
}

/// From here on each sync below `folder` leaves two copies in `copies`: of what a power cut would leave, and of all there is.
pub(in crate::ledger) fn watch(folder: &Path, copies: &Path) {
    let watched = Watched {
        copies: copies.to_owned(),
        ..Watched::default()
    };
    WATCHED.lock().insert(folder.to_owned(), watched);
}

/// The copies so far.
pub(in crate::ledger) fn stop_watching(folder: &Path) -> Vec<PathBuf> {
    let watched = WATCHED.lock().remove(folder).expect("is watched");
    let copies = fs::read_dir(watched.copies).expect("is there");
    copies.map(|copy| copy.expect("reads").path()).collect()
}

/// From here on the disk takes this file so many times, and then fails.
pub(in crate::ledger) fn refuse(path: &Path, behind: usize) {
    REFUSED.lock().insert(path.to_owned(), behind);
}

/// Fails if it does so now.
pub(super) fn check(path: &Path) -> io::Result<()> {
    let mut refused = REFUSED.lock();
    let Some(left) = refused.get_mut(path) else {
        return Ok(());
    };
    if *left == 0 {
        return Err(io::Error::from(io::ErrorKind::StorageFull));
    }
    *left -= 1;
    Ok(())
}

pub(super) fn file_is_safe(path: &Path) {
    with_watched(path, |watched, _| {
        if let Ok(described) = fs::metadata(path) {
            watched.lengths.insert(described.ino(), described.len());
        }
    });
}

pub(super) fn names_are_safe(folder: &Path) {
    with_watched(folder, |watched, root| {
        let Some(here) = inode_of(folder) else {
            return;
        };
        let known = std::mem::take(&mut watched.names);
        let (gone, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            known.into_iter().partition(|((of, _), _)| *of == here);
        watched.names = others;
        let mut there = BTreeMap::new();
        find(root, &mut there).expect("lists");
        // What was renamed into another folder is there.
        let moved = gone.values().filter_map(|inode| {
            let now = there.get(inode)?;
            let of = inode_of(now.parent()?).filter(|of| *of != here)?;
            Some(((of, now.file_name()?.to_owned()), *inode))
        });
        watched.names.extend(moved);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Ok(described) = entry.metadata() {
                // A rename takes it from where it was.
                watched.names.retain(|_, inode| *inode != described.ino());
                let name = (here, entry.file_name());
                watched.names.insert(name, described.ino());
            }
        }
    });
}

fn inode_of(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|described| described.ino())
}

fn with_watched(path: &Path, change: impl FnOnce(&mut Watched, &Path)) {
    let mut all = WATCHED.lock();
    let Some((root, watched)) = all.iter_mut().find(|(root, _)| path.starts_with(root)) else {
        return;
    };
    change(watched, root);
    watched.count += 1;
    let (cut, whole) = (
        format!("{:04}-cut", watched.count),
        format!("{:04}-whole", watched.count),
    );
    copy_all(root, &watched.copies.join(whole)).expect("copies");
    watched
        .copy_safe(root, &watched.copies.join(cut))
        .expect("copies");
}

impl Watched {
    /// Copies what is on the disk.
    fn copy_safe(&self, root: &Path, copy: &Path) -> io::Result<()> {
        let mut there = BTreeMap::new();
        find(root, &mut there)?;
        self.copy_folder(fs::metadata(root)?.ino(), copy, &there)
    }

    /// Copies what is on the disk of the folder with this inode.
    fn copy_folder(
        &self,
        folder: u64,
        copy: &Path,
        there: &BTreeMap<u64, PathBuf>,
    ) -> io::Result<()> {
        fs::create_dir_all(copy)?;
        let names = self.names.iter().filter(|((of, _), _)| *of == folder);
        for ((_, name), inode) in names {
            let Some(now) = there.get(inode) else {
                continue;
            };
            let target = copy.join(name);
            if now.is_dir() {
                self.copy_folder(*inode, &target, there)?;
                continue;
            }
            let length = self.lengths.get(inode).copied().unwrap_or(0);
            fs::copy(now, &target)?;
            fs::File::options()
                .write(true)
                .open(&target)?
                .set_len(length)?;
        }
        Ok(())
    }
}

fn find(folder: &Path, there: &mut BTreeMap<u64, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        // It may be renamed at this moment.
        let Ok(described) = entry.metadata() else {
            continue;
        };
        there.insert(described.ino(), entry.path());
        if described.is_dir() {
            find(&entry.path(), there)?;
        }
    }
    Ok(())
}

fn copy_all(folder: &Path, copy: &Path) -> io::Result<()> {
    fs::create_dir_all(copy)?;
    for entry in fs::read_dir(folder)?.flatten() {
        let Ok(described) = entry.metadata() else {
            continue;
        };
        let target = copy.join(entry.file_name());
        if described.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else if fs::copy(entry.path(), target).is_err() {
            // Renamed or removed at this moment.
        }
    }
    Ok(())
}
