//! Cutting a run of batches into blocks by size.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::block::data_bytes;

/// A block before it is written.
pub(crate) struct CutBlock {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) rows: u64,
}

/// Collects batches until they make a block. Depends on the rows alone, see STG-2.
pub(crate) struct BlockCutter {
    block_bytes: u64,
    waiting: VecDeque<RecordBatch>,
    batches: Vec<RecordBatch>,
    bytes: u64,
}

impl BlockCutter {
    /// Blocks of about `block_bytes`.
    pub(crate) fn new(block_bytes: u64) -> Self {
        Self {
            block_bytes,
            waiting: VecDeque::new(),
            batches: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds rows. A batch that is much larger than a block is cut.
    pub(crate) fn push(&mut self, batch: RecordBatch) {
        let rows = batch.num_rows();
        if rows == 0 {
            return;
        }
        let parts = data_bytes(&batch).div_ceil(self.block_bytes.max(1)).max(1);
        let part_rows = rows.div_ceil(usize::try_from(parts).unwrap_or(rows).min(rows));
        let mut first = 0;
        while first < rows {
            let length = part_rows.min(rows - first);
            self.waiting.push_back(batch.slice(first, length));
            first += length;
        }
    }

    /// A block that is full, or whose successor has other columns.
    pub(crate) fn next_full(&mut self) -> Option<CutBlock> {
        while let Some(batch) = self.waiting.front() {
            let is_other = self
                .batches
                .first()
                .is_some_and(|first| first.schema() != batch.schema());
            if is_other || (self.bytes >= self.block_bytes && !self.batches.is_empty()) {
                return self.cut();
            }
            let batch = self.waiting.pop_front().expect("there is a front");
            self.bytes += data_bytes(&batch);
            self.batches.push(batch);
        }
        if self.bytes >= self.block_bytes {
            self.cut()
        } else {
            None
        }
    }

    /// What is left at the end of the input.
    pub(crate) fn rest(&mut self) -> Option<CutBlock> {
        debug_assert!(self.waiting.is_empty(), "full blocks are taken first");
        self.cut()
    }

    fn cut(&mut self) -> Option<CutBlock> {
        let batches = std::mem::take(&mut self.batches);
        self.bytes = 0;
        let schema = batches.first()?.schema();
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        Some(CutBlock {
            schema,
            batches,
            rows,
        })
    }
}
