//! Taking the beginning out of a file that somebody else appends to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

/// Takes at least `surplus` bytes out of the beginning of the file; gives how many. Lines that are written meanwhile stay.
///
/// Where the file system cannot take out a range (ext4 and xfs can), the file is emptied and its end written again. Then
/// what is written at that very moment may be lost.
pub(super) fn drop_beginning(path: &Path, surplus: u64) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).append(true).open(path)?;
    let block = block_bytes(&file);
    let aligned = surplus.next_multiple_of(block);
    let length = file.metadata()?.len();
    if aligned > 0 && aligned < length && is_taken_out(&file, aligned) {
        return Ok(aligned);
    }
    rewrite(file, surplus)
}

fn is_taken_out(file: &File, bytes: u64) -> bool {
    fallocate(file.as_fd(), FallocateFlags::COLLAPSE_RANGE, 0, bytes).is_ok()
}

fn rewrite(mut file: File, surplus: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = vec![0; usize::try_from(length.saturating_sub(surplus)).unwrap_or(0)];
    let count = file.read_at(&mut end, surplus)?;
    end.truncate(count);
    // As late as can be: what has come since.
    let read_to = surplus + count as u64;
    let mut late =
        vec![0; usize::try_from(file.metadata()?.len().saturating_sub(read_to)).unwrap_or(0)];
    let late_count = file.read_at(&mut late, read_to)?;
    file.set_len(0)?;
    end.extend_from_slice(&late[..late_count]);
    file.write_all(&end)?;
    Ok(surplus)
}

fn block_bytes(file: &File) -> u64 {
    let stat = rustix::fs::fstatvfs(file.as_fd());
    stat.map_or(4096, |stat| stat.f_bsize.max(4096))
}
