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
    Blocks {
        /// Of each feed; those of a broadcast are shared by all inputs.
        feeds: Vec<Arc<[Ingredient]>>,
        partition: u32,
        /// Other inputs have more of its partition.
        is_piece: bool,
    },
}

/// What a use of a block counts against. A block counts against the budget as long as one of its users does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
    /// Blocks that wait or are read.
    Budget,
    /// Blocks that lie behind a barrier: the object store spills them.
    Exchange,
}

/// Rows of a block, and how that block is made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ingredient {
    pub(crate) part: BlockSlice,
    pub(crate) recipe: Recipe,
    pub(crate) account: Account,
}

impl Ingredient {
    /// Where it is in the order of the stage that made it.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.recipe.origin.sequence, self.recipe.blocks_before)
    }
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
    /// Which partition it belongs to.
    pub(crate) partition: u32,
}

impl Origin {
    /// The input, to be given to a worker.
    pub(crate) fn to_content(&self) -> InputContent {
        match &self.content {
            Ingredients::Split(split) => InputContent::Split(*split),
            Ingredients::Blocks {
                feeds,
                partition,
                is_piece,
            } => {
                let parts = |feed: &Arc<[Ingredient]>| feed.iter().map(|one| one.part).collect();
                InputContent::Blocks {
                    feeds: feeds.iter().map(parts).collect(),
                    partition: *partition,
                    is_piece: *is_piece,
                }
            }
        }
    }

    /// The blocks that it needs.
    pub(crate) fn ingredients(&self) -> impl Iterator<Item = &Ingredient> {
        let feeds = match &self.content {
            Ingredients::Split(_) => &[][..],
            Ingredients::Blocks { feeds, .. } => feeds,
        };
        feeds.iter().flat_map(|feed| feed.iter())
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
    /// Those of them that count against the budget.
    budget_users: u32,
    /// Whether it was made since it is needed: what came back is not, until its input was run again.
    is_made: bool,
}

/// What changed with a user less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freed {
    /// The stage that made it.
    pub(crate) stage: usize,
    /// Bytes that do not count against the budget any more.
    pub(crate) budget_bytes: u64,
    /// Whether nobody needs it, and there is something to release.
    pub(crate) is_to_release: bool,
}

/// What changed with a user more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    /// Bytes that count against the budget again.
    pub(crate) budget_bytes: u64,
    /// Whether it was free, so that it must be made again.
    pub(crate) is_missing: bool,
}

/// The blocks that are not free.
#[derive(Debug, Default)]
pub(crate) struct BlockTable {
    blocks: BTreeMap<BlockKey, LiveBlock>,
    lost: BTreeSet<BlockKey>,
    /// Of those that count against the budget.
    used_bytes: u64,
    /// Of the others.
    exchange_bytes: u64,
}

impl BlockTable {
    /// A new block, with one user that counts against the budget.
    pub(crate) fn add(&mut self, block: BlockKey, bytes: u64, recipe: Recipe) {
        self.insert(block, bytes, recipe, Account::Budget, true);
    }

    fn insert(
        &mut self,
        block: BlockKey,
        bytes: u64,
        recipe: Recipe,
        account: Account,
        is_made: bool,
    ) {
        *self.bytes_of(account) += bytes;
        let live = LiveBlock {
            bytes,
            recipe,
            users: 1,
            budget_users: u32::from(account == Account::Budget),
            is_made,
        };
        self.blocks.insert(block, live);
    }

    fn bytes_of(&mut self, account: Account) -> &mut u64 {
        match account {
            Account::Budget => &mut self.used_bytes,
            Account::Exchange => &mut self.exchange_bytes,
        }
    }

    /// One more user of a block that is not free. Returns bytes that count against the budget again.
    pub(crate) fn share(&mut self, block: BlockKey, account: Account) -> u64 {
        let Some(live) = self.blocks.get_mut(&block) else {
            return 0;
        };
        live.users += 1;
        if account == Account::Exchange {
            return 0;
        }
        live.budget_users += 1;
        if live.budget_users > 1 {
            return 0;
        }
        self.exchange_bytes -= live.bytes;
        self.used_bytes += live.bytes;
        live.bytes
    }

    /// One more user. A block that is free comes back, as one that is lost.
    pub(crate) fn use_again(&mut self, ingredient: &Ingredient) -> Used {
        let (block, account) = (ingredient.part.block, ingredient.account);
        if self.blocks.contains_key(&block) {
            return Used {
                budget_bytes: self.share(block, account),
                is_missing: false,
            };
        }
        let bytes = ingredient.part.bytes;
        self.insert(block, bytes, ingredient.recipe.clone(), account, false);
        self.lost.insert(block);
        Used {
            budget_bytes: if account == Account::Budget { bytes } else { 0 },
            is_missing: true,
        }
    }

    /// A user less.
    pub(crate) fn free(&mut self, block: BlockKey, account: Account) -> Option<Freed> {
        let live = self.blocks.get_mut(&block)?;
        let (stage, bytes) = (live.recipe.origin.stage, live.bytes);
        live.users -= 1;
        live.budget_users -= u32::from(account == Account::Budget);
        let leaves_budget = account == Account::Budget && live.budget_users == 0;
        let (is_free, is_made) = (live.users == 0, live.is_made);
        if leaves_budget {
            self.used_bytes -= bytes;
            self.exchange_bytes += bytes;
        }
        if is_free {
            self.exchange_bytes -= bytes;
            self.blocks.remove(&block);
            self.lost.remove(&block);
        }
        Some(Freed {
            stage,
            budget_bytes: if leaves_budget { bytes } else { 0 },
            is_to_release: is_free && is_made,
        })
    }

    /// What each of the block's users counts against.
    pub(crate) fn users(&self, block: BlockKey) -> Vec<Account> {
        self.blocks.get(&block).map_or_else(Vec::new, |live| {
            let of = |account, count| std::iter::repeat_n(account, count as usize);
            let others = live.users - live.budget_users;
            of(Account::Budget, live.budget_users)
                .chain(of(Account::Exchange, others))
                .collect()
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

    /// Those that somebody needs and cannot have.
    pub(crate) fn all_lost(&self) -> &BTreeSet<BlockKey> {
        &self.lost
    }

    /// Whether somebody needs it.
    pub(crate) fn contains(&self, block: BlockKey) -> bool {
        self.blocks.contains_key(&block)
    }

    /// Whether all that the input names can be read, as far as anybody knows.
    pub(crate) fn are_there(&self, origin: &Origin) -> bool {
        let mut blocks = origin.ingredients().map(|one| one.part.block);
        self.lost.is_empty() || blocks.all(|block| !self.lost.contains(&block))
    }

    /// Bytes of those that count against the budget.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Bytes of the others.
    pub(crate) fn exchange_bytes(&self) -> u64 {
        self.exchange_bytes
    }

    /// All but these.
    pub(crate) fn others(&self, but: &BTreeSet<BlockKey>) -> Vec<BlockKey> {
        let keys = self.blocks.keys().copied();
        keys.filter(|key| !but.contains(key)).collect()
    }
}
