//! Where the blocks of an execution lie, and how much of them lies in this process.
//!
//! Short results of calls come with the answer and stay in the memory of their owner, the driver. Of a shuffle these can be all rows: they
//! would fill this process, where nothing can be spilled. From some bytes on they go to the store like longer ones.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aktis_worker::TaskFailure;

use super::core::event::BlockKey;
use super::pool::StagePool;
use crate::block::BlockHandle;

/// Blocks in this process have this part of the budget.
const HERE_PART: u64 = 16;

/// A store that takes nothing lets whoever asks wait, and all of the execution with it: it is not asked again before this is over.
const FULL_FOR: Duration = Duration::from_secs(30);

/// The blocks that there are.
pub(crate) struct KeptBlocks {
    handles: HashMap<BlockKey, BlockHandle>,
    /// Bytes of those that lie in this process.
    here: HashMap<BlockKey, u64>,
    here_bytes: u64,
    most_here_bytes: u64,
    /// The store took nothing: until then it is not asked again.
    full_until: Option<Instant>,
}

impl KeptBlocks {
    /// None yet, of an execution that may hold so many bytes in all.
    pub(super) fn new(budget_bytes: u64) -> Self {
        Self {
            handles: HashMap::new(),
            here: HashMap::new(),
            here_bytes: 0,
            most_here_bytes: budget_bytes / HERE_PART,
            full_until: None,
        }
    }

    pub(super) fn get(&self, block: BlockKey) -> Option<&BlockHandle> {
        self.handles.get(&block)
    }

    /// A block that a worker has made, with so many bytes. It goes to the store where too many are here.
    pub(super) fn made(
        &mut self,
        block: BlockKey,
        handle: BlockHandle,
        bytes: u64,
        pool: &dyn StagePool,
    ) {
        let bytes_here = pool.is_here(&handle).then_some(bytes);
        self.insert(block, handle, bytes_here, |handle| pool.put_away(handle));
    }

    /// `bytes_here`: those of a block in this process.
    fn insert(
        &mut self,
        block: BlockKey,
        mut handle: BlockHandle,
        bytes_here: Option<u64>,
        put_away: impl FnOnce(&BlockHandle) -> Result<BlockHandle, TaskFailure>,
    ) {
        if let Some(bytes) = bytes_here {
            let has_room = self.here_bytes + bytes <= self.most_here_bytes;
            let is_full = self.full_until.is_some_and(|until| Instant::now() < until);
            match (!has_room && !is_full)
                .then(|| put_away(&handle))
                .transpose()
            {
                Ok(Some(stored)) => handle = stored,
                Ok(None) => self.count_here(block, bytes),
                // It is safe where it is, and whoever needs the store next says what is wrong with it.
                Err(failure) => {
                    tracing::debug!(%failure, "short blocks stay in this process");
                    self.full_until = Some(Instant::now() + FULL_FOR);
                    self.count_here(block, bytes);
                }
            }
        }
        self.handles.insert(block, handle);
    }

    fn count_here(&mut self, block: BlockKey, bytes: u64) {
        self.here_bytes += bytes;
        self.here.insert(block, bytes);
    }

    /// Nobody needs it any more.
    pub(super) fn remove(&mut self, block: BlockKey) -> Option<BlockHandle> {
        self.here_bytes -= self.here.remove(&block).unwrap_or(0);
        self.handles.remove(&block)
    }

    /// What was lost is there again, as another one. Gives where it lies.
    pub(super) fn rename(&mut self, made: BlockKey, lost: BlockKey) -> Option<BlockHandle> {
        let bytes = self.here.get(&made).copied();
        let handle = self.remove(made)?;
        self.remove(lost);
        if let Some(bytes) = bytes {
            self.count_here(lost, bytes);
        }
        self.handles.insert(lost, handle.clone());
        Some(handle)
    }
}

#[cfg(test)]
mod tests {
    use aktis_common::error::ErrorCode;

    use super::*;

    /// Blocks lie here until they are put away.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Place {
        Here,
        Store,
    }

    /// A block of so many bytes; where it is kept.
    fn kept(blocks: &mut KeptBlocks, key: u64, bytes: u64) -> Place {
        let place = |handle: &BlockHandle| *handle.get::<Place>().expect("is a place");
        let away = |_: &BlockHandle| Ok(BlockHandle::new(Place::Store));
        blocks.insert(
            BlockKey(key),
            BlockHandle::new(Place::Here),
            Some(bytes),
            away,
        );
        blocks.get(BlockKey(key)).map(place).expect("is kept")
    }

    #[test]
    fn short_blocks_go_to_the_store_when_many_are_here() {
        let mut blocks = KeptBlocks::new(100 * HERE_PART);
        assert_eq!(kept(&mut blocks, 0, 60), Place::Here);
        assert_eq!(kept(&mut blocks, 1, 41), Place::Store);
        assert_eq!(kept(&mut blocks, 2, 40), Place::Here);
        blocks.remove(BlockKey(1)).expect("was kept");
        assert_eq!(
            kept(&mut blocks, 3, 1),
            Place::Store,
            "none of those here has gone"
        );
        blocks.rename(BlockKey(2), BlockKey(9)).expect("was kept");
        assert!(blocks.get(BlockKey(2)).is_none());
        assert_eq!(
            kept(&mut blocks, 4, 1),
            Place::Store,
            "it is here under another name"
        );
        blocks.remove(BlockKey(9)).expect("was kept");
        assert_eq!(kept(&mut blocks, 5, 40), Place::Here);
    }

    #[test]
    fn block_that_the_store_does_not_take_stays_here() {
        let mut blocks = KeptBlocks::new(0);
        let full = |_: &BlockHandle| Err(TaskFailure::new(ErrorCode::Internal, "full"));
        blocks.insert(BlockKey(0), BlockHandle::new(Place::Here), Some(1), full);
        assert!(blocks.get(BlockKey(0)).is_some());
        assert_eq!(blocks.here_bytes, 1);
        let asked = |_: &BlockHandle| panic!("it has just said that it takes nothing");
        blocks.insert(BlockKey(1), BlockHandle::new(Place::Here), Some(1), asked);
        assert_eq!(blocks.here_bytes, 2);
    }
}
