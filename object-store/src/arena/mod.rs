//! The memory that a node's processes share: one trait, three backends, one conformance suite
//! (`tests/arena_conformance.rs`).
//!
//! | backend | memory | for |
//! |---|---|---|
//! | [`MemfdArena`] | anonymous file, handed over as a descriptor | Linux, the default |
//! | [`NamedArena`] | named segment (crate `shared_memory`) | elsewhere, and as fallback |
//! | [`ProcessLocalArena`] | private memory of this process | tests, one-process runs |
//!
//! The server side (this module) maps everything read-write, in the raylet alone; other processes map it read-only. Either
//! way bytes are read and written through an [`ArenaMap`](crate::client::ArenaMap) and its [ranges](crate::ranges).

mod local;
mod mapped;
#[cfg(target_os = "linux")]
mod memfd;
mod named;
mod positional;
mod sweep;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

pub use local::ProcessLocalArena;
pub use mapped::MappedMemory;
pub(crate) use mapped::{access, ask_for_huge_pages};
#[cfg(target_os = "linux")]
pub use memfd::MemfdArena;
pub use named::NamedArena;
pub(crate) use named::open_segment;
pub(crate) use positional::write_all_at;
pub use sweep::sweep_stale;

use crate::error::with_causes;
use crate::shortage::errno_of;

/// Why an arena operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The system did not give the memory.
    #[error("create {backend} arena of {len_bytes} bytes: {step}")]
    Create {
        /// Which backend.
        backend: &'static str,
        /// Its size.
        len_bytes: u64,
        /// Which step failed.
        step: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// There is not enough shared memory for a named segment.
    #[error(
        "create named arena of {len_bytes} bytes: {path} has only {available_bytes} bytes free; \
         enlarge it or use the memfd backend"
    )]
    NoSharedMemory {
        /// Wanted size.
        len_bytes: u64,
        /// Where shared memory lives.
        path: &'static str,
        /// What is left there.
        available_bytes: u64,
    },
    /// Another process's arena cannot be mapped.
    #[error("map arena {what}: {step}")]
    Open {
        /// Which arena.
        what: String,
        /// Which step failed.
        step: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The arena is not as long as its handle says.
    #[error("map arena {what}: it has {actual_bytes} bytes, not {expected_bytes}")]
    WrongLength {
        /// Which arena.
        what: String,
        /// What the handle says.
        expected_bytes: u64,
        /// What the system says.
        actual_bytes: u64,
    },
    /// A range that is not in the arena.
    #[error("access arena: {len} bytes at {offset} are not within its {arena_len_bytes} bytes")]
    OutOfBounds {
        /// Start of the range.
        offset: u64,
        /// Length of the range.
        len: u64,
        /// Length of the arena.
        arena_len_bytes: u64,
    },
    /// Bytes that do not fit the object for which they are.
    #[error("write object: {given_bytes} bytes at {at} do not fit its {object_bytes} bytes")]
    NotItsSize {
        /// Where in the object they were to go.
        at: u64,
        /// How many they are.
        given_bytes: u64,
        /// Length of the object.
        object_bytes: u64,
    },
    /// The system failed a read, write or page operation.
    #[error("{operation} {len} bytes of the arena at {offset}")]
    Access {
        /// What was tried.
        operation: &'static str,
        /// Start of the range.
        offset: u64,
        /// Length of the range.
        len: u64,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl ArenaError {
    /// The number of the system's error, if it was one.
    pub fn os_error(&self) -> Option<i32> {
        errno_of(self).map(Errno::raw_os_error)
    }

    /// The error with all its causes, for people.
    pub fn chain(&self) -> String {
        with_causes(self)
    }
}

/// What another process, or another part of this one, needs to map an arena.
#[derive(Debug)]
pub enum ArenaHandle {
    /// A descriptor of its own, to be sent over a unix socket (`SCM_RIGHTS`).
    Memfd {
        /// The memory.
        fd: OwnedFd,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// A segment that is found by its name.
    Named {
        /// The name, with its leading slash.
        name: String,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// Memory of this process.
    ProcessLocal(Arc<MappedMemory>),
}

/// The server's side of an arena: the memory, and how others map it.
pub trait Arena: Send + Sync + fmt::Debug {
    /// What clients need to map it.
    fn handle(&self) -> Result<ArenaHandle, ArenaError>;

    /// The memory as this process maps it.
    fn memory(&self) -> &Arc<MappedMemory>;

    /// Length in bytes.
    fn len_bytes(&self) -> u64 {
        self.memory().len_bytes()
    }
}

/// Size of a memory page.
pub fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// Checks a range against the length of an arena; the result can be used as indexes.
pub(crate) fn check_range(
    offset: u64,
    len: u64,
    arena_len_bytes: u64,
) -> Result<std::ops::Range<usize>, ArenaError> {
    match offset.checked_add(len) {
        Some(end) if end <= arena_len_bytes => Ok(offset as usize..end as usize),
        _ => Err(ArenaError::OutOfBounds {
            offset,
            len,
            arena_len_bytes,
        }),
    }
}

/// Rounds a length up to whole pages, as the system does anyway.
pub(crate) fn whole_pages(len_bytes: u64) -> u64 {
    len_bytes.max(1).next_multiple_of(page_bytes())
}
