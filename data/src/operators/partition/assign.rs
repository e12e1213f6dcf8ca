//! Which partition each row of a batch goes to.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, Row, RowConverter};
use datafusion_common::hash_utils::{RandomState, create_hashes};

use super::failed;
use crate::columns::{Misfit, conform, unify};
use crate::graph::{PartitionBy, Partitioner, RangeKey};
use crate::operators::comparable::comparable;
use crate::operators::fragment::{nullable, sort_fields};
use crate::operators::relational::index_of;

/// For hashes of keys; all workers of a job must have the same. Not that of hash tables, whose buckets would be half empty.
const HASH_SEED: u64 = 0x616b_7469_7331;

/// Tells rows of one input apart.
pub(super) struct Assigner {
    partitions: u32,
    by: PartitionBy,
    sequence: u64,
    /// Rows of the input so far.
    rows: u64,
    bounds: Vec<RecordBatch>,
    /// For the columns of the keys as they were last.
    ranges: Option<Ranges>,
}

struct Ranges {
    /// Of the keys, as the batch has them.
    own: SchemaRef,
    /// As they are compared with the bounds.
    schema: SchemaRef,
    converter: RowConverter,
    /// In order.
    bounds: Vec<OwnedRow>,
    /// Of the first of equal bounds: how many there are.
    alike: Vec<u64>,
}

impl Assigner {
    pub(super) fn new(partitioner: &Partitioner, sequence: u64, bounds: Vec<RecordBatch>) -> Self {
        Self {
            partitions: partitioner.partitions.max(1),
            by: partitioner.by.clone(),
            sequence,
            rows: 0,
            bounds,
            ranges: None,
        }
    }

    /// A partition for each row.
    pub(super) fn assign(&mut self, batch: &RecordBatch) -> Result<Vec<u32>, TaskFailure> {
        let numbers = self.rows..self.rows + batch.num_rows() as u64;
        self.rows = numbers.end;
        let of = |number: u64| partition(number, self.partitions);
        let (first, first_row) = (self.sequence, numbers.start);
        match &self.by {
            PartitionBy::Hash { keys } => Ok(hashes(keys, batch)?.into_iter().map(of).collect()),
            PartitionBy::Random { seed } => {
                let begin = mixed(seed ^ mixed(first));
                Ok(numbers
                    .map(|row| of(mixed(begin.wrapping_add(row))))
                    .collect())
            }
            PartitionBy::Range { keys, .. } => {
                let keys = keys.clone();
                self.between_bounds(&keys, batch, first_row)
            }
        }
    }

    /// Rows between two bounds meet, the upper bound's own among them. Where several bounds are equal, more rows have this key than a
    /// range should have: they go in turn to the ranges that end with it.
    fn between_bounds(
        &mut self,
        keys: &[RangeKey],
        batch: &RecordBatch,
        first_row: u64,
    ) -> Result<Vec<u32>, TaskFailure> {
        if self.bounds.iter().all(|bounds| bounds.num_rows() == 0) {
            return Ok(vec![0; batch.num_rows()]);
        }
        let own = key_columns(keys, batch)?;
        let ranges = match self
            .ranges
            .take()
            .filter(|ranges| ranges.own == own.schema())
        {
            Some(ranges) => ranges,
            None => Ranges::new(keys, own.schema(), &self.bounds)?,
        };
        let own = conform(&own, &ranges.schema).map_err(|misfit| no_order(&misfit))?;
        let rows = ranges.converter.convert_columns(&compared(&own));
        let rows = rows.map_err(|error| failed("compare keys", &error))?;
        let most = self.partitions as usize - 1;
        let place = |(number, row): (u64, Row<'_>)| {
            let before = ranges.range_of(row, self.sequence.wrapping_add(number));
            u32::try_from(before.min(most)).expect("is below a u32")
        };
        let places = (first_row..).zip(rows.iter()).map(place).collect();
        self.ranges = Some(ranges);
        Ok(places)
    }
}

impl Ranges {
    fn new(
        keys: &[RangeKey],
        own: SchemaRef,
        batches: &[RecordBatch],
    ) -> Result<Self, TaskFailure> {
        let own_form = nullable(&own);
        let schema = batches.iter().try_fold(own_form, |all, batch| {
            unify(&all, &nullable(&batch.schema()))
        });
        let schema = schema.map_err(|misfit| no_order(&misfit))?;
        let cannot = |error: ArrowError| failed("compare keys", &error);
        let converter = RowConverter::new(sort_fields(keys, &schema)).map_err(cannot)?;
        let mut bounds = Vec::new();
        for batch in batches {
            let batch = conform(batch, &schema).map_err(|misfit| no_order(&misfit))?;
            let rows = converter.convert_columns(&compared(&batch));
            bounds.extend(rows.map_err(cannot)?.iter().map(|row| row.owned()));
        }
        bounds.sort_unstable();
        let mut alike = vec![1; bounds.len()];
        for place in (1..bounds.len()).rev() {
            if bounds[place - 1] == bounds[place] {
                alike[place - 1] += alike[place];
            }
        }
        Ok(Self {
            own,
            schema,
            converter,
            bounds,
            alike,
        })
    }

    /// The number of the range; `turn`: of the row.
    fn range_of(&self, row: Row<'_>, turn: u64) -> usize {
        let before = self.bounds.partition_point(|bound| bound.row() < row);
        match self.bounds.get(before) {
            Some(bound) if self.alike[before] > 1 && bound.row() == row => {
                before + usize::try_from(turn % self.alike[before]).expect("is below a length")
            }
            _ => before,
        }
    }
}

fn key_columns(keys: &[RangeKey], batch: &RecordBatch) -> Result<RecordBatch, TaskFailure> {
    let schema = batch.schema();
    let places = keys
        .iter()
        .map(|key| index_of("sort()", &key.column, &schema));
    let places: Vec<usize> = places.collect::<Result<_, TaskFailure>>()?;
    batch
        .project(&places)
        .map_err(|error| failed("compare keys", &error))
}

/// The keys as they are told apart.
fn compared(keys: &RecordBatch) -> Vec<ArrayRef> {
    keys.columns().iter().map(comparable).collect()
}

fn no_order(misfit: &Misfit) -> TaskFailure {
    let between = misfit.between("in some rows", "in others");
    TaskFailure::new(ErrorCode::Application, format!("Sort: {between}"))
}

/// Hashes of rows that are equal where their keys are, also if these came as other types.
fn hashes(keys: &[String], batch: &RecordBatch) -> Result<Vec<u64>, TaskFailure> {
    let schema = batch.schema();
    let mut columns = Vec::with_capacity(keys.len());
    for key in keys {
        let index = index_of("partition by key", key, &schema)?;
        columns.push(plain(batch.column(index))?);
    }
    let mut hashes = vec![0; batch.num_rows()];
    create_hashes(&columns, &RandomState::with_seed(HASH_SEED), &mut hashes)
        .map_err(|error| failed("hash keys", &error))?;
    Ok(hashes.into_iter().map(mixed).collect())
}

/// The column as the one type that stands for all of its kind: numbers as floats, text as text, times in microseconds.
fn plain(column: &ArrayRef) -> Result<ArrayRef, TaskFailure> {
    let is_text = |kind: &DataType| {
        matches!(
            kind,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        )
    };
    let kind = match column.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    };
    let wanted = match &kind {
        DataType::Null | DataType::Boolean => DataType::Float64,
        kind if kind.is_numeric() => DataType::Float64,
        kind if is_text(kind) => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        other => other.clone(),
    };
    let cannot = |error: ArrowError| failed("hash keys", &error);
    let column = cast(column, &wanted).map_err(cannot)?;
    Ok(comparable(&column))
}

/// The number as one below `partitions`.
fn partition(number: u64, partitions: u32) -> u32 {
    u32::try_from(number % u64::from(partitions)).expect("is below a u32")
}

/// All bits of the result depend on all bits of `number`: the finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
