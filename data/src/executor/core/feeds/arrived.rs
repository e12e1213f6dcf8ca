//! Blocks that have come along an edge.

use crate::executor::core::event::BlockSlice;
use crate::executor::core::lineage::{Account, BlockTable, Ingredient};

/// A block that has come along an edge.
#[derive(Debug, Clone, Copy)]
pub(in crate::executor::core) struct Arrived {
    pub(super) part: BlockSlice,
    pub(super) account: Account,
}

impl Arrived {
    /// Of its rows.
    pub(in crate::executor::core) fn bytes(&self) -> u64 {
        self.part.own_bytes()
    }

    pub(in crate::executor::core) fn ingredient(&self, blocks: &BlockTable) -> Ingredient {
        let recipe = blocks.recipe(self.part.block);
        Ingredient {
            part: self.part,
            recipe: recipe.expect("blocks that wait are not free").clone(),
            account: self.account,
        }
    }
}
