//! Rows that failed, with what is known of the failure: a row each, with the columns that users read.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use bytes::Bytes;

use crate::block;
use crate::columns::{conform, unify};
use crate::operators::udf::FailedRow;
use crate::sources::Position;

/// The column of a letter that holds the row.
pub(crate) const ROW: &str = "row";

/// A row that failed.
pub(crate) struct Letter<'a> {
    /// The batch that it is in.
    pub(crate) rows: &'a RecordBatch,
    /// Where, and what happened.
    pub(crate) failed: &'a FailedRow,
    /// The step.
    pub(crate) operator: &'a str,
    /// Where the row lies, if that is known.
    pub(crate) position: Option<Position>,
    /// The input that it came with.
    pub(crate) input: u64,
    /// Its number among the rows that came to the step from that input.
    pub(crate) input_row: u64,
    /// Calls that it was in and that failed.
    pub(crate) attempts: u32,
    /// Who has found it.
    pub(crate) worker: &'a str,
    /// When, in microseconds since 1970.
    pub(crate) time_micros: i64,
}

/// The letter as a batch of one row.
pub(super) fn encode_one(letter: &Letter<'_>) -> Result<RecordBatch, TaskFailure> {
    let Letter {
        failed, position, ..
    } = letter;
    let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let number = |number: Option<u64>| {
        let number = number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        Arc::new(Int64Array::from(vec![number])) as ArrayRef
    };
    let of_position = |field: fn(&Position) -> Option<u64>| position.as_ref().and_then(field);
    let file = position.as_ref().and_then(|place| place.file.as_deref());
    let place: Vec<(&str, ArrayRef)> = vec![
        ("file", Arc::new(StringArray::from(vec![file]))),
        ("row_group", number(of_position(|place| place.row_group))),
        ("row", number(of_position(|place| place.row))),
        ("input", number(Some(letter.input))),
        ("input_row", number(Some(letter.input_row))),
    ];
    let times = TimestampMicrosecondArray::from(vec![letter.time_micros]).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        (ROW, row_of(letter)),
        ("position", Arc::new(structure(place))),
        ("operator", text(letter.operator)),
        ("error", text(&failed.error)),
        ("message", text(&failed.message)),
        ("traceback", text(&failed.traceback)),
        ("attempts", number(Some(letter.attempts.into()))),
        ("worker", text(letter.worker)),
        ("time", Arc::new(times)),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| broken("write down a row that failed", &error))
}

/// The row itself. What has no columns is known by its number alone.
fn row_of(letter: &Letter<'_>) -> ArrayRef {
    let row = letter.rows.slice(letter.failed.position, 1);
    if row.num_columns() == 0 {
        let number = i64::try_from(letter.input_row).unwrap_or(i64::MAX);
        let number: ArrayRef = Arc::new(Int64Array::from(vec![number]));
        return Arc::new(structure(vec![("input_row", number)]));
    }
    // What is empty in all rows of a file may be null in another.
    let schema = row.schema();
    let fields = schema.fields().iter().map(|field| {
        let field: &Field = field;
        field.clone().with_nullable(true)
    });
    let fields: Fields = fields.collect();
    Arc::new(StructArray::new(fields, row.columns().to_vec(), None))
}

fn structure(columns: Vec<(&str, ArrayRef)>) -> StructArray {
    let fields = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let fields: Fields = fields.collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    StructArray::new(fields, columns, None)
}

/// The columns of all letters, if there are some that all of them fit into.
pub(crate) fn common_schema<'a>(
    mut schemas: impl Iterator<Item = &'a SchemaRef>,
) -> Option<SchemaRef> {
    let first = Arc::clone(schemas.next()?);
    schemas.try_fold(first, |all, one| unify(&all, one).ok())
}

/// Letters of one step as an Arrow stream; nothing, if there are none.
pub(super) fn encode(letters: &[RecordBatch]) -> Result<Bytes, TaskFailure> {
    let schemas: Vec<SchemaRef> = letters.iter().map(RecordBatch::schema).collect();
    let Some(first) = schemas.first() else {
        return Ok(Bytes::new());
    };
    let wrong = |error: &dyn std::fmt::Display| {
        TaskFailure::new(
            ErrorCode::Internal,
            format!("write down rows that failed: {error}"),
        )
    };
    // Rows of one step and one input have columns that go together, or its blocks would not.
    let schema = common_schema(schemas.iter()).unwrap_or_else(|| Arc::clone(first));
    let alike: Result<Vec<RecordBatch>, _> = letters
        .iter()
        .map(|letter| conform(letter, &schema))
        .collect();
    let alike = alike.map_err(|misfit| wrong(&misfit.between("in one row", "in another")))?;
    let whole = arrow::compute::concat_batches(&schema, &alike).map_err(|error| wrong(&error))?;
    block::encode(&schema, &[whole]).map_err(|error| wrong(&error))
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(letters: Bytes) -> Result<Vec<RecordBatch>, TaskFailure> {
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    let decoded = block::decode(letters);
    decoded
        .map(|(_, batches)| batches)
        .map_err(|error| broken("read rows that failed", &error))
}

fn broken(what: &str, error: &arrow::error::ArrowError) -> TaskFailure {
    TaskFailure::new(ErrorCode::Internal, format!("{what}: {error}"))
}

/// The class of the exception that a failure tells of, and what it says.
pub(super) fn class_and_message(failure: &TaskFailure) -> (&str, &str) {
    let is_class = |text: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|letter| letter.is_alphanumeric() || "_.<>".contains(letter))
    };
    match failure.message.split_once(": ") {
        Some((class, message)) if failure.code == ErrorCode::Application && is_class(class) => {
            (class, message)
        }
        _ if failure.code == ErrorCode::Application
            && is_class(failure.message.trim_end_matches(':')) =>
        {
            (failure.message.trim_end_matches(':'), "")
        }
        // What a function has returned and must not is a ValueError in Python too.
        _ => ("ValueError", &failure.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_of_an_exception_is_told_from_what_it_says() {
        let class = |text: &str| {
            let failure = TaskFailure::new(ErrorCode::Application, text);
            let (class, message) = class_and_message(&failure);
            (class.to_owned(), message.to_owned())
        };
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        assert_eq!(class("KeyError: 'a: b'"), pair("KeyError", "'a: b'"));
        assert_eq!(class("Model.Bad: no"), pair("Model.Bad", "no"));
        assert_eq!(
            class("Map(f) gave: x"),
            pair("ValueError", "Map(f) gave: x")
        );
        assert_eq!(class("KeyError: "), pair("KeyError", ""));
    }
}
