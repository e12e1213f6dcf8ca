//! Blocks of this process on their way to the store. A store that is full lets whoever puts wait: here that is a thread of its own, and
//! never the loop of the execution.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use super::core::event::BlockKey;
use super::pool::PutAway;
use crate::block::BlockHandle;

/// Hears what became of a block: where it lies now, or why it stays here.
pub(super) type Stored = Arc<dyn Fn(BlockKey, Result<BlockHandle, TaskFailure>) + Send + Sync>;

/// Puts blocks into the store, one after another, on a thread that begins with the first and ends when this is dropped.
pub(crate) struct Storing {
    put_away: PutAway,
    stored: Stored,
    wanted: Option<Sender<(BlockKey, BlockHandle)>>,
}

impl Storing {
    /// `stored` is called for each block that is wanted there.
    pub(super) fn new(put_away: PutAway, stored: Stored) -> Self {
        Self {
            put_away,
            stored,
            wanted: None,
        }
    }

    /// Puts a block there, when its turn comes.
    pub(super) fn want(&mut self, block: BlockKey, handle: BlockHandle) {
        let wanted = match self.wanted.take().map_or_else(|| self.begin(), Ok) {
            Ok(wanted) => wanted,
            Err(failure) => return (self.stored)(block, Err(failure)),
        };
        match wanted.send((block, handle)) {
            Ok(()) => self.wanted = Some(wanted),
            Err(_) => (self.stored)(block, Err(internal("the thread that stores has panicked"))),
        }
    }

    fn begin(&self) -> Result<Sender<(BlockKey, BlockHandle)>, TaskFailure> {
        let (wanted, blocks) = channel();
        let (put_away, stored) = (Arc::clone(&self.put_away), Arc::clone(&self.stored));
        thread::Builder::new()
            .name("aktis-store".to_owned())
            .spawn(move || run(&blocks, &put_away, &stored))
            .map_err(|error| internal(&format!("start a thread that stores: {error}")))?;
        Ok(wanted)
    }
}

fn internal(text: &str) -> TaskFailure {
    TaskFailure::new(ErrorCode::Internal, text)
}

fn run(blocks: &Receiver<(BlockKey, BlockHandle)>, put_away: &PutAway, stored: &Stored) {
    while let Ok((block, handle)) = blocks.recv() {
        let outcome = put_away(&handle);
        let failure = outcome.as_ref().err().cloned();
        stored(block, outcome);
        let Some(failure) = failure else { continue };
        // Those behind it would find the store as full, and wait as long.
        for (block, _) in blocks.try_iter() {
            stored(block, Err(failure.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What became of the blocks 0 to 2. The store takes none before `opens` is sent to, and then those that say so.
    fn became(are_taken: [bool; 3]) -> Vec<(u64, bool)> {
        let (opens, is_open) = channel();
        let is_open = parking_lot::Mutex::new(is_open);
        let put_away: PutAway = Arc::new(move |handle| {
            let takes: bool = *handle.get().expect("says whether it is taken");
            is_open.lock().recv().expect("opens");
            takes
                .then(|| handle.clone())
                .ok_or_else(|| internal("full"))
        });
        let (told, outcomes) = channel();
        let stored: Stored = Arc::new(move |block: BlockKey, outcome: Result<_, _>| {
            told.send((block.0, outcome.is_ok())).expect("is heard");
        });
        let mut storing = Storing::new(put_away, stored);
        for (block, is_taken) in (0..).zip(are_taken) {
            // Whoever wants it does not wait: the store is not open yet.
            storing.want(BlockKey(block), BlockHandle::new(is_taken));
        }
        (0..3).for_each(|_| opens.send(()).expect("somebody puts"));
        outcomes.iter().take(3).collect()
    }

    #[test]
    fn blocks_are_stored_while_nobody_waits() {
        assert_eq!(became([true; 3]), [(0, true), (1, true), (2, true)]);
    }

    #[test]
    fn blocks_behind_one_that_has_no_room_stay_without_asking() {
        assert_eq!(
            became([true, false, true]),
            [(0, true), (1, false), (2, false)]
        );
    }
}
