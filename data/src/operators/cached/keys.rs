//! What rows are found by.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field};
use arrow::row::{RowConverter, SortField};
use sha2::{Digest, Sha256};

/// The first half of the SHA-256 of all values of a row, with the names and types of its columns.
pub(super) type Key = [u8; 16];

/// The keys of the rows of a batch (CACHE-1). The order of its columns makes no difference.
pub(super) fn of_rows(name: &str, batch: &RecordBatch) -> Result<Vec<Key>, TaskFailure> {
    let schema = batch.schema();
    let mut columns: Vec<_> = schema.fields().iter().zip(batch.columns()).collect();
    columns.sort_by(|one, other| one.0.name().cmp(other.0.name()));
    let mut begun = Sha256::new();
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays = Vec::with_capacity(columns.len());
    for (field, array) in columns {
        describe(field, &mut begun);
        fields.push(SortField::new(field.data_type().clone()));
        arrays.push(array.clone());
    }
    if arrays.is_empty() {
        return Ok(vec![finished(begun); batch.num_rows()]);
    }
    let refused = |error: &dyn std::fmt::Display| {
        TaskFailure::new(
            ErrorCode::InvalidArgument,
            format!(
                "{name}: its cache cannot tell rows apart by columns of these types ({error}): name those that the function needs with \
                 input_columns=[...]"
            ),
        )
    };
    let converter = RowConverter::new(fields).map_err(|error| refused(&error))?;
    let rows = converter
        .convert_columns(&arrays)
        .map_err(|error| refused(&error))?;
    let key = |row: arrow::row::Row<'_>| {
        let mut digest = begun.clone();
        digest.update(row.as_ref());
        finished(digest)
    };
    Ok(rows.iter().map(key).collect())
}

/// What names begin with of what a field says of an extension's values: the shape of a tensor is nowhere else.
const EXTENSION: &str = "ARROW:extension:";

/// Says what a column is: its name and type, and what its values mean. The length of each word comes before it, so that no two columns
/// are described alike.
fn describe(field: &Field, digest: &mut Sha256) {
    say(digest, field.name());
    let metadata = field.metadata().iter();
    let mut extension: Vec<_> = metadata
        .filter(|(name, _)| name.starts_with(EXTENSION))
        .collect();
    extension.sort_unstable();
    for (name, value) in extension {
        say(digest, name);
        say(digest, value);
    }
    match field.data_type() {
        DataType::List(values) => {
            say(digest, "list");
            describe(values, digest);
        }
        DataType::LargeList(values) => {
            say(digest, "large list");
            describe(values, digest);
        }
        DataType::FixedSizeList(values, size) => {
            say(digest, &format!("list of {size}"));
            describe(values, digest);
        }
        DataType::Struct(fields) => {
            say(digest, &format!("{} fields", fields.len()));
            fields.iter().for_each(|field| describe(field, digest));
        }
        other => say(digest, &format!("{other:?}")),
    }
}

fn say(digest: &mut Sha256, word: &str) {
    digest.update((word.len() as u64).to_le_bytes());
    digest.update(word);
}

fn finished(digest: Sha256) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&digest.finalize()[..16]);
    key
}
