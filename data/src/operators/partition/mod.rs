//! Cutting a run of batches into blocks of one partition each.
//!
//! Rows are collected until they make a window of a few blocks, then every partition gets its rows of the window: so a row is
//! copied once, what is held is bounded however many partitions there are, and blocks are as large as they can be. Where
//! blocks are cut depends on the rows alone (STG-2).

mod assign;

use std::collections::VecDeque;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use super::blocks::CutBlock;
use crate::block::data_bytes;
use crate::graph::Partitioner;
use assign::Assigner;

/// Blocks that a window has room for.
pub(crate) const WINDOW_BLOCKS: u64 = 4;
/// Most rows of a window: each costs a few bytes besides its own.
const WINDOW_ROWS: usize = 1 << 20;

/// Collects batches, and cuts them by partition.
pub(crate) struct PartitionCutter {
    assigner: Assigner,
    block_bytes: u64,
    window: Vec<RecordBatch>,
    bytes: u64,
    rows: usize,
    /// Of the window: of each partition, batches and rows.
    places: Vec<Vec<(usize, usize)>>,
    ready: VecDeque<CutBlock>,
}

impl PartitionCutter {
    /// Blocks of at most about `block_bytes` of the input at `sequence`. `bounds`: what came along the feed for them.
    pub(crate) fn new(
        partitioner: &Partitioner,
        sequence: u64,
        block_bytes: u64,
        bounds: Vec<RecordBatch>,
    ) -> Self {
        Self {
            assigner: Assigner::new(partitioner, sequence, bounds),
            block_bytes: block_bytes.max(1),
            window: Vec::new(),
            bytes: 0,
            rows: 0,
            places: vec![Vec::new(); partitioner.partitions as usize],
            ready: VecDeque::new(),
        }
    }

    /// Adds rows.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let first = self.window.first();
        if first.is_some_and(|first| first.schema() != batch.schema()) {
            self.close();
        }
        let index = self.window.len();
        for (row, partition) in self.assigner.assign(&batch)?.into_iter().enumerate() {
            self.places[partition as usize].push((index, row));
        }
        self.bytes += data_bytes(&batch);
        self.rows += batch.num_rows();
        self.window.push(batch);
        if self.bytes >= self.block_bytes.saturating_mul(WINDOW_BLOCKS) || self.rows >= WINDOW_ROWS
        {
            self.close();
        }
        Ok(())
    }

    /// What was collected is cut: the window is full, or no more rows come.
    pub(crate) fn close(&mut self) {
        if self.window.is_empty() {
            return;
        }
        let window = Arc::new(std::mem::take(&mut self.window));
        let rows = std::mem::take(&mut self.rows) as u64;
        let row_bytes = std::mem::take(&mut self.bytes).div_ceil(rows).max(1);
        let block_rows =
            usize::try_from(self.block_bytes.div_ceil(row_bytes)).unwrap_or(usize::MAX);
        for (partition, places) in (0..).zip(&mut self.places) {
            for places in std::mem::take(places).chunks(block_rows) {
                let cut = CutBlock::of_rows(partition, Arc::clone(&window), places.to_vec());
                self.ready.push_back(cut);
            }
        }
    }

    /// Whether no block is ready.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// A block of one partition.
    pub(crate) fn next_full(&mut self) -> Option<CutBlock> {
        self.ready.pop_front()
    }
}

/// A computation on rows that are well formed has failed.
pub(super) fn failed(what: &str, error: &dyn std::fmt::Display) -> TaskFailure {
    TaskFailure::new(ErrorCode::InvalidArgument, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests;
