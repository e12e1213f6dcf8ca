//! Keys of some rows of an input, of which a sort learns where to cut all of them.
//!
//! The rows lie evenly over the input, so that one that is sorted already is drawn from as well as any other. Each stands for
//! some of the input's bytes, by its own length: rows with large keys may be the long ones.

use std::collections::VecDeque;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;

use super::{column, failure, nullable};
use crate::block::{data_bytes, value_bytes};
use crate::graph::RangeKey;
use crate::operators::chance::mixed;
use crate::operators::stream::BatchStream;

/// The step, as users know it.
pub(super) const STEP: &str = "Sort";
/// The last column: for how many bytes a row stands.
const WEIGHT: &str = "bytes that a row stands for";
/// Rows that are drawn of an input.
const DRAWN_ROWS: usize = 512;
/// Bytes of their keys, about.
const DRAWN_BYTES: u64 = 256 << 10;

/// Draws from an input.
pub(super) fn open(keys: Vec<RangeKey>, rows: Box<dyn BatchStream>) -> Box<dyn BatchStream> {
    Box::new(DrawnStream {
        keys,
        rows,
        drawn: None,
    })
}

struct DrawnStream {
    keys: Vec<RangeKey>,
    rows: Box<dyn BatchStream>,
    drawn: Option<VecDeque<RecordBatch>>,
}

impl BatchStream for DrawnStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        if self.drawn.is_none() {
            let mut held = Vec::new();
            while let Some(batch) = self.rows.next()? {
                held.push((keys_of(&self.keys, &batch)?, batch));
            }
            self.drawn = Some(drawn(&held)?.into());
        }
        Ok(self.drawn.as_mut().and_then(VecDeque::pop_front))
    }
}

/// The columns of the keys.
pub(super) fn keys_of(keys: &[RangeKey], batch: &RecordBatch) -> Result<RecordBatch, TaskFailure> {
    let schema = nullable(&batch.schema());
    for key in keys {
        column(&key.column, &schema).map_err(|error| failure(STEP, &error))?;
    }
    let places = keys.iter().map(|key| schema.index_of(&key.column));
    let places: Result<Vec<usize>, ArrowError> = places.collect();
    let project = |places: Vec<usize>| {
        let schema = Arc::new(schema.project(&places)?);
        let columns = places.iter().map(|&place| Arc::clone(batch.column(place)));
        RecordBatch::try_new(schema, columns.collect())
    };
    places.and_then(project).map_err(|error| wrong(&error))
}

/// Rows with their keys and what they stand for, from batches of keys and the whole rows of each.
fn drawn(held: &[(RecordBatch, RecordBatch)]) -> Result<Vec<RecordBatch>, TaskFailure> {
    let rows: usize = held.iter().map(|(_, batch)| batch.num_rows()).sum();
    if rows == 0 {
        let first = held.first();
        let told = first.map(|(keys, _)| with_weights(keys, Vec::new()));
        return told.into_iter().collect();
    }
    let bytes = held.iter().map(|(_, batch)| data_bytes(batch)).sum::<u64>();
    let mut places = places(rows);
    loop {
        let drawn = drawn_at(held, &places, bytes)?;
        let of_keys: u64 = drawn.iter().map(value_bytes).sum();
        let stride = usize::try_from(of_keys.div_ceil(DRAWN_BYTES)).unwrap_or(usize::MAX);
        if stride < 2 || places.len() < 2 {
            return Ok(drawn);
        }
        places = places.into_iter().step_by(stride).collect();
    }
}

/// Numbers of rows, in order: one of each of so many parts of the input.
fn places(rows: usize) -> Vec<usize> {
    let count = rows.min(DRAWN_ROWS);
    let place = |part: usize| {
        let (from, to) = (rows * part / count, rows * (part + 1) / count);
        let chance = mixed(part as u64) % (to - from) as u64;
        from + usize::try_from(chance).expect("is below a length")
    };
    (0..count).map(place).collect()
}

/// `bytes`: of all rows.
fn drawn_at(
    held: &[(RecordBatch, RecordBatch)],
    places: &[usize],
    bytes: u64,
) -> Result<Vec<RecordBatch>, TaskFailure> {
    let (mut places, mut first) = (places.iter().copied().peekable(), 0);
    let mut chosen = Vec::new();
    for (keys, batch) in held {
        let end = first + batch.num_rows();
        let mut own = Vec::new();
        while let Some(place) = places.next_if(|&place| place < end) {
            let row = place - first;
            own.push((row as u64, data_bytes(&batch.slice(row, 1)).max(1)));
        }
        if !own.is_empty() {
            chosen.push((keys, own));
        }
        first = end;
    }
    let rows = chosen.iter().flat_map(|(_, own)| own);
    let all = rows.map(|&(_, bytes)| u128::from(bytes)).sum::<u128>();
    let weight = |own: u64| {
        let part = u128::from(bytes) * u128::from(own) / all.max(1);
        u64::try_from(part).unwrap_or(u64::MAX).max(1)
    };
    let drawn = chosen.into_iter().map(|(keys, own)| {
        let indices = UInt64Array::from_iter_values(own.iter().map(|&(row, _)| row));
        let columns = keys.columns().iter();
        let columns: Result<Vec<ArrayRef>, ArrowError> =
            columns.map(|column| take(column, &indices, None)).collect();
        let taken = columns.and_then(|columns| RecordBatch::try_new(keys.schema(), columns));
        let weights = own.iter().map(|&(_, bytes)| weight(bytes)).collect();
        with_weights(&taken.map_err(|error| wrong(&error))?, weights)
    });
    drawn.collect()
}

/// The keys and what each of them stands for.
pub(super) fn with_weights(
    keys: &RecordBatch,
    weights: Vec<u64>,
) -> Result<RecordBatch, TaskFailure> {
    let mut fields = keys.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(WEIGHT, DataType::UInt64, true)));
    let mut columns = keys.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from(weights)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| wrong(&error))
}

pub(super) fn wrong(error: &ArrowError) -> TaskFailure {
    TaskFailure::new(ErrorCode::Internal, format!("{STEP}: draw rows: {error}"))
}
