//! A block on its way to where it will lie.

use std::sync::Arc;

use aktis_worker::native::CallContext;
use aktis_worker::{MadeBytes, TaskFailure, Value};
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamEncoder;
use bytes::Bytes;

use super::picked::{Picked, PickedBatch};
use super::{without_many_others, without_other_rows};

/// Its stream in pieces. Some share the memory of its rows; others are rows that are picked from where they lie when the stream is written to
/// where it will lie.
#[derive(Debug)]
pub struct EncodedBlock {
    pieces: Vec<StreamPiece>,
    /// Where each piece ends in the stream.
    ends: Vec<usize>,
}

#[derive(Debug)]
enum StreamPiece {
    Here(Bytes),
    Picked(Picked),
}

impl EncodedBlock {
    /// The rows of `batches`, none of which is copied, but for views of a few of many texts.
    pub fn of(schema: &Schema, batches: &[RecordBatch]) -> Result<Self, ArrowError> {
        let mut encoder = StreamEncoder::try_new(schema)?;
        let mut pieces = Vec::new();
        for batch in batches {
            let batch = without_many_others(batch)?;
            pieces.extend(encoder.encode(&batch)?.into_iter().map(StreamPiece::here));
        }
        pieces.extend(encoder.finish()?.into_iter().map(StreamPiece::here));
        Ok(Self::of_pieces(pieces))
    }

    /// These rows of `batches`: batch and row of each. Long ones are not copied before the stream is written.
    pub(crate) fn of_rows(
        schema: &Schema,
        batches: &Arc<Vec<RecordBatch>>,
        rows: &[(usize, usize)],
    ) -> Result<Self, ArrowError> {
        let Some(PickedBatch { mut columns, batch }) = PickedBatch::of(batches, rows)? else {
            let batches: Vec<&RecordBatch> = batches.iter().collect();
            let picked = without_other_rows(interleave_record_batch(&batches, rows)?)?;
            return Self::of(schema, &[picked]);
        };
        let mut encoder = StreamEncoder::try_new(schema)?;
        let mut pieces = Vec::new();
        for buffer in encoder.encode(&batch)? {
            let column = columns.iter().position(|column| column.stands_at(&buffer));
            pieces.push(match column {
                Some(column) => StreamPiece::Picked(columns.swap_remove(column).picked),
                None => StreamPiece::here(buffer),
            });
        }
        if !columns.is_empty() {
            let what = "the encoder has moved a column".to_owned();
            return Err(ArrowError::IpcError(what));
        }
        pieces.extend(encoder.finish()?.into_iter().map(StreamPiece::here));
        Ok(Self::of_pieces(pieces))
    }

    fn of_pieces(pieces: Vec<StreamPiece>) -> Self {
        let ends = pieces.iter().scan(0, |end, piece| {
            *end += piece.len();
            Some(*end)
        });
        Self {
            ends: ends.collect(),
            pieces,
        }
    }

    /// As the result of a call, at `index` of its results.
    pub(crate) fn into_result(
        self,
        context: &CallContext<'_>,
        index: u32,
    ) -> Result<Value, TaskFailure> {
        let here = |piece: &StreamPiece| match piece {
            StreamPiece::Here(bytes) => Some(bytes.clone()),
            StreamPiece::Picked(_) => None,
        };
        match self.pieces.iter().map(here).collect::<Option<Vec<Bytes>>>() {
            Some(pieces) => Ok(Value::arrow_stream_of(pieces)),
            None => context.stream_result(index, &self),
        }
    }
}

impl MadeBytes for EncodedBlock {
    fn len_bytes(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn make(&self, at: usize, mut into: &mut [u8]) {
        let mut index = self.ends.partition_point(|end| *end <= at);
        let mut at = at;
        while !into.is_empty() {
            let piece = &self.pieces[index];
            let of_piece = at - (self.ends[index] - piece.len());
            let length = (piece.len() - of_piece).min(into.len());
            let (first, rest) = into.split_at_mut(length);
            match piece {
                StreamPiece::Here(bytes) => {
                    first.copy_from_slice(&bytes[of_piece..of_piece + length])
                }
                StreamPiece::Picked(picked) => picked.copy_to(of_piece, first),
            }
            (at, into, index) = (at + length, rest, index + 1);
        }
    }
}

impl From<EncodedBlock> for Bytes {
    /// The stream as a whole, copied.
    fn from(block: EncodedBlock) -> Self {
        let mut whole = vec![0; block.len_bytes()];
        block.make(0, &mut whole);
        whole.into()
    }
}

impl StreamPiece {
    fn here(buffer: Buffer) -> Self {
        struct SharedBuffer(Buffer);

        impl AsRef<[u8]> for SharedBuffer {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        Self::Here(Bytes::from_owner(SharedBuffer(buffer)))
    }

    fn len(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Picked(picked) => picked.len_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray,
        Int64Array, LargeStringArray, StringArray, StringViewArray,
    };
    use arrow::datatypes::{Float32Type, Int32Type};

    use super::*;
    use crate::block::{decode, encode};

    fn ids(rows: i64) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("id", ids)]).expect("one column")
    }

    #[test]
    fn pieces_of_a_block_are_its_stream_and_share_the_memory_of_its_rows() {
        let batches = vec![ids(1000), ids(30).slice(7, 20)];
        let schema = batches[0].schema();
        let block = EncodedBlock::of(&schema, &batches).expect("encodes");
        let ids = batches[0].column(0).to_data();
        let ids = ids.buffers()[0].as_ptr();
        let shares = |piece: &StreamPiece| match piece {
            StreamPiece::Here(bytes) => bytes.as_ptr() == ids && bytes.len() == 8000,
            StreamPiece::Picked(_) => false,
        };
        assert!(block.pieces.iter().any(shares), "it was copied");
        let whole = encode(&schema, &batches).expect("encodes");
        assert_eq!(block.len_bytes(), whole.len());
        assert_eq!(Bytes::from(block), whole);
        let none = EncodedBlock::of(&schema, &[]).expect("encodes");
        assert_eq!(Bytes::from(none), encode(&schema, &[]).expect("encodes"));
    }

    fn nth(row: i64, every: i64) -> bool {
        row % every != 0
    }

    /// Columns of all kinds, with nulls and without, some with long values.
    fn mixed(first: i64, rows: i64, has_nulls: bool) -> RecordBatch {
        let there = |row: i64, every| !has_nulls || nth(row, every);
        let text = |row: i64| format!("{row}").repeat(usize::try_from(row % 300).expect("small"));
        let all = first..first + rows;
        let floats = |row: i64| {
            (0..100)
                .map(|place| Some((row * 100 + place) as f32))
                .collect::<Vec<_>>()
        };
        let few = |row: i64| vec![Some(1), (row % 7 != 0 || !has_nulls).then_some(2), Some(3)];
        let fixed = all
            .clone()
            .map(|row| there(row, 4).then(|| vec![row as u8; 300]));
        let columns: [(&str, ArrayRef); 9] = [
            ("id", Arc::new(Int64Array::from_iter_values(all.clone()))),
            (
                "yes",
                Arc::new(BooleanArray::from_iter(
                    all.clone().map(|row| there(row, 5).then_some(row % 2 == 0)),
                )),
            ),
            (
                "vector",
                Arc::new(
                    FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
                        all.clone().map(|row| there(row, 3).then(|| floats(row))),
                        100,
                    ),
                ),
            ),
            (
                "few",
                Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
                    all.clone().map(|row| Some(few(row))),
                    3,
                )),
            ),
            (
                "fixed",
                Arc::new(
                    FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed, 300)
                        .expect("of one size"),
                ),
            ),
            (
                "text",
                Arc::new(StringArray::from_iter(
                    all.clone().map(|row| there(row, 6).then(|| text(row))),
                )),
            ),
            (
                "large",
                Arc::new(LargeStringArray::from_iter(
                    all.clone().map(|row| there(row, 8).then(|| text(row))),
                )),
            ),
            (
                "bytes",
                Arc::new(BinaryArray::from_iter(
                    all.clone()
                        .map(|row| there(row, 2).then(|| text(row).into_bytes())),
                )),
            ),
            (
                "view",
                Arc::new(StringViewArray::from_iter(
                    all.map(|row| there(row, 9).then(|| text(row))),
                )),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
            .expect("as long as each other")
    }

    #[test]
    fn picked_rows_are_those_that_arrow_picks() {
        for has_nulls in [false, true] {
            let batches = vec![
                mixed(0, 700, false),
                mixed(700, 900, has_nulls).slice(100, 700),
            ];
            let rows: Vec<(usize, usize)> = (0..1300)
                .map(|n| n * 7919 % 1400)
                .map(|n| (n / 700, n % 700))
                .collect();
            let parts: Vec<&RecordBatch> = batches.iter().collect();
            let wanted = interleave_record_batch(&parts, &rows).expect("picks");
            let schema = wanted.schema();
            let batches = Arc::new(batches.clone());
            let block = EncodedBlock::of_rows(&schema, &batches, &rows).expect("encodes");
            let late = |piece: &&StreamPiece| matches!(piece, StreamPiece::Picked(_));
            // Lists that are missing have missing numbers.
            let lists = usize::from(!has_nulls);
            let count = block.pieces.iter().filter(late).count();
            assert_eq!(count, 4 + lists, "long columns are not copied yet");
            // Whatever is asked for at once.
            let mut stream = vec![1; block.len_bytes()];
            for (number, part) in stream.chunks_mut(100_003).enumerate() {
                block.make(number * 100_003, part);
            }
            assert_eq!(stream, Bytes::from(block));
            let (read_schema, read) = decode(stream).expect("decodes");
            assert_eq!((read_schema, read.len()), (schema, 1));
            for (column, wanted) in read[0].columns().iter().zip(wanted.columns()) {
                column.to_data().validate_full().expect("is valid");
                assert_eq!(column, wanted);
            }
        }
    }

    #[test]
    fn picked_texts_come_without_those_of_other_rows() {
        let batches = Arc::new(vec![mixed(0, 1000, false).project(&[8]).expect("has it")]);
        let block = EncodedBlock::of_rows(&batches[0].schema(), &batches, &[(0, 299), (0, 7)]);
        let bytes = block.expect("encodes").len_bytes();
        assert!(bytes < 4000, "{bytes}");
    }

    #[test]
    fn views_of_a_few_texts_come_without_the_others() {
        let batch = mixed(0, 1000, false).project(&[8]).expect("has it");
        let bytes = |rows: usize| {
            let part = batch.slice(10, rows);
            let block = EncodedBlock::of(&batch.schema(), std::slice::from_ref(&part));
            let stream = Bytes::from(block.expect("encodes"));
            assert_eq!(decode(stream.clone()).expect("decodes").1, [part]);
            stream.len()
        };
        assert!(
            bytes(90) < bytes(990) / 4,
            "{} of {}",
            bytes(90),
            bytes(990)
        );
    }
}
