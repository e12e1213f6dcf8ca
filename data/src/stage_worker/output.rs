//! Where the rows of an input go: into blocks, into blocks by partition, into a sink.

use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use crate::graph::{StageTask, block_rows_of};
use crate::operators::blocks::{BlockCutter, CutBlock};
use crate::operators::partition::PartitionCutter;
use crate::operators::stream::PickedRows;
use crate::sinks::{self, SinkWriter, Written};

pub(super) enum Output {
    Blocks(BlockCutter),
    Partitions(PartitionCutter),
    Sink(Box<dyn SinkWriter>),
}

impl Output {
    /// Where rows of the input go. `bounds`: of partitions by range.
    pub(super) fn open(
        task: &StageTask,
        written: Written,
        bounds: Vec<RecordBatch>,
    ) -> Result<Self, TaskFailure> {
        if let Some(sink) = &task.sink {
            return sinks::open(sink, written).map(Self::Sink);
        }
        let block_rows = block_rows_of(task.steps.iter());
        Ok(match &task.partitioner {
            Some(by) => Self::Partitions(PartitionCutter::new(
                by,
                written.sequence,
                task.block_bytes,
                bounds,
            )),
            None if let Some(rows) = block_rows => {
                Self::Blocks(BlockCutter::of_rows(rows, task.block_bytes))
            }
            // Whoever waits for the first rows gets some early.
            None if written.sequence < task.growing_inputs => {
                Self::Blocks(BlockCutter::growing(task.block_bytes))
            }
            None => Self::Blocks(BlockCutter::new(task.block_bytes)),
        })
    }

    /// Adds rows that leave as blocks.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        match self {
            Self::Blocks(cutter) => {
                cutter.push(batch);
                Ok(())
            }
            Self::Partitions(cutter) => cutter.push(batch),
            Self::Sink(_) => Ok(()),
        }
    }

    /// About how many bytes the next block has, if it may be made of rows that are still to be picked.
    pub(super) fn takes_picked(&self) -> Option<u64> {
        match self {
            Self::Blocks(cutter) => cutter.takes_picked(),
            Self::Partitions(_) | Self::Sink(_) => None,
        }
    }

    /// Adds such rows: a block.
    pub(super) fn push_picked(&mut self, rows: PickedRows) {
        if let Self::Blocks(cutter) = self {
            cutter.push_picked(rows);
        }
    }

    /// A block that is whole.
    pub(super) fn next_full(&mut self) -> Option<CutBlock> {
        match self {
            Self::Blocks(cutter) => cutter.next_full(),
            Self::Partitions(cutter) => cutter.next_full(),
            Self::Sink(_) => None,
        }
    }

    /// No more rows come.
    pub(super) fn close(&mut self) {
        match self {
            Self::Blocks(cutter) => cutter.close(),
            Self::Partitions(cutter) => cutter.close(),
            Self::Sink(_) => {}
        }
    }

    /// Whether no block is left.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Blocks(cutter) => cutter.is_empty(),
            Self::Partitions(cutter) => cutter.is_empty(),
            Self::Sink(_) => true,
        }
    }
}
