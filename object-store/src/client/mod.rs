//! What a worker or driver process holds of an arena: a read-only mapping, and ways to write into
//! a range it is creating.
//!
//! ```text
//!               read-only mapping of all of it            a range being created
//! SealedRange ->|  sealed  |  sealed  |   free  |        |...........| <- CreatingRange
//!                                                          ^       ^
//!                                write(): copies a value --'       '-- in_place(): builds in place
//! ```
//! An object for which the arena has no room lies in a file on the disk, which is mapped in the same way, as if it were an arena of
//! its own ([`ArenaMap::of_new_file`], [`ArenaMap::of_sealed_file`]).
//!
//! What may be read and written is said by the types of [`crate::ranges`]. A stray write through a view faults; it cannot
//! change a sealed object (`OBJ-3 (sealed-is-immutable)`). A [`WritableRange`] reaches only the pages of its own object.
//!
//! # How values are copied in
//! Measured with `cargo run --release -p aktis-object-store --example arena_write` on a busy
//! machine of two cores (trust the ratios): 200 MiB of anonymous memory, one thread, GB/s, best of
//! six. *Cold* pages do not exist yet; *resident* pages exist, but this process has never touched
//! them; *mapped* pages were written by this process before.
//!
//! | way | cold | resident | mapped |
//! |---|---|---|---|
//! | copy into a shared mapping, page faults as they come | 1.35 | 2.89 | **9.73** |
//! | `MADV_POPULATE_WRITE`, then copy | 2.21 | **4.82** | 7.89 |
//! | map only the range, copy, unmap | 1.28 | 2.36 | - |
//! | map only the range with `MAP_POPULATE`, copy, unmap | 1.42 | 4.21 | - |
//! | non-temporal stores | 1.17 | 2.09 | 6.30 |
//! | `pwrite` | **2.73** | 3.01 | - |
//! | [`CreatingRange::write`](crate::CreatingRange::write) | 2.71 | 4.45 | 9.43 |
//!
//! Values that fit a cache are another matter: for 10 MiB `pwrite` is ahead of populate-and-copy
//! on resident pages (7.5 to 6.2) and behind a copy into mapped ones (7.5 to 14.7); below 1 MiB a
//! change of page protection costs more than it brings.
//!
//! So a value goes
//! - by `pwritev` if it is short, or its pages are cold: that neither clears pages nor faults;
//! - through the mapping if its pages are resident, and it is long or this process has written
//!   there before. Its range is made writable for that, and populated unless it is known to be
//!   mapped already.
//!
//! `mincore` tells cold from resident, one page per MiB. The allocator prefers memory that was
//! freed last, so a program that makes and drops large values stays on mapped pages, where
//! `write` reaches 98-100 % of a plain copy. Non-temporal stores bring nothing: `memcpy`
//! uses them itself for large copies.
//!
//! One thread does not use all of the memory's bandwidth: from 16 MiB on, what goes through the mapping is shared among
//! threads that live as long as the copy, each of which populates and copies its share.

mod map;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "serves the Linux way of writing")
)]
mod parallel;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "serves the Linux way of writing")
)]
mod residency;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "serves the Linux way of writing")
)]
mod window;
mod writable;
mod write;

pub use map::{ArenaMap, open_sealed_file};
pub use writable::WritableRange;
