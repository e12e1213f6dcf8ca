//! Sizes in bytes that follow from the options and the store.

use super::ExecutionOptions;
use super::pool::StagePool;
use super::shares::StoreShare;

/// The budget where nobody knows the size of the store.
const DEFAULT_BUDGET_BYTES: u64 = 512 << 20;
/// The largest block.
const MAX_BLOCK_BYTES: u64 = 32 << 20;
/// The smallest, unless asked for.
const MIN_BLOCK_BYTES: u64 = 64 << 10;
/// All relational work together holds this part of the budget.
pub(super) const RELATIONAL_PART: u64 = 2;

/// Those of a job.
pub(super) struct Sizes {
    pub(super) budget_bytes: u64,
    pub(super) block_bytes: u64,
    /// What relational work in one worker may hold.
    pub(super) memory_bytes: u64,
}

impl Sizes {
    /// Those of a job with so many workers. Beside others its blocks are smaller. Its workers have the memory that they have when it
    /// is alone: others hold the store, and not that, and what there is of them now says nothing of the rest of the job.
    pub(super) fn new(options: &ExecutionOptions, share: &StoreShare, workers: usize) -> Self {
        let workers = workers.max(1) as u64;
        let budget_bytes = share.known_bytes();
        let part = budget_bytes / (4 * workers);
        let block_bytes = options
            .block_bytes
            .unwrap_or_else(|| part.clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES));
        Self {
            budget_bytes,
            block_bytes,
            memory_bytes: share.alone_bytes() / (RELATIONAL_PART * workers),
        }
    }
}

/// What one more execution may hold of the store, beside those that there are.
pub(super) fn share_of_store(options: &ExecutionOptions, pool: &dyn StagePool) -> StoreShare {
    let alone_bytes = budget_bytes(options, pool);
    StoreShare::new(pool.session(), pool.store_bytes(), alone_bytes)
}

/// What an execution may hold that is alone.
pub(super) fn budget_bytes(options: &ExecutionOptions, pool: &dyn StagePool) -> u64 {
    let half_of_store = || pool.store_bytes().map(|bytes| bytes / 2);
    let budget = options.budget_bytes.or_else(half_of_store);
    budget.unwrap_or(DEFAULT_BUDGET_BYTES).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_that_begins_beside_others_has_smaller_blocks_and_all_of_its_memory() {
        let share = || StoreShare::new("budgets".to_owned(), Some(800 << 20), 400 << 20);
        let sizes = |share: &StoreShare| Sizes::new(&ExecutionOptions::default(), share, 2);
        let alone = share();
        let first = sizes(&alone);
        assert_eq!(
            (first.budget_bytes, first.block_bytes, first.memory_bytes),
            (400 << 20, 32 << 20, 100 << 20)
        );
        alone.held().set(800 << 20);
        let second = sizes(&share());
        assert_eq!(
            (second.budget_bytes, second.block_bytes, second.memory_bytes),
            (1, 64 << 10, 100 << 20)
        );
    }
}
