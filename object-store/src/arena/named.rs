//! The portable arena: a named segment, by the crate `shared_memory`.
//!
//! The name carries the creating process's id and start time, so that a later process can tell
//! a segment whose owner is dead from one in use: see [`super::sweep_stale`].
#![allow(
    unsafe_code,
    reason = "a segment handle of the shared_memory crate crosses threads"
)]

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::shm;
use shared_memory::{Shmem, ShmemConf, ShmemError};

use super::mapped::MappedMemory;
use super::sweep::fresh_name;
use super::{Arena, ArenaError, ArenaHandle, whole_pages};

/// See the [module](self).
#[derive(Debug)]
pub struct NamedArena {
    memory: Arc<MappedMemory>,
    segment: OwnedSegment,
}

/// Keeps the segment's name in existence.
struct OwnedSegment(Shmem);

// SAFETY: the handle holds a pointer, which is why it is not `Send`, but this type never uses it:
// it only reads the name, and unmaps and unlinks on drop, which any thread may do.
unsafe impl Send for OwnedSegment {}
// SAFETY: as above; reading the name does not change the handle.
unsafe impl Sync for OwnedSegment {}

impl fmt::Debug for OwnedSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedSegment")
            .field(&self.0.get_os_id())
            .finish()
    }
}

impl NamedArena {
    /// An arena of at least `len_bytes`. Segments of dead processes are removed first.
    pub fn create(len_bytes: u64) -> Result<Self, ArenaError> {
        super::sweep_stale();
        let len_bytes = whole_pages(len_bytes);
        check_room(len_bytes)?;
        let failed = |step: &'static str| {
            move |source: io::Error| ArenaError::Create {
                backend: "named",
                len_bytes,
                step,
                source,
            }
        };
        let config = ShmemConf::new()
            .os_id(fresh_name())
            .size(len_bytes as usize);
        let shmem = config
            .create()
            .map_err(io_error)
            .map_err(failed("shm_open"))?;
        let segment = OwnedSegment(shmem);
        let fd = open_segment(segment.0.get_os_id()).map_err(failed("shm_open again"))?;
        let memory = MappedMemory::of_file(fd, len_bytes).map_err(failed("mmap"))?;
        Ok(Self {
            memory: Arc::new(memory),
            segment,
        })
    }

    /// The segment's name, with its leading slash.
    pub fn name(&self) -> &str {
        self.segment.0.get_os_id()
    }
}

impl Arena for NamedArena {
    fn handle(&self) -> Result<ArenaHandle, ArenaError> {
        Ok(ArenaHandle::Named {
            name: self.name().to_owned(),
            len_bytes: self.len_bytes(),
        })
    }

    fn memory(&self) -> &Arc<MappedMemory> {
        &self.memory
    }
}

/// A descriptor of an existing segment.
pub(crate) fn open_segment(name: &str) -> io::Result<OwnedFd> {
    Ok(shm::open(name, shm::OFlags::RDWR, Mode::empty())?)
}

/// Pages of a full `/dev/shm` are answered with SIGBUS, so the room is checked beforehand.
fn check_room(len_bytes: u64) -> Result<(), ArenaError> {
    let path = "/dev/shm";
    let Ok(stat) = rustix::fs::statvfs(path) else {
        return Ok(());
    };
    let available_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    if available_bytes < len_bytes {
        return Err(ArenaError::NoSharedMemory {
            len_bytes,
            path,
            available_bytes,
        });
    }
    Ok(())
}

fn io_error(error: ShmemError) -> io::Error {
    match error {
        ShmemError::MapCreateFailed(code) | ShmemError::UnknownOsError(code) => {
            io::Error::from_raw_os_error(code.cast_signed())
        }
        other => io::Error::other(other),
    }
}
