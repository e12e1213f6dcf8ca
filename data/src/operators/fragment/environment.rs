//! What relational work may use: memory, and a folder for what does not fit into it.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion_common::{DataFusionError, Result};
use datafusion_execution::TaskContext;
use datafusion_execution::config::SessionConfig;
use datafusion_execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion_execution::memory_pool::MemoryPool;
use datafusion_execution::runtime_env::RuntimeEnvBuilder;

use super::hot::HotKeys;
use super::pool::PlanMemory;
use crate::operators::failing::count_pool;

/// The least that sorting can do with.
const MIN_MEMORY_BYTES: usize = 4 << 20;
/// Of the operators of a plan, about so many sort at once on each thread, where sides of joins are sorted.
const SORTS_AT_ONCE: usize = 4;
/// With less than this for each of them it is worth a look how long rows are.
const SCARCE_SHARE: usize = 16 << 20;
/// Of its memory, a sort keeps this part for merging what it has sorted.
const MERGE_PART: usize = 4;

/// Rows that must not be spilled may have this part of the memory,
const HELD_PART: usize = 2;
/// and each of them needs about so much beside its columns: its place in a hash table.
const BYTES_PER_HELD_ROW: u64 = 32;

/// Batches that fit into its memory.
const PIECES: usize = 32;
/// For each row of a batch there is this much memory, however short it is.
const BYTES_PER_ROW_AT_ONCE: usize = 8 << 10;
/// So many batches fit into what a sort can have: merging counts with four of each of several files, and others need as much.
const BATCHES_AT_ONCE: usize = 64;
/// A batch that has to have few rows because they are long gains nothing from more bytes than this, and with smaller ones more files are
/// merged at once.
const LONG_BATCH_BYTES: usize = 64 << 10;
/// A file that is merged has buffers of its own, of which nobody asks the pool: so many are merged at once that each has about this, but
/// no fewer and no more than these. Where there are more, some are merged into one first.
const BYTES_OF_FILE: usize = 512 << 10;
const FILES_AT_ONCE: (usize, usize) = (8, 128);
/// The smallest batch, if rows are not long.
const MIN_BATCH_ROWS: usize = 256;
const MAX_BATCH_ROWS: usize = 8192;

/// Memory and disk of the relational work of one input.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// Bytes of rows that are held at once, at most.
    pub(crate) memory_bytes: usize,
    /// Where spilled rows go; `None`: a temporary folder.
    pub(crate) spill: Option<SpillPlace>,
    /// Which partition the rows are.
    pub(crate) partition: u32,
    /// Where keys with very many rows are named; `None`: nobody asks.
    pub(crate) hot_keys: Option<HotKeys>,
    /// About how many bytes rows have; 0: nobody knows.
    pub(crate) row_bytes: u64,
    /// The largest block that the worker makes, about.
    pub(crate) block_bytes: u64,
}

/// A folder for rows that have no room, and how much of its disk others shall find free: this share of it, or these bytes,
/// whichever is less.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SpillPlace {
    pub(crate) folder: PathBuf,
    pub(crate) min_free_fraction: f64,
    pub(crate) min_free_bytes: u64,
}

impl SpillPlace {
    /// A folder that may take all of the disk.
    #[cfg(test)]
    pub(crate) fn below(folder: &std::path::Path) -> Self {
        Self {
            folder: folder.join("spilled"),
            min_free_fraction: 0.0,
            min_free_bytes: 0,
        }
    }

    /// Makes the folder; gives the bytes that may be written into it.
    fn made(&self) -> Result<u64> {
        std::fs::create_dir_all(&self.folder).map_err(DataFusionError::IoError)?;
        let disk = rustix::fs::statvfs(&self.folder);
        let disk = disk.map_err(|error| DataFusionError::IoError(error.into()))?;
        let available = disk.f_bavail.saturating_mul(disk.f_frsize);
        let all = disk.f_blocks.saturating_mul(disk.f_frsize);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a disk, about"
        )]
        let share = (all as f64 * self.min_free_fraction) as u64;
        Ok(available.saturating_sub(share.min(self.min_free_bytes)))
    }
}

impl Environment {
    /// Of so much memory, for the first partition. Nobody knows how long rows are.
    #[cfg(test)]
    pub(crate) fn of_memory(memory_bytes: usize) -> Self {
        Self {
            memory_bytes,
            spill: None,
            partition: 0,
            hot_keys: None,
            row_bytes: 0,
            block_bytes: 1 << 20,
        }
    }

    /// Whether so many rows with so many bytes can be held besides what is done with them.
    pub(super) fn can_hold(&self, (rows, bytes): (u64, u64)) -> bool {
        let held = bytes.saturating_add(rows.saturating_mul(BYTES_PER_HELD_ROW));
        held <= (self.memory() / HELD_PART) as u64
    }

    pub(crate) fn memory(&self) -> usize {
        self.memory_bytes.max(MIN_MEMORY_BYTES)
    }

    /// The largest batch that operators get.
    pub(crate) fn piece_bytes(&self) -> u64 {
        (self.memory() / PIECES) as u64
    }

    /// What a window that must see all rows of a group is sure to have on each of so many threads, beside what it sorts.
    pub(crate) fn window_bytes(&self, threads: usize) -> usize {
        match threads {
            0 | 1 => self.memory() / HELD_PART,
            // Joins and other sorts are there, too.
            _ => self.memory() / (threads * SORTS_AT_ONCE),
        }
    }

    /// What operators over so many feeds run with. Files lie in a folder of their own that goes with the context.
    pub(super) fn context(&self, feeds: usize) -> Result<Arc<TaskContext>> {
        // Each of them may be sorted while the others are.
        self.context_of(1, self.memory() / feeds.max(1))
    }

    /// What all operators of a plan run with, on so many threads.
    pub(crate) fn shared_context(&self, threads: usize) -> Result<Arc<TaskContext>> {
        self.context_of(threads.max(1), self.share_of_sort(threads))
    }

    /// Whether a batch of long rows might be more than a sort can have, if nobody knows that they are long.
    pub(crate) fn is_scarce(&self, threads: usize) -> bool {
        self.share_of_sort(threads) < SCARCE_SHARE
    }

    fn share_of_sort(&self, threads: usize) -> usize {
        self.memory() / (threads.max(1) * SORTS_AT_ONCE)
    }

    /// Rows of a batch of the only operator.
    pub(super) fn rows_at_once(&self) -> usize {
        self.batch_rows(self.memory())
    }

    /// Rows of a batch where one sort can have `share`.
    fn batch_rows(&self, share: usize) -> usize {
        let row_bytes = usize::try_from(self.row_bytes).unwrap_or(usize::MAX).max(1);
        let rows = (share / BYTES_PER_ROW_AT_ONCE).clamp(MIN_BATCH_ROWS, MAX_BATCH_ROWS);
        let most = rows.min(share / row_bytes.saturating_mul(BATCHES_AT_ONCE));
        if most >= MIN_BATCH_ROWS {
            return most;
        }
        most.min(LONG_BATCH_BYTES / row_bytes).max(1)
    }

    /// `share`: what one sort can have.
    fn context_of(&self, partitions: usize, share: usize) -> Result<Arc<TaskContext>> {
        let memory = self.memory();
        let disk = DiskManagerBuilder::default();
        let disk = match &self.spill {
            Some(place) => disk
                .with_max_temp_directory_size(place.made()?)
                .with_mode(DiskManagerMode::Directories(vec![place.folder.clone()])),
            None => disk.with_mode(DiskManagerMode::OsTmpDirectory),
        };
        let pool: Arc<dyn MemoryPool> = Arc::new(PlanMemory::new(memory));
        count_pool(&pool);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(pool)
            .with_disk_manager_builder(disk.with_max_spill_merge_fan_in(files_at_once(share)))
            .build_arc()?;
        let rows = self.batch_rows(share);
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(rows);
        config.options_mut().execution.sort_spill_reservation_bytes = share / MERGE_PART;
        let context = TaskContext::default().with_session_config(config);
        Ok(Arc::new(context.with_runtime(runtime)))
    }
}

/// How many files are merged at once where one sort can have `share`.
fn files_at_once(share: usize) -> usize {
    let (least, most) = FILES_AT_ONCE;
    (share / BYTES_OF_FILE).clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_long_rows_have_few() {
        let rows = |row_bytes, share| {
            let environment = Environment {
                row_bytes,
                ..Environment::of_memory(64 << 20)
            };
            environment.batch_rows(share)
        };
        assert_eq!(rows(0, 16 << 20), 2048);
        assert_eq!(rows(1000, 16 << 20), 262);
        assert_eq!(rows(1000, 4 << 20), 65);
        assert_eq!(rows(32 << 10, 16 << 20), 2);
        assert_eq!(rows(4 << 10, 1 << 20), 4);
        assert_eq!(rows(32 << 10, 1 << 30), 512);
        assert_eq!(rows(1 << 40, 1 << 20), 1);
        assert_eq!(rows(8, 1 << 20), 256);
    }
}
