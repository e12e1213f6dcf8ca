//! Rows in an order by chance, the same every time.
//!
//! Every row has a number, which belongs to the seed, the partition and its place. Rows that are at hand, and that there is memory for,
//! are copied once, to where their numbers say, or not at all, where whoever gets them copies them; others are sorted by a column of these
//! numbers, through files.

use std::sync::Arc;

use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::{DataFusionError, Result, plan_err};
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::{LexOrdering, PhysicalSortExpr};

use super::drive::{Run, leaf};
use super::environment::Environment;
use super::failure;
use super::feed::FragmentFeed;
use crate::block::without_other_rows;
use crate::operators::chance::mixed;
use crate::operators::packed;
use crate::operators::stream::PickedRows;

/// The step, as users know it.
const STEP: &str = "Shuffle";
/// The column that a shuffle sorts by while it does.
const CHANCE: &str = "chance of a row";
/// What is copied at once: little enough to be in the cache still when it is written into a block, and to get the memory again that the
/// rows before had.
const COPIED_BYTES: u64 = 2 << 20;

/// How it goes.
pub(super) enum BegunShuffle {
    AtHand(Shuffled),
    Sorted(Run),
}

/// Begins with all rows of the feed, which have these columns.
pub(super) fn begin(
    seed: u64,
    feed: &mut FragmentFeed,
    schema: &SchemaRef,
    environment: &Environment,
) -> Result<BegunShuffle, TaskFailure> {
    let chances = Chances::new(seed, environment);
    let (rows, bytes) = feed.held();
    let is_at_hand = feed.has_all() && environment.can_hold((rows, bytes));
    if is_at_hand && rows > 0 && !schema.fields().is_empty() {
        let row_bytes = bytes.div_ceil(rows).max(1);
        let most_rows = environment.rows_at_once();
        let shuffled = Shuffled::new(feed.take_all()?, chances, row_bytes, most_rows);
        return Ok(BegunShuffle::AtHand(shuffled));
    }
    let run = sorted(chances, schema, environment);
    run.map(BegunShuffle::Sorted)
        .map_err(|error| failure(STEP, &error))
}

/// The numbers of rows, as these come.
struct Chances(u64);

impl Chances {
    fn new(seed: u64, environment: &Environment) -> Self {
        Self(mixed(seed ^ mixed(u64::from(environment.partition))))
    }
}

impl Iterator for Chances {
    type Item = u64;

    /// No two are the same.
    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(1);
        Some(mixed(self.0))
    }
}

/// Rows at hand.
pub(super) struct Shuffled {
    batches: Arc<Vec<RecordBatch>>,
    /// Their numbers in order, with batch and row of each.
    order: Vec<(u64, u32, u32)>,
    /// Those before have gone.
    next: usize,
    row_bytes: u64,
    /// So many are copied at once, at most.
    most_rows: usize,
}

impl Shuffled {
    fn new(batches: Vec<RecordBatch>, chances: Chances, row_bytes: u64, most_rows: usize) -> Self {
        let rows = |(number, batch): (u32, &RecordBatch)| {
            let rows = u32::try_from(batch.num_rows()).expect("batches have fewer rows");
            (0..rows).map(move |row| (number, row))
        };
        let places = (0..).zip(&batches).flat_map(rows);
        let numbered = chances.zip(places);
        let mut order: Vec<(u64, u32, u32)> = numbered
            .map(|(chance, (batch, row))| (chance, batch, row))
            .collect();
        order.sort_unstable();
        Self {
            batches: Arc::new(batches),
            order,
            next: 0,
            row_bytes,
            most_rows,
        }
    }

    /// Their columns.
    pub(super) fn schema(&self) -> SchemaRef {
        self.batches[0].schema()
    }

    /// The next rows where they lie, about so many bytes of them.
    pub(super) fn next_picked(&mut self, bytes: u64) -> Option<PickedRows> {
        let rows = bytes.max(COPIED_BYTES) / self.row_bytes;
        let places = self.places(usize::try_from(rows).unwrap_or(usize::MAX));
        (!places.is_empty()).then(|| PickedRows {
            batches: Arc::clone(&self.batches),
            bytes: self.row_bytes * places.len() as u64,
            places,
        })
    }

    /// Batch and row of the next ones.
    fn places(&mut self, rows: usize) -> Vec<(usize, usize)> {
        let end = self.order.len().min(self.next.saturating_add(rows.max(1)));
        let begin = std::mem::replace(&mut self.next, end);
        let places = self.order[begin..end].iter();
        places
            .map(|&(_, batch, row)| (batch as usize, row as usize))
            .collect()
    }

    fn copy(&self, places: &[(usize, usize)]) -> Result<RecordBatch> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let copied = interleave_record_batch(&batches, places)?;
        Ok(without_other_rows(copied)?)
    }
}

impl Iterator for Shuffled {
    type Item = Result<RecordBatch, TaskFailure>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = usize::try_from(COPIED_BYTES / self.row_bytes).unwrap_or(usize::MAX);
        let places = self.places(rows.min(self.most_rows));
        let copied = || self.copy(&places).map_err(|error| failure(STEP, &error));
        (!places.is_empty()).then(copied)
    }
}

/// Sorts by the numbers.
fn sorted(mut chances: Chances, schema: &SchemaRef, environment: &Environment) -> Result<Run> {
    let place = schema.fields().len();
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(CHANCE, DataType::UInt64, false)));
    let with_chance: SchemaRef = Arc::new(Schema::new(fields));
    let key = PhysicalSortExpr::new_default(Arc::new(Column::new(CHANCE, place)));
    let Some(order) = LexOrdering::new([key]) else {
        return plan_err!("there is no key to sort by");
    };
    let (slot, rows) = leaf(&with_chance)?;
    let plan = packed::sorted(&order, rows);
    let run = Run::new(STEP, &plan, vec![slot], environment)?;
    let before = move |batch: RecordBatch| {
        let numbers = chances.by_ref().take(batch.num_rows());
        let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(numbers));
        let mut columns = batch.columns().to_vec();
        columns.push(numbers);
        RecordBatch::try_new(Arc::clone(&with_chance), columns).map_err(DataFusionError::from)
    };
    let own: Vec<usize> = (0..place).collect();
    let after = move |batch: RecordBatch| batch.project(&own).map_err(DataFusionError::from);
    Ok(run.dressed(Box::new(before), Box::new(after), Arc::clone(schema)))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, FixedSizeListArray, Int64Array, StringViewArray};
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::super::feed::KnownRows;
    use super::super::{nullable, open_known};
    use super::*;
    use crate::graph::Fragment;
    use crate::operators::stream::Batches;

    /// Rows of all kinds, one batch shorter than the others.
    fn batches() -> Vec<RecordBatch> {
        let batch = |first: i64, rows: i64| {
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows));
            let list = |id: i64| {
                let numbers = (0..3).map(|place| Some(i32::try_from(3 * id + place).expect("few")));
                (id % 7 != 0).then(|| numbers.collect::<Vec<_>>())
            };
            let lists = (first..first + rows).map(list);
            let lists: ArrayRef =
                Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
                    lists, 3,
                ));
            let text = |id: i64| format!("a text that is too long to lie in a view: {id}");
            let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(
                (first..first + rows).map(text),
            ));
            let columns = [("id", ids), ("list", lists), ("text", texts)];
            RecordBatch::try_from_iter(columns).expect("as long as each other")
        };
        vec![batch(0, 400), batch(400, 90), batch(490, 510)]
    }

    /// What comes of them with so much memory; `is_known`: they are not to be read before work begins.
    fn shuffled(memory_bytes: usize, is_known: bool) -> Vec<RecordBatch> {
        let batches = batches();
        let known = is_known.then(|| KnownRows {
            schema: nullable(&batches[0].schema()),
            size: (1000, 100_000),
        });
        let rows = Box::new(Batches(batches.into_iter()));
        let environment = Environment {
            row_bytes: 100,
            ..Environment::of_memory(memory_bytes)
        };
        let mut stream = open_known(&Fragment::Shuffle(7), vec![(rows, known)], environment);
        std::iter::from_fn(|| stream.next().expect("goes on")).collect()
    }

    /// STG-2 (same-cut-every-time)
    #[test]
    fn order_is_the_same_whether_rows_are_at_hand_or_sorted() {
        let whole = |batches: Vec<RecordBatch>| {
            arrow::compute::concat_batches(&batches[0].schema(), &batches).expect("are alike")
        };
        let at_hand = whole(shuffled(64 << 20, false));
        let sorted = whole(shuffled(64 << 20, true));
        assert_eq!(at_hand, sorted);
        let ids = at_hand.column(0).as_primitive::<Int64Type>();
        let mut ids: Vec<i64> = ids.values().to_vec();
        assert!(!ids.is_sorted());
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..1000));
    }

    #[test]
    fn rows_at_hand_can_be_had_where_they_lie_in_the_same_order() {
        let whole = |batches: Vec<RecordBatch>| {
            arrow::compute::concat_batches(&batches[0].schema(), &batches).expect("are alike")
        };
        let environment = Environment::of_memory(64 << 20);
        let rows = Box::new(Batches(batches().into_iter()));
        let mut stream = open_known(&Fragment::Shuffle(7), vec![(rows, None)], environment);
        let mut picked = Vec::new();
        while let Some(rows) = stream.next_picked(1).expect("goes on") {
            let batches: Vec<&RecordBatch> = rows.batches.iter().collect();
            picked.push(interleave_record_batch(&batches, &rows.places).expect("picks"));
        }
        assert_eq!(stream.next().expect("goes on"), None, "nothing is left");
        assert_eq!(whole(picked), whole(shuffled(64 << 20, false)));
    }

    #[test]
    fn rows_that_were_copied_hold_no_texts_of_others() {
        let batches = shuffled(64 << 20, false);
        let held: usize = batches
            .iter()
            .flat_map(|batch| batch.column(2).as_string_view().data_buffers())
            .map(|texts| texts.len())
            .sum();
        assert!(held < 100 * 1000, "{held} bytes");
    }
}
