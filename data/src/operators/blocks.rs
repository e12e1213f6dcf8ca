//! Cutting a run of batches into blocks by size.

use std::collections::VecDeque;
use std::sync::Arc;

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::relational::assemble;
use crate::block::data_bytes;

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

    /// Its rows.
    pub(crate) fn into_batches(self) -> Result<Vec<RecordBatch>, TaskFailure> {
        match self.content {
            Content::Batches(batches) => Ok(batches),
            Content::Rows(_, rows) if self.schema.fields().is_empty() => {
                assemble(self.schema, Vec::new(), rows.len()).map(|batch| vec![batch])
            }
            Content::Rows(batches, rows) => {
                let batches: Vec<&RecordBatch> = batches.iter().collect();
                let picked = interleave_record_batch(&batches, &rows);
                picked
                    .map(|batch| vec![batch])
                    .map_err(|error: ArrowError| {
                        super::partition::failed("put the rows of a partition together", &error)
                    })
            }
        }
    }
}

/// Collects batches until they make a block. Depends on the rows alone, see STG-2.
pub(crate) struct BlockCutter {
    block_bytes: u64,
    waiting: VecDeque<RecordBatch>,
    batches: Vec<RecordBatch>,
    bytes: u64,
    /// No more rows come: what is left is a block, however small.
    is_closed: bool,
}

impl BlockCutter {
    /// Blocks of about `block_bytes`.
    pub(crate) fn new(block_bytes: u64) -> Self {
        Self {
            block_bytes,
            waiting: VecDeque::new(),
            batches: Vec::new(),
            bytes: 0,
            is_closed: false,
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

    /// No more rows come.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.batches.is_empty()
    }

    /// A block that is full, or whose successor has other columns, or that is the last.
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
        if self.bytes >= self.block_bytes || self.is_closed {
            self.cut()
        } else {
            None
        }
    }

    fn cut(&mut self) -> Option<CutBlock> {
        let batches = std::mem::take(&mut self.batches);
        self.bytes = 0;
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
