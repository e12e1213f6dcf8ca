//! Ranges of an arena that a test has for itself: it writes an object, then reads it.
#![allow(
    unsafe_code,
    dead_code,
    reason = "vouches for ranges, as the tests that use it never write what is being read; not every test needs all of it"
)]

use aktis_object_store::{ArenaError, ArenaMap, CreatingRange, SealedRange};

/// The bytes of an object that is written.
pub(crate) fn sealed(
    arena: &ArenaMap,
    offset: u64,
    len: u64,
) -> Result<SealedRange<()>, ArenaError> {
    // SAFETY: nobody writes there while the test reads it.
    unsafe { SealedRange::new(arena.clone(), offset, len, ()) }
}

/// An object to be written.
pub(crate) fn creating(
    arena: &ArenaMap,
    offset: u64,
    len: u64,
) -> Result<CreatingRange, ArenaError> {
    // SAFETY: nobody else writes or reads there while the test writes it.
    unsafe { CreatingRange::new(arena.clone(), offset, len) }
}

/// Writes an object that consists of `parts`.
pub(crate) fn write(arena: &ArenaMap, offset: u64, parts: &[&[u8]]) -> Result<(), ArenaError> {
    let len = parts.iter().map(|part| part.len() as u64).sum();
    creating(arena, offset, len)?.write(parts)
}
