//! A block of an input: at hand, or read when it is its turn.
//!
//! What lies behind a barrier may be many times what there is room for. A worker that had all blocks of such an input at once would pin
//! the store with them, or hold them where the store is full; so it is told where they are, and reads a few at a time.

use std::collections::VecDeque;

use aktis_common::error::ErrorCode;
use aktis_worker::{ObjectRef, TaskFailure, Value};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use super::blocks::BlockPart;
use crate::block;
use crate::columns;
use crate::operators::stream::BatchStream;

/// So many blocks are read at once, so that those that lie elsewhere come together.
const READ_AT_ONCE: usize = 4;

/// A block.
#[derive(Clone)]
pub enum InputBlock {
    /// An Arrow stream.
    Here(Bytes),
    /// It lies in the store of some node.
    Stored(ObjectRef),
}

impl From<Bytes> for InputBlock {
    fn from(stream: Bytes) -> Self {
        Self::Here(stream)
    }
}

/// The Arrow stream in a block's value.
pub(crate) fn block_bytes(value: Value) -> Bytes {
    let inband = value.inband;
    value
        .buffers
        .into_iter()
        .next()
        .unwrap_or_else(|| inband.into_bytes())
}

/// The rows of blocks, one block after another.
pub(super) struct BlockStream {
    parts: VecDeque<(BlockPart, InputBlock)>,
    /// The columns that the rows shall have, where blocks differ.
    schema: Option<SchemaRef>,
    /// Those that were read.
    read: VecDeque<(BlockPart, Bytes)>,
    ready: VecDeque<RecordBatch>,
}

impl BlockStream {
    pub(super) fn new(
        parts: Vec<BlockPart>,
        blocks: Vec<InputBlock>,
        schema: Option<SchemaRef>,
    ) -> Result<Self, TaskFailure> {
        if parts.len() != blocks.len() {
            return Err(TaskFailure::new(
                ErrorCode::Internal,
                format!(
                    "an input names {} blocks and came with {}",
                    parts.len(),
                    blocks.len()
                ),
            ));
        }
        Ok(Self {
            parts: parts.into_iter().zip(blocks).collect(),
            schema,
            read: VecDeque::new(),
            ready: VecDeque::new(),
        })
    }

    /// Reads the next blocks, if there are any.
    fn read_on(&mut self) -> Result<(), TaskFailure> {
        let next = self.parts.len().min(READ_AT_ONCE);
        let (mut places, mut references) = (Vec::new(), Vec::new());
        for (part, block) in self.parts.drain(..next) {
            match block {
                InputBlock::Here(stream) => self.read.push_back((part, stream)),
                InputBlock::Stored(reference) => {
                    places.push(part);
                    references.push(reference);
                }
            }
        }
        if let Some(first) = references.first() {
            let values = first.runtime().get(&references, None)?;
            let streams = values.into_iter().map(block_bytes);
            self.read.extend(places.into_iter().zip(streams));
        }
        Ok(())
    }
}

impl BatchStream for BlockStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return match &self.schema {
                    Some(schema) => with_columns(batch, schema).map(Some),
                    None => Ok(Some(batch)),
                };
            }
            if self.read.is_empty() {
                self.read_on()?;
            }
            let Some((part, stream)) = self.read.pop_front() else {
                return Ok(None);
            };
            self.ready = rows_of(part, stream)?;
        }
    }
}

/// The rows of a block that are wanted.
fn rows_of(part: BlockPart, stream: Bytes) -> Result<VecDeque<RecordBatch>, TaskFailure> {
    let (_, batches) = block::decode(stream)
        .map_err(|error| TaskFailure::new(ErrorCode::Internal, format!("read a block: {error}")))?;
    let mut rows = VecDeque::new();
    let mut skip = part.first_row;
    let mut left = part.rows;
    for batch in batches {
        let length = batch.num_rows() as u64;
        let first = skip.min(length);
        let taken = left.min(length - first);
        skip -= first;
        left -= taken;
        if taken > 0 {
            let index = |rows| usize::try_from(rows).expect("no more than the batch has");
            rows.push_back(batch.slice(index(first), index(taken)));
        }
    }
    Ok(rows)
}

/// Blocks that came of one run as rows of one dataset.
fn with_columns(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, TaskFailure> {
    columns::conform(&batch, schema).map_err(|misfit| {
        let between = misfit.between("in the dataset", "in one of its blocks");
        TaskFailure::new(ErrorCode::Application, format!("read a block: {between}"))
    })
}
