//! Who lives: whoever holds the lock of a folder (`SES-4 (lock-is-life)`).
//!
//! A process id says nothing to another container or another machine with the same temporary folder; a lock on a file does,
//! and it goes with its process however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use aktis_common::fork::{Registration, register};

const FILE_NAME: &str = "lock";
/// Its name until it is locked.
const UNLOCKED_NAME: &str = ".lock";

/// The lock of a folder. Held until it is dropped, or the process is gone.
#[derive(Debug)]
pub(super) struct FolderLock {
    /// A forked child of a driver must not hold its parent's lock. Let go of before the file is closed.
    _registered: Registration,
    _file: File,
}

/// Who holds the lock of a folder.
#[derive(Debug)]
pub(super) enum Holder {
    /// A living process, here or elsewhere.
    Somebody,
    /// Nobody did; now we do.
    Nobody,
    /// There is no lock, or the file system has none.
    Unknown,
}

/// Makes the lock of a folder that was just made, and takes it. It appears under its name when it is taken, so that nobody
/// finds it free.
pub(super) fn lock_new(folder: &Path) -> io::Result<FolderLock> {
    let unlocked = folder.join(UNLOCKED_NAME);
    let file = open(
        OpenOptions::new().write(true).create_new(true).mode(0o600),
        &unlocked,
    )?;
    match file.try_lock() {
        // A file system without locks: then process ids have to do.
        Ok(()) | Err(TryLockError::Error(_)) => {}
        Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
    }
    std::fs::rename(&unlocked, folder.join(FILE_NAME))?;
    Ok(FolderLock {
        _registered: register(&file),
        _file: file,
    })
}

/// Looks who holds the lock of a folder; when nobody does, `then` runs while we do.
pub(super) fn with_holder<R>(folder: &Path, then: impl FnOnce(Holder) -> R) -> R {
    let file = open(OpenOptions::new().write(true), &folder.join(FILE_NAME));
    let own = rustix::process::getuid().as_raw();
    let file = file.ok().filter(|file| {
        file.metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.uid() == own)
    });
    let holder = match file.as_ref().map(File::try_lock) {
        Some(Ok(())) => Holder::Nobody,
        Some(Err(TryLockError::WouldBlock)) => Holder::Somebody,
        Some(Err(TryLockError::Error(_))) | None => Holder::Unknown,
    };
    then(holder)
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}
