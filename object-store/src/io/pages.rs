//! Pages that are given back to the system.
#![allow(
    unsafe_code,
    reason = "forgets the bytes of a range; see crate::ranges"
)]

use std::sync::Arc;

use crate::arena::{ArenaError, MappedMemory};
use crate::core::Extent;

/// A range that is reserved for nothing but giving its pages back.
#[derive(Debug)]
pub(crate) struct IdlePages {
    memory: Arc<MappedMemory>,
    extent: Extent,
}

impl IdlePages {
    /// # Safety
    /// Until this is gone, nobody else reads or writes the extent: RANGE-1 (alone-while-written).
    pub(crate) unsafe fn new(memory: Arc<MappedMemory>, extent: Extent) -> Self {
        Self { memory, extent }
    }

    pub(crate) fn extent(&self) -> Extent {
        self.extent
    }

    /// Gives them back. Their bytes are undefined afterwards.
    pub(crate) fn discard(self) -> Result<(), ArenaError> {
        let Extent { offset, len } = self.extent;
        // SAFETY: the extent is this value's alone, as `new` was promised.
        unsafe { self.memory.discard(offset, len) }
    }
}
