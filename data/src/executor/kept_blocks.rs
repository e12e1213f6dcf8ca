//! Where the blocks of an execution lie, and how much of them lies in this process.
//!
//! Short results of calls come with the answer and stay in the memory of their owner, the driver. Of a shuffle these can be all rows: they
//! would fill this process, where nothing can be spilled. From some bytes on they go to the store like longer ones.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aktis_worker::TaskFailure;

use super::core::event::BlockKey;
use crate::block::BlockHandle;

/// Blocks in this process have this part of the budget.
const HERE_PART: u64 = 16;

/// A store that took nothing is not asked again before this is over.
const FULL_FOR: Duration = Duration::from_secs(30);

/// The blocks that there are.
pub(crate) struct KeptBlocks {
    handles: HashMap<BlockKey, BlockHandle>,
    /// Those that lie in this process.
    here: HashMap<BlockKey, Here>,
    /// Bytes of those that stay.
    staying_bytes: u64,
    most_here_bytes: u64,
    /// The store took nothing: until then it is not asked again.
    full_until: Option<Instant>,
}

/// A block in this process.
struct Here {
    bytes: u64,
    /// It is on its way to the store.
    is_leaving: bool,
}

impl KeptBlocks {
    /// None yet, of an execution that may hold so many bytes in all.
    pub(super) fn new(budget_bytes: u64) -> Self {
        Self {
            handles: HashMap::new(),
            here: HashMap::new(),
            staying_bytes: 0,
            most_here_bytes: budget_bytes / HERE_PART,
            full_until: None,
        }
    }

    pub(super) fn get(&self, block: BlockKey) -> Option<&BlockHandle> {
        self.handles.get(&block)
    }

    /// A block that a worker has made. `bytes_here`: of one that lies in this process. Whether it is to go to the store, as too many
    /// are here: [`Self::stored`] says what became of that.
    #[must_use]
    pub(super) fn made(
        &mut self,
        block: BlockKey,
        handle: BlockHandle,
        bytes_here: Option<u64>,
    ) -> bool {
        self.handles.insert(block, handle);
        let Some(bytes) = bytes_here else {
            return false;
        };
        let has_room = self.staying_bytes + bytes <= self.most_here_bytes;
        let is_full = self.full_until.is_some_and(|until| Instant::now() < until);
        let is_leaving = !has_room && !is_full;
        self.count_here(block, bytes, is_leaving);
        is_leaving
    }

    /// The block lies in the store, or has no place there.
    pub(super) fn stored(&mut self, block: BlockKey, outcome: Result<BlockHandle, TaskFailure>) {
        let here = self.here.get(&block).filter(|here| here.is_leaving);
        let bytes = here.map(|here| here.bytes);
        match outcome {
            Ok(stored) => {
                // Nobody may need it any more.
                if bytes.is_some() {
                    self.here.remove(&block);
                    self.handles.insert(block, stored);
                }
            }
            // It is safe where it is, and whoever needs the store next says what is wrong with it.
            Err(failure) => {
                tracing::debug!(%failure, "short blocks stay in this process");
                self.full_until = Some(Instant::now() + FULL_FOR);
                if let Some(bytes) = bytes {
                    self.count_here(block, bytes, false);
                }
            }
        }
    }

    fn count_here(&mut self, block: BlockKey, bytes: u64, is_leaving: bool) {
        if !is_leaving {
            self.staying_bytes += bytes;
        }
        self.here.insert(block, Here { bytes, is_leaving });
    }

    /// Nobody needs it any more.
    pub(super) fn remove(&mut self, block: BlockKey) -> Option<BlockHandle> {
        if let Some(here) = self.here.remove(&block)
            && !here.is_leaving
        {
            self.staying_bytes -= here.bytes;
        }
        self.handles.remove(&block)
    }

    /// What was lost is there again, as another one. Gives where it lies.
    pub(super) fn rename(&mut self, made: BlockKey, lost: BlockKey) -> Option<BlockHandle> {
        let bytes = self.here.get(&made).map(|here| here.bytes);
        let handle = self.remove(made)?;
        self.remove(lost);
        if let Some(bytes) = bytes {
            // Nobody would find it under its other name if it were on its way.
            self.count_here(lost, bytes, false);
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
        if blocks.made(BlockKey(key), BlockHandle::new(Place::Here), Some(bytes)) {
            assert_eq!(
                place(blocks, key),
                Place::Here,
                "as long as it is on its way"
            );
            blocks.stored(BlockKey(key), Ok(BlockHandle::new(Place::Store)));
        }
        place(blocks, key)
    }

    fn place(blocks: &KeptBlocks, key: u64) -> Place {
        let handle = blocks.get(BlockKey(key)).expect("is kept");
        *handle.get::<Place>().expect("is a place")
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
        let here = || BlockHandle::new(Place::Here);
        let mut blocks = KeptBlocks::new(0);
        assert!(blocks.made(BlockKey(0), here(), Some(1)));
        assert_eq!(blocks.staying_bytes, 0);
        let full = TaskFailure::new(ErrorCode::Internal, "full");
        blocks.stored(BlockKey(0), Err(full));
        assert_eq!(place(&blocks, 0), Place::Here);
        assert_eq!(blocks.staying_bytes, 1);
        assert!(
            !blocks.made(BlockKey(1), here(), Some(1)),
            "it has just said that it takes nothing"
        );
        assert_eq!(blocks.staying_bytes, 2);
        blocks.remove(BlockKey(0)).expect("was kept");
        assert_eq!(blocks.staying_bytes, 1);
    }

    #[test]
    fn block_that_is_gone_when_it_is_stored_does_not_come_back() {
        let mut blocks = KeptBlocks::new(0);
        let leaves = |blocks: &mut KeptBlocks, key| {
            assert!(blocks.made(BlockKey(key), BlockHandle::new(Place::Here), Some(1)));
        };
        let stored = || Ok(BlockHandle::new(Place::Store));
        leaves(&mut blocks, 0);
        blocks.remove(BlockKey(0)).expect("was kept");
        blocks.stored(BlockKey(0), stored());
        assert!(blocks.get(BlockKey(0)).is_none());
        leaves(&mut blocks, 1);
        blocks.rename(BlockKey(1), BlockKey(9)).expect("was kept");
        blocks.stored(BlockKey(1), stored());
        assert!(blocks.get(BlockKey(1)).is_none());
        assert_eq!(place(&blocks, 9), Place::Here);
        assert_eq!(blocks.staying_bytes, 1);
    }
}
