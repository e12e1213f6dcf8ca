//! Where sorted rows are cut, by the keys of some of them.
//!
//! Rows of one key may stand for more bytes than a range shall have. Then it is the bound of several ranges, over which rows that
//! have it are spread (`operators/partition`).

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::{SortOptions, concat_batches, take, take_record_batch};
use arrow::datatypes::{FieldRef, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use super::environment::Environment;
use super::sampled::{STEP, with_weights, wrong};
use crate::block::value_bytes;
use crate::columns;
use crate::graph::{Bounds, RangeKey};
use crate::operators::comparable::comparable;
use crate::operators::partition::WINDOW_BLOCKS;
use crate::operators::stream::BatchStream;

/// Sorting takes about twice the bytes of rows, and a part of the memory is kept for merging: ranges of this part of a worker's memory
/// are sorted without files, also where the sample is off by half.
const RANGES_PER_MEMORY: usize = 4;
/// Rows are cut a few blocks at a time. Where that is little, ranges are few and sorted through files: smaller blocks than this cost more
/// than files do.
const LEAST_BLOCK_BYTES: u64 = 256 << 10;
/// Smaller ranges are not worth a worker.
const LEAST_RANGE_BYTES: u64 = 4 << 20;
/// More keys than these are not held, nor so many bytes of them: then every second one stands for its neighbour, too.
const MOST_ROWS: usize = 1 << 17;
const MOST_BYTES: u64 = 32 << 20;

/// Chooses bounds from what was drawn of all inputs.
pub(super) fn open(
    bounds: Bounds,
    rows: Box<dyn BatchStream>,
    environment: &Environment,
) -> Box<dyn BatchStream> {
    let window_bytes = environment.block_bytes.saturating_mul(WINDOW_BLOCKS);
    let most = u32::try_from(window_bytes / LEAST_BLOCK_BYTES).unwrap_or(u32::MAX);
    let bounds = Bounds {
        most: bounds.most.min(most.max(1)),
        ..bounds
    };
    let range_bytes = (environment.memory() / RANGES_PER_MEMORY) as u64;
    of_bytes(bounds, rows, range_bytes)
}

/// The same for ranges of about so many bytes.
pub(super) fn of_bytes(
    bounds: Bounds,
    rows: Box<dyn BatchStream>,
    range_bytes: u64,
) -> Box<dyn BatchStream> {
    Box::new(BoundsStream {
        bounds,
        rows,
        range_bytes,
        is_over: false,
    })
}

struct BoundsStream {
    bounds: Bounds,
    rows: Box<dyn BatchStream>,
    range_bytes: u64,
    is_over: bool,
}

impl BatchStream for BoundsStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(None);
        }
        let (mut held, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while let Some(batch) = self.rows.next()? {
            rows += batch.num_rows();
            bytes += value_bytes(&batch);
            held.push(batch);
            if rows > MOST_ROWS || bytes > MOST_BYTES {
                let Some(drawn) = Drawn::of(&self.bounds.keys, &held)? else {
                    break;
                };
                let thinner = drawn.every_second()?;
                (rows, bytes) = (thinner.num_rows(), value_bytes(&thinner));
                held = vec![thinner];
                if rows < 2 {
                    break;
                }
            }
        }
        match Drawn::of(&self.bounds.keys, &held)? {
            Some(drawn) => drawn.bounds(&self.bounds, self.range_bytes).map(Some),
            // Keys of a type that has no order among rows of several batches: the rows stay together.
            None => Ok(None),
        }
    }
}

/// Keys in order, and for how many bytes each of them stands.
struct Drawn {
    keys: RecordBatch,
    weights: Vec<u64>,
}

impl Drawn {
    /// `None`: there are none, or nobody can compare them.
    fn of(keys: &[RangeKey], batches: &[RecordBatch]) -> Result<Option<Self>, TaskFailure> {
        let misfit = |misfit: Box<columns::Misfit>| {
            let between = misfit.between("in some rows", "in others");
            TaskFailure::new(ErrorCode::Application, format!("{STEP}: {between}"))
        };
        let mut schemas = batches.iter().map(RecordBatch::schema);
        let Some(first) = schemas.next() else {
            return Ok(None);
        };
        let schema = schemas.try_fold(first, |all, own| columns::unify(&all, &own));
        let schema = schema.map_err(misfit)?;
        let batches = batches.iter().map(|batch| columns::conform(batch, &schema));
        let batches: Result<Vec<RecordBatch>, _> = batches.collect();
        let batches = batches.map_err(misfit)?;
        let ordered = ordered(keys, &schema, &batches);
        let ordered = ordered.map_err(|error| wrong(&error))?;
        Ok(ordered.map(|(keys, weights)| Self { keys, weights }))
    }

    /// Half of them, of which each stands for the one before it, too.
    fn every_second(&self) -> Result<RecordBatch, TaskFailure> {
        let rows = self.keys.num_rows();
        let pairs = (0..rows).step_by(2);
        let last = |begin: usize| (begin + 1).min(rows - 1);
        let chosen = UInt64Array::from_iter_values(pairs.clone().map(|begin| last(begin) as u64));
        let sum = |begin: usize| self.weights[begin..=last(begin)].iter().sum();
        let keys = take_record_batch(&self.keys, &chosen).map_err(|error| wrong(&error))?;
        with_weights(&keys, pairs.map(sum).collect())
    }

    /// Those that rows are told apart by.
    fn bounds(&self, wanted: &Bounds, range_bytes: u64) -> Result<RecordBatch, TaskFailure> {
        let all: u128 = self.weights.iter().map(|&weight| u128::from(weight)).sum();
        let by_memory = all.div_ceil(u128::from(range_bytes.max(1)));
        let for_workers = (all / u128::from(LEAST_RANGE_BYTES)).min(u128::from(wanted.least));
        let most = u128::from(wanted.most.max(1));
        let ranges = by_memory.max(for_workers).clamp(1, most);
        let (mut bounds, mut bytes, mut next) = (Vec::new(), 0, 1);
        for (place, &weight) in (0u64..).zip(&self.weights) {
            bytes += u128::from(weight);
            while next < ranges && bytes * ranges >= all * next {
                bounds.push(place);
                next += 1;
            }
        }
        take_record_batch(&self.keys, &UInt64Array::from(bounds)).map_err(|error| wrong(&error))
    }
}

/// The keys of all batches in order and their weights; `None`: nobody can compare them.
fn ordered(
    keys: &[RangeKey],
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<Option<(RecordBatch, Vec<u64>)>, ArrowError> {
    let all = concat_batches(schema, batches)?;
    let places: Vec<usize> = (0..keys.len()).collect();
    let own = all.project(&places)?;
    let fields = sort_fields(keys, &own.schema());
    if !RowConverter::supports_fields(&fields) {
        return Ok(None);
    }
    let compared: Vec<ArrayRef> = own.columns().iter().map(comparable).collect();
    let rows = RowConverter::new(fields)?.convert_columns(&compared)?;
    let mut order: Vec<u64> = (0u64..).take(own.num_rows()).collect();
    let row = |place: u64| rows.row(usize::try_from(place).expect("is a place"));
    order.sort_by_key(|&place| row(place));
    let order = UInt64Array::from(order);
    let weights = take(all.column(keys.len()), &order, None)?;
    let weights = weights.as_primitive::<UInt64Type>().iter();
    let weights = weights.map(Option::unwrap_or_default).collect();
    Ok(Some((take_record_batch(&own, &order)?, weights)))
}

/// How columns of these keys are compared.
pub(crate) fn sort_fields(keys: &[RangeKey], schema: &Schema) -> Vec<SortField> {
    let field = |(key, field): (&RangeKey, &FieldRef)| {
        let options = SortOptions {
            descending: key.is_descending,
            nulls_first: key.has_nulls_first,
        };
        SortField::new_with_options(field.data_type().clone(), options)
    };
    keys.iter().zip(schema.fields()).map(field).collect()
}
