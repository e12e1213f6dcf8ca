//! Rows that failed, with what is known of the failure: a row each, with the columns that users read.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use bytes::Bytes;

use crate::block::{self, alone};
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
    let place = place_of(position.as_ref(), letter.input, Some(letter.input_row));
    let times = TimestampMicrosecondArray::from(vec![letter.time_micros]).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        (ROW, row_of(letter.rows, failed.position, letter.input_row)?),
        ("position", Arc::new(place)),
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

fn number(number: Option<u64>) -> ArrayRef {
    let number = number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
    Arc::new(Int64Array::from(vec![number]))
}

/// Where a row lies, the input that it came with, and its number among the rows that came to the step from that.
pub(crate) fn place_of(
    position: Option<&Position>,
    input: u64,
    input_row: Option<u64>,
) -> StructArray {
    let of_position = |field: fn(&Position) -> Option<u64>| position.and_then(field);
    let file = position.and_then(|place| place.file.as_deref());
    structure(vec![
        ("file", Arc::new(StringArray::from(vec![file]))),
        ("row_group", number(of_position(|place| place.row_group))),
        ("row", number(of_position(|place| place.row))),
        ("input", number(Some(input))),
        ("input_row", number(input_row)),
    ])
}

/// The row at a place of a batch. What has no columns is known by its number alone.
pub(crate) fn row_of(
    rows: &RecordBatch,
    at: usize,
    input_row: u64,
) -> Result<ArrayRef, TaskFailure> {
    let row = rows.slice(at, 1);
    if row.num_columns() == 0 {
        return Ok(Arc::new(structure(vec![(
            "input_row",
            number(Some(input_row)),
        )])));
    }
    let row = alone(&row).map_err(|error| broken("copy a row", &error))?;
    // What is empty in all rows of a file may be null in another.
    let schema = row.schema();
    let fields = schema.fields().iter().map(|field| {
        let field: &Field = field;
        field.clone().with_nullable(true)
    });
    let fields: Fields = fields.collect();
    let columns = row.columns().to_vec();
    Ok(Arc::new(StructArray::new(fields, columns, None)))
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

/// The rows of all batches as one, where they have columns that go together; if not, those with the same columns.
pub(crate) fn together(letters: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, TaskFailure> {
    let schemas: Vec<SchemaRef> = letters.iter().map(RecordBatch::schema).collect();
    if let Some(schema) = common_schema(schemas.iter()) {
        let alike: Result<Vec<RecordBatch>, _> = letters
            .iter()
            .map(|letter| conform(letter, &schema))
            .collect();
        // What the types allow, the values may not.
        if let Ok(alike) = alike {
            return joined(&alike).map(|whole| vec![whole]);
        }
    }
    let mut forms: Vec<Vec<RecordBatch>> = Vec::new();
    for letter in letters {
        let is_alike = |form: &&mut Vec<RecordBatch>| form[0].schema() == letter.schema();
        match forms.iter_mut().find(is_alike) {
            Some(form) => form.push(letter),
            None => forms.push(vec![letter]),
        }
    }
    forms.iter().map(|form| joined(form)).collect()
}

/// The rows of batches with the same columns.
fn joined(letters: &[RecordBatch]) -> Result<RecordBatch, TaskFailure> {
    arrow::compute::concat_batches(&letters[0].schema(), letters)
        .map_err(|error| broken("put rows that failed together", &error))
}

/// Letters of one step as Arrow streams, as few as their columns allow.
pub(super) fn encode(letters: Vec<RecordBatch>) -> Result<Vec<Bytes>, TaskFailure> {
    let encoded = together(letters)?.into_iter().map(|whole| {
        block::encode(&whole.schema(), std::slice::from_ref(&whole))
            .map_err(|error| broken("write down rows that failed", &error))
    });
    encoded.collect()
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
pub(crate) fn class_and_message(failure: &TaskFailure) -> (&str, &str) {
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

    /// A row of one column.
    fn letter(column: ArrayRef) -> RecordBatch {
        let row = structure(vec![("value", column)]);
        RecordBatch::try_from_iter([(ROW, Arc::new(row) as ArrayRef)]).expect("one column")
    }

    #[test]
    fn letters_whose_rows_do_not_go_together_lie_apart() {
        let number = |number| letter(Arc::new(Int64Array::from(vec![number])));
        let text = letter(Arc::new(StringArray::from(vec!["three"])));
        let times = TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC");
        let mixed = vec![number(1), text, letter(Arc::new(times)), number(4)];
        let streams = encode(mixed).expect("writes");
        let rows: Vec<usize> = streams
            .into_iter()
            .map(|stream| {
                let batches = decode(stream).expect("reads");
                batches.iter().map(RecordBatch::num_rows).sum()
            })
            .collect();
        assert_eq!(rows, [2, 1, 1]);
        assert!(encode(Vec::new()).expect("nothing").is_empty());
    }
}
