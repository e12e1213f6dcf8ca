//! Which input made a block, so that a block that was lost with its node can be made again.
//!
//! A block remembers its input, and that input the blocks that it was made of, back to splits of the source, which never
//! get lost. Blocks that are free are remembered for as long as something that was made of them is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::event::{BlockKey, BlockSlice, InputContent};

/// An input as it was when it made blocks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The stage that it is an input of.
    pub(crate) stage: usize,
    /// Its place in the stage's order.
    pub(crate) sequence: u64,
    pub(crate) content: Ingredients,
}

/// What an input is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ingredients {
    Split(usize),
    Blocks(Vec<Ingredient>),
}

/// Rows of a block, and how that block is made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ingredient {
    pub(crate) part: BlockSlice,
    pub(crate) recipe: Recipe,
}

/// How a block is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) origin: Arc<Origin>,
    /// Blocks of the input before it.
    pub(crate) blocks_before: u64,
    /// Rows in them.
    pub(crate) rows_before: u64,
    /// Rows of the block.
    pub(crate) rows: u64,
}

impl Origin {
    /// The input, to be given to a worker.
    pub(crate) fn to_content(&self) -> InputContent {
        match &self.content {
            Ingredients::Split(split) => InputContent::Split(*split),
            Ingredients::Blocks(parts) => {
                InputContent::Blocks(parts.iter().map(|part| part.part).collect())
            }
        }
    }

    /// The blocks that it needs.
    pub(crate) fn ingredients(&self) -> &[Ingredient] {
        match &self.content {
            Ingredients::Split(_) => &[],
            Ingredients::Blocks(parts) => parts,
        }
    }
}

/// A block that somebody needs.
#[derive(Debug)]
struct LiveBlock {
    /// Of the rows that there are of it.
    bytes: u64,
    recipe: Recipe,
    /// Inputs, the consumer, runs that make lost blocks again.
    users: u32,
    /// Whether it was made since it is needed: what came back is not, until its input was run again.
    is_made: bool,
}

/// A block that nobody needs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freed {
    /// The stage that made it.
    pub(crate) stage: usize,
    pub(crate) bytes: u64,
    /// Whether there is something to release.
    pub(crate) is_made: bool,
}

/// The blocks that are not free.
#[derive(Debug, Default)]
pub(crate) struct BlockTable {
    blocks: BTreeMap<BlockKey, LiveBlock>,
    lost: BTreeSet<BlockKey>,
    used_bytes: u64,
}

impl BlockTable {
    /// A new block, with one user.
    pub(crate) fn add(&mut self, block: BlockKey, bytes: u64, recipe: Recipe) {
        self.used_bytes += bytes;
        let live = LiveBlock {
            bytes,
            recipe,
            users: 1,
            is_made: true,
        };
        self.blocks.insert(block, live);
    }

    /// One more stage that the block goes to.
    pub(crate) fn share(&mut self, block: BlockKey) {
        if let Some(live) = self.blocks.get_mut(&block) {
            live.users += 1;
        }
    }

    /// One more user. A block that is free comes back, as one that is lost: `true`.
    pub(crate) fn use_again(&mut self, ingredient: &Ingredient) -> bool {
        let block = ingredient.part.block;
        if let Some(live) = self.blocks.get_mut(&block) {
            live.users += 1;
            return false;
        }
        self.add(block, ingredient.part.bytes, ingredient.recipe.clone());
        if let Some(live) = self.blocks.get_mut(&block) {
            live.is_made = false;
        }
        self.lost.insert(block);
        true
    }

    /// A user less. `Some` for the last one.
    pub(crate) fn free(&mut self, block: BlockKey) -> Option<Freed> {
        let live = self.blocks.get_mut(&block)?;
        live.users -= 1;
        if live.users > 0 {
            return None;
        }
        let live = self.blocks.remove(&block)?;
        self.lost.remove(&block);
        self.used_bytes -= live.bytes;
        Some(Freed {
            stage: live.recipe.origin.stage,
            bytes: live.bytes,
            is_made: live.is_made,
        })
    }

    /// The block is not to be read any more. `Some` if that is news: how to make it.
    pub(crate) fn lose(&mut self, block: BlockKey) -> Option<Recipe> {
        let live = self.blocks.get(&block)?;
        self.lost.insert(block).then(|| live.recipe.clone())
    }

    /// The block was made again. Returns whether it has the rows that it had.
    pub(crate) fn found(&mut self, block: BlockKey, rows: u64) -> bool {
        self.lost.remove(&block);
        let Some(live) = self.blocks.get_mut(&block) else {
            return true;
        };
        live.is_made = true;
        live.recipe.rows == rows
    }

    /// How the block is made.
    pub(crate) fn recipe(&self, block: BlockKey) -> Option<&Recipe> {
        self.blocks.get(&block).map(|live| &live.recipe)
    }

    /// Whether somebody needs it and cannot have it.
    pub(crate) fn is_lost(&self, block: BlockKey) -> bool {
        self.lost.contains(&block)
    }

    /// Whether somebody needs it.
    pub(crate) fn contains(&self, block: BlockKey) -> bool {
        self.blocks.contains_key(&block)
    }

    /// Whether all that the input names can be read, as far as anybody knows.
    pub(crate) fn are_there(&self, content: &InputContent) -> bool {
        match content {
            InputContent::Split(_) => true,
            InputContent::Blocks(parts) => {
                self.lost.is_empty() || parts.iter().all(|part| !self.lost.contains(&part.block))
            }
        }
    }

    /// Whether some block is lost.
    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Bytes of all of them.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// All but these.
    pub(crate) fn others(&self, but: &BTreeSet<BlockKey>) -> Vec<BlockKey> {
        let keys = self.blocks.keys().copied();
        keys.filter(|key| !but.contains(key)).collect()
    }
}
