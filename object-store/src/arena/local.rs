//! An arena within one process.

use std::sync::Arc;

use super::{Arena, ArenaError, ArenaHandle, MappedMemory, whole_pages};

/// Private memory; clients in this process share it by reference. Views of it are not protected
/// against stray writes as those of the other backends are.
#[derive(Debug)]
pub struct ProcessLocalArena {
    memory: Arc<MappedMemory>,
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
            memory: Arc::new(memory),
        })
    }
}

impl Arena for ProcessLocalArena {
    fn handle(&self) -> Result<ArenaHandle, ArenaError> {
        Ok(ArenaHandle::ProcessLocal(Arc::clone(&self.memory)))
    }

    fn memory(&self) -> &Arc<MappedMemory> {
        &self.memory
    }
}
