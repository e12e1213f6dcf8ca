//! Blocks: those that exist before a plan runs, and those that stages hand on.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion_common::DataFusionError;
use datafusion_expr::TableSource;
use parking_lot::Mutex;
use prost::Message;

use super::input_block::BlockStream;
use super::splits::SplitCutter;
use super::{Opened, Source, SourceKind, SourceReader, Split, SplitOptions, Wanted};
use crate::block::{self, BlockHandle};
use crate::digest::Digest;
use crate::ledger::Trait;
use crate::operators::stream::BatchStream;
use crate::registered::Registered;

pub(super) const KIND: SourceKind = SourceKind {
    name: "blocks",
    of_table: |table| Some(table.downcast_ref::<BlocksTable>()?),
    reader: |settings| Ok(Box::new(BlocksReader::new(settings)?)),
    calls_python: false,
    reaches_by_python: |_| false,
};

/// A block that exists before the plan runs.
#[derive(Debug)]
pub struct SourceBlock {
    /// Rows.
    pub rows: u64,
    /// Bytes in memory.
    pub bytes: u64,
    /// Rows of the stored block that come before: several datasets may share it.
    first_row: u64,
    local: Option<RecordBatch>,
    stored: Mutex<Option<StoredBlock>>,
}

/// A block in the object store of one session.
#[derive(Debug, Clone)]
struct StoredBlock {
    session: String,
    handle: BlockHandle,
}

impl SourceBlock {
    /// A block in this process; it goes to the object store when the plan first runs.
    pub fn local(batch: RecordBatch) -> Self {
        Self {
            rows: batch.num_rows() as u64,
            bytes: crate::block::data_bytes(&batch),
            first_row: 0,
            local: Some(batch),
            stored: Mutex::new(None),
        }
    }

    /// Rows of a block in the object store of this session: so many from `first_row` on, which take so many bytes.
    pub fn stored(
        session: String,
        handle: BlockHandle,
        first_row: u64,
        rows: u64,
        bytes: u64,
    ) -> Self {
        let stored = Mutex::new(Some(StoredBlock { session, handle }));
        Self {
            rows,
            bytes,
            first_row,
            local: None,
            stored,
        }
    }

    /// The block's data, if it is in this process.
    pub fn batch(&self) -> Option<&RecordBatch> {
        self.local.as_ref()
    }

    /// Where the block lies in the object store of this session, if it is there.
    pub fn handle(&self, session: &str) -> Option<BlockHandle> {
        let stored = self.stored.lock();
        stored
            .as_ref()
            .filter(|stored| stored.session == session)
            .map(|stored| stored.handle.clone())
    }

    /// Remembers where the block was put.
    pub fn set_handle(&self, session: String, handle: BlockHandle) {
        *self.stored.lock() = Some(StoredBlock { session, handle });
    }
}

/// Blocks that exist before the plan runs: items, tables, materialised datasets.
#[derive(Debug)]
pub struct BlocksTable {
    /// The blocks in order.
    pub blocks: Vec<Arc<SourceBlock>>,
    /// Their columns.
    pub schema: SchemaRef,
    /// Whether blocks may lack columns, or have them of types that only fit into those of `schema`.
    pub is_mixed: bool,
}

impl TableSource for BlocksTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// Blocks in this process of more bytes are not compared with those of another run.
const MAX_COMPARED_BYTES: u64 = 16 << 20;

impl BlocksTable {
    fn contents(&self) -> Result<String, String> {
        let bytes: u64 = self.blocks.iter().map(|block| block.bytes).sum();
        if bytes > MAX_COMPARED_BYTES {
            let why = "its rows are in memory, and too many to tell whether they are still the same; write them to files first";
            return Err(why.to_owned());
        }
        let mut digest = Digest::new();
        for block in &self.blocks {
            let batch = block
                .batch()
                .ok_or("its rows are in the memory of this session, which ends with it")?;
            let stream = block::encode(&batch.schema(), std::slice::from_ref(batch));
            digest.add(&*stream.map_err(|error| error.to_string())?);
        }
        Ok(digest.text())
    }
}

/// How blocks are read.
#[derive(Clone, PartialEq, Message)]
struct BlocksSettings {
    /// The columns of the blocks, where not all of them have just these.
    #[prost(bytes = "bytes", tag = "1")]
    schema: Bytes,
}

/// Rows of blocks, in the order of the blocks that come along.
#[derive(Clone, PartialEq, Message)]
struct BlocksPosition {
    #[prost(message, repeated, tag = "1")]
    parts: Vec<BlockPart>,
}

/// Rows of a block.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct BlockPart {
    /// First row.
    #[prost(uint64, tag = "1")]
    pub(crate) first_row: u64,
    /// Rows.
    #[prost(uint64, tag = "2")]
    pub(crate) rows: u64,
}

/// How workers read the blocks of other stages.
pub(crate) fn handed_on() -> Registered {
    Registered {
        kind: KIND.name.to_owned(),
        settings: Bytes::new(),
    }
}

/// These rows of the blocks that come along.
pub(crate) fn position_of(parts: impl IntoIterator<Item = BlockPart>) -> Bytes {
    let parts = parts.into_iter().collect();
    super::encode(&BlocksPosition { parts })
}

/// The rows of each block that a position speaks of.
pub(crate) fn rows_of_parts(position: &Bytes) -> Result<Vec<u64>, TaskFailure> {
    let BlocksPosition { parts } = super::decode(position)?;
    Ok(parts.iter().map(|part| part.rows).collect())
}

/// An input of blocks as one for each feed, which have so many of them.
pub(crate) fn by_feed(input: Opened, feed_blocks: &[u32]) -> Result<Vec<Opened>, TaskFailure> {
    let BlocksPosition { parts } = super::decode(&input.position)?;
    let (mut parts, mut blocks) = (parts.into_iter(), input.blocks.into_iter());
    let mut feeds = Vec::with_capacity(feed_blocks.len());
    for &count in feed_blocks {
        feeds.push(Opened {
            position: position_of(parts.by_ref().take(count as usize)),
            blocks: blocks.by_ref().take(count as usize).collect(),
        });
    }
    if parts.next().is_some() || blocks.next().is_some() {
        return Err(TaskFailure::new(
            ErrorCode::Internal,
            "an input came with more blocks than its feeds have",
        ));
    }
    Ok(feeds)
}

impl Source for BlocksTable {
    fn rows(&self) -> Option<u64> {
        Some(self.blocks.iter().map(|block| block.rows).sum())
    }

    fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn identity(&self) -> Result<Vec<Trait>, String> {
        Ok(vec![Trait::new("the rows in memory", self.contents()?)])
    }

    fn splits(&self, row_limit: u64, options: SplitOptions) -> Vec<Split> {
        let rows = self.blocks.iter().map(|block| block.rows).sum();
        let bytes = self.blocks.iter().map(|block| block.bytes).sum();
        let target = options.target(rows, bytes, rows);
        let blocks = self.blocks.len().max(1) as u64;
        // Rows of this process lie nowhere yet, and a job that goes on with them must find them cut as they were.
        let are_there = self.blocks.iter().all(|block| block.local.is_none());
        let target = match options.is_spread && are_there {
            true => target.apart(rows / blocks, bytes / blocks),
            false => target,
        };
        let mut cutter = SplitCutter::<Vec<(BlockPart, Arc<SourceBlock>)>>::new(target, row_limit);
        for block in &self.blocks {
            cutter.run(block.rows, |split, first_row, rows| {
                let first_row = block.first_row + first_row;
                split.push((BlockPart { first_row, rows }, Arc::clone(block)));
            });
        }
        let split = |(parts, rows): (Vec<(BlockPart, Arc<SourceBlock>)>, u64)| {
            let (parts, blocks): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
            let bytes: u64 = blocks.iter().map(|block| block.bytes).sum();
            let whole: u64 = blocks.iter().map(|block| block.rows).sum();
            Split {
                row_bytes: bytes / whole.max(1),
                position: position_of(parts),
                blocks,
                rows,
            }
        };
        cutter.finish().into_iter().map(split).collect()
    }

    fn settings(&self, _wanted: &Wanted<'_>) -> Result<Bytes, DataFusionError> {
        if !self.is_mixed {
            return Ok(Bytes::new());
        }
        let schema = block::encode_schema(&self.schema)?;
        Ok(super::encode(&BlocksSettings { schema }))
    }
}

struct BlocksReader {
    /// The columns that the rows shall have, where blocks differ.
    schema: Option<SchemaRef>,
}

impl BlocksReader {
    fn new(settings: &Bytes) -> Result<Self, TaskFailure> {
        let settings: BlocksSettings = super::decode(settings)?;
        if settings.schema.is_empty() {
            return Ok(Self { schema: None });
        }
        let schema = block::decode_schema(settings.schema).map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("read a schema: {error}"))
        })?;
        Ok(Self {
            schema: Some(schema),
        })
    }
}

impl SourceReader for BlocksReader {
    fn open(
        &mut self,
        input: Opened,
        _row_limit: Option<usize>,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let position: BlocksPosition = super::decode(&input.position)?;
        let schema = self.schema.clone();
        BlockStream::new(position.parts, input.blocks, schema).map(|rows| Box::new(rows) as _)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, UInt64Array};
    use arrow::datatypes::Schema;

    use super::super::RowWork;
    use super::*;

    const OPTIONS: SplitOptions = SplitOptions {
        workers: 2,
        batch_rows: None,
        window_rows: 0,
        work: RowWork::Reading,
        parts: None,
        is_spread: true,
    };

    /// The rows of the splits of 24 blocks of 1000 rows, of so many bytes each.
    fn split(block: impl Fn() -> SourceBlock, options: SplitOptions) -> Vec<u64> {
        let table = BlocksTable {
            blocks: (0..24).map(|_| Arc::new(block())).collect(),
            schema: Arc::new(Schema::empty()),
            is_mixed: false,
        };
        let splits = table.splits(u64::MAX, options);
        splits.iter().map(|split| split.rows).collect()
    }

    fn stored(bytes: u64) -> SourceBlock {
        let handle = BlockHandle::new(());
        SourceBlock::stored("a session".to_owned(), handle, 0, 1000, bytes)
    }

    #[test]
    fn blocks_that_may_lie_on_different_nodes_stay_apart() {
        let long = || stored(8 << 20);
        assert_eq!(split(long, OPTIONS), [1000; 24]);
        let on_one_node = SplitOptions {
            is_spread: false,
            ..OPTIONS
        };
        assert_eq!(split(long, on_one_node), [3000; 8]);
        assert_eq!(
            split(|| stored(512 << 10), OPTIONS),
            [3000; 8],
            "they are short"
        );
        let of_two = SplitOptions {
            parts: Some(2),
            ..OPTIONS
        };
        assert_eq!(split(long, of_two), [12_000; 2], "so many are wanted");
    }

    /// A job that goes on with them must find them cut as they were, on however many nodes.
    #[test]
    fn rows_of_this_process_are_cut_the_same_on_several_nodes() {
        let numbers = || {
            let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..1000));
            SourceBlock {
                bytes: 8 << 20,
                ..SourceBlock::local(
                    RecordBatch::try_from_iter([("n", numbers)]).expect("one column"),
                )
            }
        };
        assert_eq!(split(numbers, OPTIONS), [3000; 8]);
    }
}
