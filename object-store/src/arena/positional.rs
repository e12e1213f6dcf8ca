//! Writing to an arena's file at a position, completely.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

/// The system takes no more parts than this in one call.
const MAX_PARTS_PER_CALL: usize = 1024;

/// Writes all of `parts`, one after the other, starting at `offset`.
pub(crate) fn write_all_at(file: impl AsFd, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
    let parts = parts.iter().filter(|part| !part.is_empty());
    let mut slices: Vec<IoSlice<'_>> = parts.map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let batch = &rest[..rest.len().min(MAX_PARTS_PER_CALL)];
        match rustix::io::pwritev(&file, batch, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
