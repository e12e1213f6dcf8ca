//! Cutting a run of batches into blocks by size.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::relational::assemble;
use super::stream::PickedRows;
use crate::block::{EncodedBlock, data_bytes};

/// A block before it is written.
pub(crate) struct CutBlock {
    pub(crate) schema: SchemaRef,
    pub(crate) rows: u64,
    /// Which partition it belongs to.
    pub(crate) partition: u32,
    content: Content,
}

enum Content {
    Batches(Vec<RecordBatch>),
    /// Rows of batches that have others too: batch, row. They are put together when somebody wants them.
    Rows(Arc<Vec<RecordBatch>>, Vec<(usize, usize)>),
}

impl CutBlock {
    /// A block of these rows of `batches`.
    pub(crate) fn of_rows(
        partition: u32,
        batches: Arc<Vec<RecordBatch>>,
        rows: Vec<(usize, usize)>,
    ) -> Self {
        Self {
            schema: batches[0].schema(),
            rows: rows.len() as u64,
            partition,
            content: Content::Rows(batches, rows),
        }
    }

    /// Its rows as they go into the store.
    pub(crate) fn into_encoded(self) -> Result<EncodedBlock, TaskFailure> {
        let schema = self.schema;
        let encoded = match self.content {
            Content::Batches(batches) => EncodedBlock::of(&schema, &batches),
            Content::Rows(_, rows) if schema.fields().is_empty() => {
                let batch = assemble(Arc::clone(&schema), Vec::new(), rows.len())?;
                EncodedBlock::of(&schema, &[batch])
            }
            Content::Rows(batches, rows) => EncodedBlock::of_rows(&schema, &batches, &rows),
        };
        encoded.map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("write a block: {error}"))
        })
    }

    /// Its rows.
    #[cfg(test)]
    pub(crate) fn into_batches(self) -> Result<Vec<RecordBatch>, TaskFailure> {
        let (_, batches) = crate::block::decode(self.into_encoded()?).expect("was just encoded");
        Ok(batches)
    }
}

/// Collects batches until they make a block. Depends on the rows alone, see STG-2.
pub(crate) struct BlockCutter {
    /// What a block has at most, but for the end of its last batch.
    block_bytes: u64,
    /// How many rows it has at most, and, but for the last, exactly where they have not more bytes than that.
    block_rows: usize,
    /// What the next one has at least.
    enough_bytes: u64,
    waiting: VecDeque<RecordBatch>,
    batches: Vec<RecordBatch>,
    bytes: u64,
    rows: usize,
    /// A block of rows that are not put together yet. Nothing else waits then.
    picked: Option<CutBlock>,
    /// No more rows come: what is left is a block, however small.
    is_closed: bool,
}

impl BlockCutter {
    /// Blocks of about `block_bytes`.
    pub(crate) fn new(block_bytes: u64) -> Self {
        Self {
            block_bytes,
            block_rows: usize::MAX,
            enough_bytes: block_bytes,
            waiting: VecDeque::new(),
            batches: Vec::new(),
            bytes: 0,
            rows: 0,
            picked: None,
            is_closed: false,
        }
    }

    /// The same, but a first batch is a block, and each block has twice the bytes of the one before until they have
    /// `block_bytes`: whoever waits for the rows has some at once.
    pub(crate) fn growing(block_bytes: u64) -> Self {
        Self {
            enough_bytes: 1,
            ..Self::new(block_bytes)
        }
    }

    /// Blocks of so many rows, or of about `block_bytes` if that is less.
    pub(crate) fn of_rows(rows: NonZeroU64, block_bytes: u64) -> Self {
        Self {
            block_rows: usize::try_from(rows.get()).unwrap_or(usize::MAX),
            ..Self::new(block_bytes)
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

    /// About how many bytes the next block has, if it may be made of rows that are still to be picked: blocks of so many rows are cut of
    /// what is there.
    pub(crate) fn takes_picked(&self) -> Option<u64> {
        let may = self.block_rows == usize::MAX && self.is_empty();
        may.then_some(self.enough_bytes)
    }

    /// Adds such rows: they are a block.
    pub(crate) fn push_picked(&mut self, rows: PickedRows) {
        debug_assert!(self.is_empty(), "rows leave in their order");
        self.grow(rows.bytes);
        self.picked = Some(CutBlock::of_rows(0, rows.batches, rows.places));
    }

    /// No more rows come.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.batches.is_empty() && self.picked.is_none()
    }

    /// A block that is full, or whose successor has other columns, or that is the last.
    pub(crate) fn next_full(&mut self) -> Option<CutBlock> {
        if let Some(picked) = self.picked.take() {
            return Some(picked);
        }
        while let Some(batch) = self.waiting.front() {
            let is_other = self
                .batches
                .first()
                .is_some_and(|first| first.schema() != batch.schema());
            if is_other || (self.is_full() && !self.batches.is_empty()) {
                return self.cut();
            }
            let mut batch = self.waiting.pop_front().expect("there is a front");
            let room = self.block_rows - self.rows;
            if batch.num_rows() > room {
                self.waiting
                    .push_front(batch.slice(room, batch.num_rows() - room));
                batch = batch.slice(0, room);
            }
            self.bytes += data_bytes(&batch);
            self.rows += batch.num_rows();
            self.batches.push(batch);
        }
        if self.is_full() || self.is_closed {
            self.cut()
        } else {
            None
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.enough_bytes || self.rows == self.block_rows
    }

    /// A block of so many bytes leaves.
    fn grow(&mut self, bytes: u64) {
        let twice = bytes.saturating_mul(2).min(self.block_bytes);
        self.enough_bytes = self.enough_bytes.max(twice);
    }

    fn cut(&mut self) -> Option<CutBlock> {
        self.rows = 0;
        let batches = std::mem::take(&mut self.batches);
        let bytes = std::mem::take(&mut self.bytes);
        self.grow(bytes);
        let schema = batches.first()?.schema();
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        Some(CutBlock {
            schema,
            rows,
            partition: 0,
            content: Content::Batches(batches),
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, UInt64Array};

    use super::*;

    const BATCH_ROWS: u64 = 10;
    const ROW_BYTES: u64 = 8;

    /// The rows of the blocks that so many batches are cut into.
    fn cut(mut cutter: BlockCutter, batches: u64) -> Vec<u64> {
        let mut blocks = Vec::new();
        for _ in 0..batches {
            let rows: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..BATCH_ROWS));
            cutter.push(RecordBatch::try_from_iter([("id", rows)]).expect("one column"));
            blocks.extend(std::iter::from_fn(|| cutter.next_full()));
        }
        cutter.close();
        blocks.extend(std::iter::from_fn(|| cutter.next_full()));
        assert!(cutter.is_empty());
        blocks.iter().map(|block| block.rows).collect()
    }

    #[test]
    fn blocks_grow_from_one_batch_to_the_size_that_they_shall_have() {
        let block_bytes = 8 * BATCH_ROWS * ROW_BYTES;
        assert_eq!(cut(BlockCutter::new(block_bytes), 18), [80, 80, 20]);
        assert_eq!(
            cut(BlockCutter::growing(block_bytes), 35),
            [10, 20, 40, 80, 80, 80, 40]
        );
        // The last block is small, and says nothing of the size of blocks.
        assert_eq!(cut(BlockCutter::growing(block_bytes), 1), [10]);
    }

    #[test]
    fn blocks_of_rows_have_them_whatever_the_batches_are_unless_they_have_too_many_bytes() {
        let rows = |rows| NonZeroU64::new(rows).expect("some");
        let block_bytes = 8 * BATCH_ROWS * ROW_BYTES;
        assert_eq!(
            cut(BlockCutter::of_rows(rows(4), block_bytes), 3),
            [4, 4, 4, 4, 4, 4, 4, 2]
        );
        assert_eq!(
            cut(BlockCutter::of_rows(rows(15), block_bytes), 4),
            [15, 15, 10]
        );
        assert_eq!(
            cut(BlockCutter::of_rows(rows(1000), block_bytes), 18),
            [80, 80, 20]
        );
    }

    #[test]
    fn blocks_do_not_shrink_where_columns_change() {
        let block_bytes = 4 * BATCH_ROWS * ROW_BYTES;
        let mut cutter = BlockCutter::new(block_bytes);
        for name in ["a", "b", "b", "b", "b"] {
            let rows: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..BATCH_ROWS));
            cutter.push(RecordBatch::try_from_iter([(name, rows)]).expect("one column"));
        }
        let rows: Vec<u64> =
            std::iter::from_fn(|| cutter.next_full().map(|block| block.rows)).collect();
        assert_eq!(rows, [10, 40]);
    }
}
