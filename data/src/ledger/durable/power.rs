//! What a power cut would leave of a folder: a model for tests.
//!
//! A file has the length that it had when it was synced last, a folder the names that it had, whatever it is called itself; what was removed
//! since then is there again. A rename is there as a whole or not at all, as file systems with a journal have it.
//!
//! File systems give the number of an inode that was removed to the next file. So whatever was synced is held open here, as long as a cut
//! could bring it back: an inode that is open keeps its number.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Folders that are watched, by their paths.
static WATCHED: Mutex<BTreeMap<PathBuf, Watched>> = Mutex::new(BTreeMap::new());

/// Files that the disk does not take any more after so many syncs.
static REFUSED: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Watched {
    /// What was synced, or is named in a folder that was, by inode.
    held: BTreeMap<u64, File>,
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

/// Of copies that are alike, one: the last.
pub(in crate::ledger) fn different(mut copies: Vec<PathBuf>) -> Vec<PathBuf> {
    copies.sort();
    let digested = copies.into_iter().map(|copy| {
        let mut digest = DefaultHasher::new();
        digest_folder(&copy, &mut digest).expect("reads");
        (digest.finish(), copy)
    });
    let last: BTreeMap<u64, PathBuf> = digested.collect();
    let mut copies: Vec<PathBuf> = last.into_values().collect();
    copies.sort();
    copies
}

fn digest_folder(folder: &Path, digest: &mut DefaultHasher) -> io::Result<()> {
    let entries: io::Result<Vec<fs::DirEntry>> = fs::read_dir(folder)?.collect();
    let mut entries = entries?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        entry.file_name().hash(digest);
        if entry.file_type()?.is_dir() {
            digest_folder(&entry.path(), digest)?;
        } else {
            fs::read(entry.path())?.hash(digest);
        }
        digest.write_u8(0);
    }
    Ok(())
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
        if let Some((inode, length)) = watched.hold(path) {
            watched.lengths.insert(inode, length);
        }
    });
}

pub(super) fn names_are_safe(folder: &Path) {
    with_watched(folder, |watched, root| {
        let Some((here, _)) = watched.hold(folder) else {
            return;
        };
        let known = std::mem::take(&mut watched.names);
        let (gone, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            known.into_iter().partition(|((of, _), _)| *of == here);
        watched.names = others;
        let mut there = BTreeMap::new();
        find(root, &mut there).expect("lists");
        // What was renamed into another folder is there.
        for inode in gone.values() {
            let Some((of, name)) = there.get(inode).and_then(|now| watched.place_of(now)) else {
                continue;
            };
            if of != here {
                watched.names.insert((of, name), *inode);
            }
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Some((inode, _)) = watched.hold(&entry.path()) {
                // A rename takes it from where it was.
                watched.names.retain(|_, named| *named != inode);
                watched.names.insert((here, entry.file_name()), inode);
            }
        }
        watched.let_go();
    });
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
    /// Holds what lies there; `None`: nothing does any more. Returns its inode and its length.
    fn hold(&mut self, path: &Path) -> Option<(u64, u64)> {
        let file = File::open(path).ok()?;
        let described = file.metadata().ok()?;
        self.held.entry(described.ino()).or_insert(file);
        Some((described.ino(), described.len()))
    }

    /// The inode of the folder of what lies there, and its name in it.
    fn place_of(&mut self, path: &Path) -> Option<(u64, OsString)> {
        let (folder, _) = self.hold(path.parent()?)?;
        Some((folder, path.file_name()?.to_owned()))
    }

    /// What is removed for good may have its number given to others.
    fn let_go(&mut self) {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.held.retain(|inode, file| {
            named.contains(inode) || file.metadata().is_ok_and(|described| described.nlink() > 0)
        });
        let held = &self.held;
        self.lengths.retain(|inode, _| held.contains_key(inode));
        self.names.retain(|(of, _), _| held.contains_key(of));
    }

    /// Copies what is on the disk.
    fn copy_safe(&self, root: &Path, copy: &Path) -> io::Result<()> {
        self.copy_folder(fs::metadata(root)?.ino(), copy)
    }

    /// Copies what is on the disk of the folder with this inode.
    fn copy_folder(&self, folder: u64, copy: &Path) -> io::Result<()> {
        fs::create_dir_all(copy)?;
        let names = self.names.iter().filter(|((of, _), _)| *of == folder);
        for ((_, name), inode) in names {
            let (target, mut held) = (copy.join(name), &self.held[inode]);
            if held.metadata()?.is_dir() {
                self.copy_folder(*inode, &target)?;
                continue;
            }
            let length = self.lengths.get(inode).copied().unwrap_or(0);
            let mut copied = File::create(&target)?;
            held.rewind()?;
            io::copy(&mut held, &mut copied)?;
            copied.set_len(length)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::durable::{sync_file, sync_folder};

    /// What a cut would leave is what was synced, also where the file system has given its inode's number to another file.
    #[test]
    fn what_was_removed_since_is_there_again_and_what_was_made_is_not() {
        let (parent, copies) = (tempfile::tempdir(), tempfile::tempdir());
        let (parent, copies) = (parent.expect("a folder"), copies.expect("a folder"));
        let folder = parent.path().join("watched");
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("writes");
        let remove = |name: &str| fs::remove_file(folder.join(name)).expect("removes");
        fs::create_dir(&folder).expect("makes");
        watch(&folder, copies.path());
        for name in ["old", "other"] {
            write(name, name);
            sync_file(&folder.join(name)).expect("syncs");
        }
        sync_folder(&folder).expect("syncs");
        remove("old");
        write("new", "longer than the other");
        sync_file(&folder.join("other")).expect("syncs");
        let seen = |copy: &str| {
            let text = |name: &str| fs::read_to_string(copies.path().join(copy).join(name)).ok();
            ["old", "other", "new"].map(text)
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(seen("0004-cut"), [text("old"), text("other"), None]);
        sync_folder(&folder).expect("syncs");
        assert_eq!(seen("0005-cut"), [None, text("other"), text("")]);
        sync_file(&folder.join("new")).expect("syncs");
        assert_eq!(
            seen("0006-cut"),
            [None, text("other"), text("longer than the other")]
        );
        stop_watching(&folder);
    }
}
