//! Small files that are believed: of this user, closed to others, no links.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Longer ones are not ours.
const MAX_BYTES: u64 = 64 << 10;

/// Writes a file that only this user can read, whole or not at all.
pub(super) fn write_private(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let partial = folder.join(format!(".{name}"));
    let _ = std::fs::remove_file(&partial);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&partial, folder.join(name))
}

/// Reads it, if it is such a file.
pub(super) fn read_private(folder: &Path, name: &str) -> Option<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(folder.join(name))
        .ok()?;
    let metadata = file.metadata().ok()?;
    let is_ours = metadata.is_file()
        && metadata.uid() == rustix::process::getuid().as_raw()
        && metadata.permissions().mode() & 0o077 == 0
        && metadata.len() <= MAX_BYTES;
    is_ours.then(|| read(file)).flatten()
}

fn read(file: File) -> Option<String> {
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}
