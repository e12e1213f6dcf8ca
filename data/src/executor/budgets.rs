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
    pub(super) fn new(options: &ExecutionOptions, budget_bytes: u64, workers: usize) -> Self {
        let share = budget_bytes / (4 * workers.max(1) as u64);
        let block_bytes = options
            .block_bytes
            .unwrap_or_else(|| share.clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES));
        Self {
            budget_bytes,
            block_bytes,
            memory_bytes: budget_bytes / (RELATIONAL_PART * workers.max(1) as u64),
        }
    }
}

pub(super) fn share_of_store(options: &ExecutionOptions, pool: &dyn StagePool) -> StoreShare {
    let alone_bytes = budget_bytes(options, pool);
    StoreShare::new(pool.session(), pool.store_bytes(), alone_bytes)
}

pub(super) fn budget_bytes(options: &ExecutionOptions, pool: &dyn StagePool) -> u64 {
    let half_of_store = || pool.store_bytes().map(|bytes| bytes / 2);
    let budget = options.budget_bytes.or_else(half_of_store);
    budget.unwrap_or(DEFAULT_BUDGET_BYTES).max(1)
}
