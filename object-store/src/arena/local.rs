//! An arena within one process.

use std::io::IoSlice;
use std::sync::Arc;

use super::mapped::MappedMemory;
use super::{Arena, ArenaError, ArenaHandle, arena_over_memory, whole_pages};

/// Memory that an arena and its clients in the same process share.
#[derive(Debug)]
pub struct LocalMemory {
    pub(crate) memory: MappedMemory,
}

impl LocalMemory {
    /// Length in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.memory.len_bytes()
    }
}

/// Private memory; clients in this process share it by reference. Views of it are not protected
/// against stray writes as those of the other backends are.
#[derive(Debug)]
pub struct ProcessLocalArena {
    local: Arc<LocalMemory>,
}

impl ProcessLocalArena {
    /// An arena of at least `len_bytes`.
    pub fn create(len_bytes: u64) -> Result<Self, ArenaError> {
        let len_bytes = whole_pages(len_bytes);
        let memory = MappedMemory::anonymous(len_bytes).map_err(|source| ArenaError::Create {
            backend: "process-local",
            len_bytes,
            step: "mmap",
            source,
        })?;
        Ok(Self {
            local: Arc::new(LocalMemory { memory }),
        })
    }
}

impl ProcessLocalArena {
    fn memory(&self) -> &MappedMemory {
        &self.local.memory
    }
}

impl Arena for ProcessLocalArena {
    fn handle(&self) -> Result<ArenaHandle, ArenaError> {
        Ok(ArenaHandle::ProcessLocal(Arc::clone(&self.local)))
    }

    arena_over_memory!();
}
