//! Long texts and bytes are read as views of the pages that they lie in, and copied out of them piece by piece.
//!
//! ```text
//!  pages, dictionary ──► views: where each value lies ──► pieces of about so many bytes
//! ```
//! Whoever decodes values one behind the other copies the dictionary first, which with long values has some tens of megabytes: for a
//! moment it is there twice. And a batch has as many rows as its footer makes believe that fit: of views it is known how long they are before
//! any is copied.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

/// Rows that have more bytes than this, before compression, are long. Of short values a view costs more than a copy.
const LONG_ROW_BYTES: u64 = 1 << 10;

/// The columns of a file whose rows have about so many bytes as they are read. `as_they_are`: columns that somebody looks at meanwhile.
pub(super) fn read_as(own: &SchemaRef, row_bytes: u64, as_they_are: &[String]) -> SchemaRef {
    if row_bytes <= LONG_ROW_BYTES {
        return Arc::clone(own);
    }
    let view = |field: &Arc<Field>| {
        let view = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
            DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
            _ => return Arc::clone(field),
        };
        if as_they_are.contains(field.name()) {
            return Arc::clone(field);
        }
        Arc::new(Field::clone(field).with_data_type(view))
    };
    let fields: Vec<_> = own.fields().iter().map(view).collect();
    Arc::new(Schema::new(fields))
}

/// A batch as it was read.
pub(super) struct Viewed {
    /// What is left of it.
    batch: RecordBatch,
    /// The same columns as they shall be; `None`: none is a view.
    schema: Option<SchemaRef>,
    piece_bytes: u64,
}

impl Viewed {
    /// The rows of `batch` with the columns of `schema`, some of which are views there, in pieces of about so many bytes. Without a schema
    /// they are one piece.
    pub(super) fn new(batch: RecordBatch, schema: Option<SchemaRef>, piece_bytes: u64) -> Self {
        Self {
            batch,
            schema,
            piece_bytes,
        }
    }

    /// The next piece and what is behind it; that is `None` for the last one.
    pub(super) fn piece(self) -> Result<(RecordBatch, Option<Self>), ArrowError> {
        let Some(schema) = &self.schema else {
            return Ok((self.batch, None));
        };
        let (all, rows) = (self.batch.num_rows(), self.rows_of_piece());
        let piece = self.batch.slice(0, rows);
        let columns = piece.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()));
        let columns = columns.collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let whole = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
        let rest = (rows < all).then(|| Self {
            batch: self.batch.slice(rows, all - rows),
            ..self
        });
        Ok((whole, rest))
    }

    /// So many rows have about as many bytes as a piece, or are the rest.
    fn rows_of_piece(&self) -> usize {
        let views: Vec<&[u128]> = self.batch.columns().iter().filter_map(views_of).collect();
        let mut bytes = 0;
        for row in 0..self.batch.num_rows() {
            bytes += views.iter().map(|views| length(views[row])).sum::<u64>();
            if bytes > self.piece_bytes {
                return row.max(1);
            }
        }
        self.batch.num_rows()
    }
}

fn views_of(column: &ArrayRef) -> Option<&[u128]> {
    match column.data_type() {
        DataType::Utf8View => Some(column.as_string_view().views()),
        DataType::BinaryView => Some(column.as_binary_view().views()),
        _ => None,
    }
}

/// Bytes of the value that a view is of: its lower half begins with them.
fn length(view: u128) -> u64 {
    u64::try_from(view & u128::from(u32::MAX)).expect("has 32 bits")
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryViewArray, Int64Array, LargeBinaryArray};
    use arrow::compute::concat_batches;

    use super::*;

    fn own() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("data", DataType::LargeBinary, true),
            Field::new("key", DataType::Utf8, true),
        ]))
    }

    #[test]
    fn long_values_are_views_unless_somebody_looks_at_them() {
        let kinds = |row_bytes, as_they_are: &[&str]| {
            let as_they_are: Vec<String> =
                as_they_are.iter().map(|&name| name.to_owned()).collect();
            let read = read_as(&own(), row_bytes, &as_they_are);
            let kinds = read.fields().iter().map(|field| field.data_type().clone());
            kinds.collect::<Vec<_>>()
        };
        let (id, view, text) = (DataType::Int64, DataType::BinaryView, DataType::Utf8View);
        let short = [id.clone(), DataType::LargeBinary, DataType::Utf8];
        assert_eq!(kinds(1000, &[]), short);
        assert_eq!(kinds(2000, &[]), [id.clone(), view.clone(), text]);
        assert_eq!(kinds(2000, &["key"]), [id, view, DataType::Utf8]);
    }

    #[test]
    fn pieces_have_about_so_many_bytes_however_long_rows_are() {
        let lengths = [10, 0, 3000, 50, 50, 5000, 20, 7];
        let value = |(row, &length): (usize, &usize)| (row != 1).then(|| vec![7_u8; length]);
        let values: Vec<Option<Vec<u8>>> = lengths.iter().enumerate().map(value).collect();
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..8));
        let schema = Arc::new(own().project(&[0, 1]).expect("has them"));
        let batch = |data: ArrayRef| {
            let fields = [("id", Arc::clone(&ids), false), ("data", data, true)];
            RecordBatch::try_from_iter_with_nullable(fields).expect("fits")
        };
        let whole = batch(Arc::new(LargeBinaryArray::from_iter(
            values.iter().cloned(),
        )));
        let mut rest = Some(Viewed::new(
            batch(Arc::new(BinaryViewArray::from_iter(values))),
            Some(Arc::clone(&schema)),
            1000,
        ));
        let mut pieces = Vec::new();
        while let Some(viewed) = rest {
            let (piece, behind) = viewed.piece().expect("copies");
            pieces.push(piece);
            rest = behind;
        }
        let rows: Vec<usize> = pieces.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(rows, [2, 1, 2, 1, 2]);
        assert_eq!(concat_batches(&schema, &pieces).expect("fit"), whole);
        let viewed = Viewed::new(whole.clone(), None, 1);
        let (piece, rest) = viewed.piece().expect("is as it shall be");
        assert!(rest.is_none() && piece == whole);
    }
}
