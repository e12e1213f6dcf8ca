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

mod encoded;
mod picked;

pub use encoded::EncodedBlock;

/// Of texts that were cut off others, so many times their own bytes go along.
const OTHERS_PER_OWN: usize = 2;
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

/// Bytes of the values in the rows of `batch`: those of parts of it add up to those of the whole, however it is cut.
pub(crate) fn value_bytes(batch: &RecordBatch) -> u64 {
    batch.columns().iter().map(bytes_of_values).sum()
}

fn bytes_of_values(values: &ArrayRef) -> u64 {
    let rows = values.len() as u64;
    let between = |offsets: &[i32]| {
        let ends = offsets.first().zip(offsets.last());
        ends.map_or(0, |(first, last)| (last - first).unsigned_abs().into())
    };
    let between_large = |offsets: &[i64]| {
        let ends = offsets.first().zip(offsets.last());
        ends.map_or(0, |(first, last)| (last - first).unsigned_abs())
    };
    let items = |items: &ArrayRef, first: i64, count: u64| {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        bytes_of_values(&items.slice(usize::try_from(first).unwrap_or(0), count))
    };
    match values.data_type() {
        DataType::Utf8 => between(values.as_string::<i32>().value_offsets()) + 4 * rows,
        DataType::LargeUtf8 => between_large(values.as_string::<i64>().value_offsets()) + 8 * rows,
        DataType::Binary => between(values.as_binary::<i32>().value_offsets()) + 4 * rows,
        DataType::LargeBinary => {
            between_large(values.as_binary::<i64>().value_offsets()) + 8 * rows
        }
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            let offsets = lists.value_offsets();
            let first = offsets.first().copied().unwrap_or(0).into();
            items(lists.values(), first, between(offsets)) + 4 * rows
        }
        DataType::LargeList(_) => {
            let lists = values.as_list::<i64>();
            let offsets = lists.value_offsets();
            let first = offsets.first().copied().unwrap_or(0);
            items(lists.values(), first, between_large(offsets)) + 8 * rows
        }
        DataType::Map(..) => {
            let map = values.as_map();
            let offsets = map.value_offsets();
            let first = offsets.first().copied().unwrap_or(0).into();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            items(&entries, first, between(offsets)) + 4 * rows
        }
        DataType::FixedSizeList(..) => bytes_of_values(values.as_fixed_size_list().values()),
        DataType::Struct(_) => values
            .as_struct()
            .columns()
            .iter()
            .map(bytes_of_values)
            .sum(),
        DataType::Dictionary(keys, _) => rows * keys.primitive_width().unwrap_or(4) as u64,
        DataType::FixedSizeBinary(width) => rows * u64::from(width.unsigned_abs()),
        other => rows * other.primitive_width().unwrap_or(1) as u64,
    }
}

/// A copy of the rows of `batch` that holds no others of the buffers that they are a slice of.
pub fn alone(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    // Putting two parts together copies just their rows; taking rows would make room by the length of the whole.
    let copy = concat_batches(&batch.schema(), [batch, &batch.slice(0, 0)])?;
    without_other_rows(copy)
}

/// Rows that were copied from others, without what texts of these they hold on to.
pub(crate) fn without_other_rows(copy: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = copy.columns().iter().map(without_others).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(copy.num_rows()));
    RecordBatch::try_new_with_options(copy.schema(), columns, &options)
}

/// The rows without the texts that they hold on to and nobody reads, where these are more than a few: a stream would have all of them.
fn without_many_others(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    fn holds_many(texts: &[Buffer], used: usize) -> bool {
        let held: usize = texts.iter().map(Buffer::len).sum();
        held > OTHERS_PER_OWN * used + STREAM_OVERHEAD_BYTES
    }
    let holds_many = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8View => {
            let texts = column.as_string_view();
            holds_many(texts.data_buffers(), texts.total_buffer_bytes_used())
        }
        DataType::BinaryView => {
            let texts = column.as_binary_view();
            holds_many(texts.data_buffers(), texts.total_buffer_bytes_used())
        }
        _ => false,
    };
    if batch.columns().iter().any(holds_many) {
        return without_other_rows(batch.clone());
    }
    Ok(batch.clone())
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
pub fn decode(stream: impl Into<Bytes>) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    let mut buffer = Buffer::from(stream.into());
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
    use arrow::array::{
        BinaryArray, DictionaryArray, Int64Array, ListArray, StringArray, StructArray,
    };
    use arrow::datatypes::{DataType, Field, Int8Type, Int32Type};

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

    /// What functions make of their rows is learned from these sums, and must be the same however a batch is called.
    #[test]
    fn values_of_parts_add_up_to_those_of_the_whole() {
        let lists = (0..12).map(|row| Some((0..row).map(Some).collect::<Vec<_>>()));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
        let words: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..12).map(|row| "x".repeat(row)),
        ));
        let keys: DictionaryArray<Int8Type> = (0..12).map(|row| ["a", "bb"][row % 2]).collect();
        let both = StructArray::from(vec![(
            Arc::new(Field::new("words", DataType::Utf8, false)),
            Arc::clone(&words),
        )]);
        let whole = RecordBatch::try_from_iter([
            ("lists", lists),
            ("words", words),
            ("keys", Arc::new(keys) as ArrayRef),
            ("both", Arc::new(both) as ArrayRef),
        ])
        .expect("as long as each other");
        // 66 numbers in lists; 66 letters, twice; keys of a byte; offsets of four bytes.
        assert_eq!(value_bytes(&whole), 66 * 4 + 2 * 66 + 12 + 3 * 12 * 4);
        for at in 0..=12 {
            let parts = [whole.slice(0, at), whole.slice(at, 12 - at)];
            let sum: u64 = parts.iter().map(value_bytes).sum();
            assert_eq!(sum, value_bytes(&whole), "cut at {at}");
        }
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
