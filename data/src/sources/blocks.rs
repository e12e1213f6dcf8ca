//! What a plan begins with.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_expr::TableSource;
use parking_lot::Mutex;

use crate::block::BlockHandle;

/// A block that exists before the plan runs.
#[derive(Debug)]
pub struct SourceBlock {
    /// Rows.
    pub rows: u64,
    /// Bytes in memory.
    pub bytes: u64,
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
            local: Some(batch),
            stored: Mutex::new(None),
        }
    }

    /// A block in the object store of this session.
    pub fn stored(session: String, handle: BlockHandle, rows: u64, bytes: u64) -> Self {
        let stored = Mutex::new(Some(StoredBlock { session, handle }));
        Self {
            rows,
            bytes,
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

/// The numbers from zero up, in the column `id`.
#[derive(Debug)]
pub struct RangeTable {
    /// How many.
    pub rows: u64,
    schema: SchemaRef,
}

impl RangeTable {
    /// The first `rows` numbers.
    pub fn new(rows: u64) -> Self {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        Self { rows, schema }
    }
}

impl TableSource for RangeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
