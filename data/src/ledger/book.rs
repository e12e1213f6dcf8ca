//! A ledger that is being written.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::durable;
use super::frames;
use super::record::{Entry, LEDGERS, Record, path_of};

/// The ledger of a job under way.
pub(super) struct Book {
    file: File,
}

impl Book {
    /// Begins a ledger.
    pub(super) fn begin(target: &Path, prefix: &str) -> io::Result<Self> {
        fs::create_dir_all(target.join(LEDGERS))?;
        let file = File::create(path_of(target, prefix))?;
        Ok(Self { file })
    }

    /// Goes on with one that has so many bytes that are whole; what comes behind them was never written.
    pub(super) fn go_on(target: &Path, prefix: &str, bytes: u64) -> io::Result<Self> {
        let file = File::options().append(true).open(path_of(target, prefix))?;
        file.set_len(bytes)?;
        Ok(Self { file })
    }

    /// Adds an entry, which the disk may lose until [`sync`](Self::sync).
    pub(super) fn write(&mut self, entry: Entry) -> io::Result<()> {
        let mut bytes = Vec::new();
        frames::push(&mut bytes, &Record { entry: Some(entry) });
        self.file.write_all(&bytes)
    }

    /// Adds an entry that decides something, and brings it to the disk: if the disk does not take it, it was never said.
    pub(super) fn seal(&mut self, entry: Entry, target: &Path, prefix: &str) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        let sealed = self.write(entry).and_then(|()| self.sync(target, prefix));
        if sealed.is_err() {
            self.file.set_len(before)?;
            self.file.seek(SeekFrom::Start(before))?;
        }
        sealed
    }

    /// From here on all entries count.
    pub(super) fn sync(&self, target: &Path, prefix: &str) -> io::Result<()> {
        durable::sync_open_file(&self.file, &path_of(target, prefix))
    }
}

/// The folders whose names find a ledger.
pub(super) fn folders(target: &Path) -> [PathBuf; 2] {
    [target.join(LEDGERS), target.to_owned()]
}

/// Removes a job's ledger, and the folder if it was the last.
pub(super) fn remove(target: &Path, prefix: &str) -> io::Result<()> {
    match fs::remove_file(path_of(target, prefix)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Not if others are in it.
    let _ = fs::remove_dir(target.join(LEDGERS));
    Ok(())
}
