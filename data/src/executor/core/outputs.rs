//! Outputs of a stage on their way out, in the order of the inputs or as they come.
//!
//! What is done for an event depends on what the event changed, never on how many inputs wait: a job may have 100 000.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::event::BlockSlice;

/// Outputs of one input that have not left.
#[derive(Debug, Default)]
struct HeldOutputs {
    blocks: VecDeque<BlockSlice>,
    is_complete: bool,
}

/// The outputs of a stage.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    /// Of inputs that gave something, or are used up.
    held: BTreeMap<u64, HeldOutputs>,
    /// Those of `held` that changed since the last release.
    changed: BTreeSet<u64>,
    /// Inputs that are not used up.
    open_inputs: usize,
    next_released: u64,
    /// How many entries releases have looked at, for tests.
    #[cfg(test)]
    pub(crate) looked_at: u64,
}

impl Outputs {
    /// There is one more input whose outputs will come.
    pub(crate) fn expect_input(&mut self) {
        self.open_inputs += 1;
    }

    /// A block of the input at `sequence`.
    pub(crate) fn hold(&mut self, sequence: u64, block: BlockSlice) {
        self.held
            .entry(sequence)
            .or_default()
            .blocks
            .push_back(block);
        self.changed.insert(sequence);
    }

    /// The input at `sequence` is used up.
    pub(crate) fn complete(&mut self, sequence: u64) {
        self.held.entry(sequence).or_default().is_complete = true;
        self.open_inputs -= 1;
        self.changed.insert(sequence);
    }

    /// The place in the order whose outputs are released next.
    pub(crate) fn head(&self) -> u64 {
        self.next_released
    }

    /// Whether nothing is held and nothing will come.
    pub(crate) fn is_drained(&self) -> bool {
        self.open_inputs == 0 && self.held.is_empty()
    }

    /// Blocks that may leave now. `are_whole`: only all blocks of an input together.
    pub(crate) fn release(&mut self, keep_order: bool, are_whole: bool) -> Vec<BlockSlice> {
        if keep_order {
            self.changed.clear();
            self.release_in_order(are_whole)
        } else {
            self.release_changed(are_whole)
        }
    }

    /// What the input at `sequence` has given, which it will give again.
    pub(crate) fn forget(&mut self, sequence: u64) -> Vec<BlockSlice> {
        self.changed.remove(&sequence);
        let held = self.held.remove(&sequence);
        held.map_or_else(Vec::new, |held| held.blocks.into())
    }

    /// Those of the first inputs, up to one that is not used up (`EXE-4`).
    fn release_in_order(&mut self, are_whole: bool) -> Vec<BlockSlice> {
        let mut blocks = Vec::new();
        while let Some(held) = self.held.get_mut(&self.next_released) {
            if are_whole && !held.is_complete {
                break;
            }
            blocks.extend(held.blocks.drain(..));
            #[cfg(test)]
            {
                self.looked_at += 1;
            }
            if !held.is_complete {
                break;
            }
            self.held.remove(&self.next_released);
            self.next_released += 1;
        }
        blocks
    }

    fn release_changed(&mut self, are_whole: bool) -> Vec<BlockSlice> {
        let mut blocks = Vec::new();
        for sequence in std::mem::take(&mut self.changed) {
            #[cfg(test)]
            {
                self.looked_at += 1;
            }
            let Some(held) = self.held.get_mut(&sequence) else {
                continue;
            };
            if are_whole && !held.is_complete {
                continue;
            }
            blocks.extend(held.blocks.drain(..));
            // What is empty comes back with its next block.
            self.held.remove(&sequence);
        }
        blocks
    }

    /// All that has not left.
    pub(crate) fn drain(&mut self) -> Vec<BlockSlice> {
        self.changed.clear();
        std::mem::take(&mut self.held)
            .into_values()
            .flat_map(|held| held.blocks)
            .collect()
    }
}
