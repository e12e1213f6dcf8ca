//! Blocks: runs of rows that travel between workers, as Arrow IPC streams in the object store.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

/// Room for the schema and the ends of a stream, in bytes.
const STREAM_OVERHEAD_BYTES: usize = 16 * 1024;

/// A block somewhere: only the pool that made it can tell where.
#[derive(Clone)]
pub struct BlockHandle(Arc<dyn Any + Send + Sync>);

impl BlockHandle {
    /// Wraps whatever the pool knows the block by.
    pub fn new(inner: impl Any + Send + Sync) -> Self {
        Self(Arc::new(inner))
    }

    /// What the pool knows the block by.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl PartialEq for BlockHandle {
    /// Whether they are of one making.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for BlockHandle {}

impl fmt::Debug for BlockHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockHandle")
    }
}

/// Bytes of the rows of `batch`, not of the buffers that they are a slice of.
pub fn data_bytes(batch: &RecordBatch) -> u64 {
    let column_bytes = |column: &Arc<dyn Array>| {
        // Nested types may not be able to tell; then the whole buffers count.
        let data = column.to_data();
        data.get_slice_memory_size()
            .unwrap_or_else(|_| column.get_array_memory_size())
    };
    batch
        .columns()
        .iter()
        .map(|column| column_bytes(column) as u64)
        .sum()
}

/// A copy of the rows of `batch` that holds no others of the buffers that they are a slice of.
pub(crate) fn alone(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    // Putting two parts together copies just their rows; taking rows would make room by the length of the whole.
    let copy = concat_batches(&batch.schema(), [batch, &batch.slice(0, 0)])?;
    let columns = copy.columns().iter().map(without_others).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(copy.num_rows()));
    RecordBatch::try_new_with_options(copy.schema(), columns, &options)
}

/// Views share the texts of the batch that they were copied from, and hold on to all of them.
fn without_others(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => Arc::clone(column),
    }
}

/// The rows of `batches` as one Arrow IPC stream.
pub fn encode(schema: &Schema, batches: &[RecordBatch]) -> Result<Bytes, ArrowError> {
    let rows_bytes: u64 = batches.iter().map(data_bytes).sum();
    let capacity = usize::try_from(rows_bytes).unwrap_or(0) + STREAM_OVERHEAD_BYTES;
    let mut writer = StreamWriter::try_new(Vec::with_capacity(capacity), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?.into())
}

/// Reads an Arrow IPC stream in place: the batches share the memory of `stream`.
pub fn decode(stream: Bytes) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    let mut buffer = Buffer::from(stream);
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    while !buffer.is_empty() {
        if let Some(batch) = decoder.decode(&mut buffer)? {
            batches.push(batch);
        }
    }
    let schema = decoder.schema();
    decoder.finish()?;
    let schema = schema
        .ok_or_else(|| ArrowError::IpcError("a block has no schema: it was cut off".to_owned()))?;
    Ok((schema, batches))
}

/// A schema as bytes.
pub(crate) fn encode_schema(schema: &Schema) -> Result<Bytes, ArrowError> {
    encode(schema, &[])
}

/// Reads what [`encode_schema`] wrote.
pub(crate) fn decode_schema(bytes: Bytes) -> Result<SchemaRef, ArrowError> {
    decode(bytes).map(|(schema, _)| schema)
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, Int64Array};
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn batch(rows: i64) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("data", DataType::Binary, true),
        ]);
        let ids = Int64Array::from_iter_values(0..rows);
        let data = BinaryArray::from_iter((0..rows).map(|i| (i % 3 != 0).then(|| vec![7u8; 100])));
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(data)]).expect("fits")
    }

    #[test]
    fn block_survives_encoding() {
        let batches = vec![batch(10), batch(3).slice(1, 2)];
        let schema = batches[0].schema();
        let (read_schema, read) =
            decode(encode(&schema, &batches).expect("encodes")).expect("decodes");
        assert_eq!((read_schema, read), (schema, batches));
    }

    #[test]
    fn empty_block_keeps_its_schema() {
        let schema = batch(1).schema();
        let (read, batches) = decode(encode(&schema, &[]).expect("encodes")).expect("decodes");
        assert_eq!(read, schema);
        assert!(batches.is_empty());
    }

    #[test]
    fn cut_off_block_is_an_error() {
        let stream = encode(&batch(1).schema(), &[batch(100)]).expect("encodes");
        for end in [3, 64, stream.len() / 2] {
            assert!(decode(stream.slice(..end)).is_err(), "{end}");
        }
    }

    #[test]
    fn slice_counts_only_its_own_bytes() {
        let whole = batch(1000);
        assert!(data_bytes(&whole.slice(0, 10)) < data_bytes(&whole) / 50);
    }

    #[test]
    fn rows_alone_hold_none_of_the_others() {
        let whole = batch(1000);
        let row = alone(&whole.slice(500, 1)).expect("copies");
        assert_eq!(row, whole.slice(500, 1));
        assert!(row.get_array_memory_size() < whole.get_array_memory_size() / 10);
    }
}
