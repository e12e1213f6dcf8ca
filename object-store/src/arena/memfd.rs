//! The arena of a Linux node: an anonymous memory file.
//!
//! It has no name, so nothing is left behind when its processes die, and it is not subject to
//! the size of `/dev/shm`. It is sealed against growing and shrinking: no process that got the
//! descriptor can make another one's mapping fault.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};

use super::mapped::{MappedMemory, access};
use super::{Arena, ArenaError, ArenaHandle, whole_pages};

/// See the [module](self).
#[derive(Debug)]
pub struct MemfdArena {
    memory: Arc<MappedMemory>,
}

impl MemfdArena {
    /// An arena of at least `len_bytes`, none of whose pages exist yet.
    pub fn create(len_bytes: u64) -> Result<Self, ArenaError> {
        let len_bytes = whole_pages(len_bytes);
        let failed = |step: &'static str| {
            move |source: io::Error| ArenaError::Create {
                backend: "memfd",
                len_bytes,
                step,
                source,
            }
        };
        let fd = create_sealed(len_bytes).map_err(failed("memfd_create"))?;
        let memory = MappedMemory::of_file(fd, len_bytes).map_err(failed("mmap"))?;
        Ok(Self {
            memory: Arc::new(memory),
        })
    }
}

fn create_sealed(len_bytes: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("aktis-arena", flags)?;
    rustix::fs::ftruncate(&fd, len_bytes)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&fd, seals)?;
    Ok(fd)
}

impl Arena for MemfdArena {
    fn handle(&self) -> Result<ArenaHandle, ArenaError> {
        let len_bytes = self.len_bytes();
        let fd = self
            .memory
            .duplicate_fd()
            .map_err(|source| access("duplicate the descriptor of", 0, len_bytes, source))?
            .expect("a memfd arena has a file");
        Ok(ArenaHandle::Memfd { fd, len_bytes })
    }

    fn memory(&self) -> &Arc<MappedMemory> {
        &self.memory
    }
}
