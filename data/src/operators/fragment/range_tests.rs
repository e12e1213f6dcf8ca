//! Sorting by ranges, without a cluster: sample, bounds, cutting, sorting. What comes out is what one sort gives.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Int64Type, UInt64Type};
use proptest::prelude::*;

use super::*;
use crate::block::data_bytes;
use crate::graph::{Bounds, PartitionBy, Partitioner, RangeKey, Sort};
use crate::operators::comparable::comparable;
use crate::operators::partition::PartitionCutter;
use crate::operators::stream::Batches;

fn all_of(mut stream: Box<dyn BatchStream>) -> Result<Vec<RecordBatch>, TaskFailure> {
    std::iter::from_fn(|| stream.next().transpose()).collect()
}

fn stream(batches: Vec<RecordBatch>) -> Box<dyn BatchStream> {
    Box::new(Batches(batches.into_iter()))
}

/// What relational work makes of the rows.
fn run(fragment: &Fragment, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, TaskFailure> {
    all_of(open(
        fragment,
        vec![stream(batches)],
        Environment::of_memory(8 << 20),
    ))
}

fn sorted(keys: &[RangeKey], batches: Vec<RecordBatch>) -> Vec<RecordBatch> {
    let keys = keys.to_vec();
    run(&Fragment::Sort(Sort { keys, limit: None }), batches).expect("sorts")
}

/// The bounds of ranges of so many bytes, each of `inputs` drawn from by a worker of its own.
fn bounds(
    keys: &[RangeKey],
    inputs: &[Vec<RecordBatch>],
    range_bytes: u64,
) -> Result<Vec<RecordBatch>, TaskFailure> {
    let sample = Fragment::Sample(keys.to_vec());
    let mut drawn = Vec::new();
    for input in inputs {
        drawn.extend(run(&sample, input.clone())?);
    }
    let wanted = Bounds {
        keys: keys.to_vec(),
        least: 1,
        most: PARTITIONS,
    };
    all_of(bounds::of_bytes(wanted, stream(drawn), range_bytes))
}

const PARTITIONS: u32 = 20;

/// The rows of every range, as they come out of the inputs.
fn ranges(
    keys: &[RangeKey],
    inputs: &[Vec<RecordBatch>],
    bounds: &[RecordBatch],
) -> Vec<Vec<RecordBatch>> {
    let partitioner = Partitioner {
        partitions: PARTITIONS,
        by: PartitionBy::Range {
            keys: keys.to_vec(),
            bounds_feed: 1,
        },
    };
    let mut ranges = vec![Vec::new(); PARTITIONS as usize];
    for (sequence, input) in (0..).zip(inputs) {
        let mut cutter = PartitionCutter::new(&partitioner, sequence, 1 << 20, bounds.to_vec());
        for batch in input {
            cutter.push(batch.clone()).expect("finds ranges");
        }
        cutter.close();
        while let Some(block) = cutter.next_full() {
            let partition = block.partition as usize;
            ranges[partition].extend(block.into_batches().expect("puts rows together"));
        }
    }
    ranges
}

fn rows_of(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

fn key(column: &str, is_descending: bool, has_nulls_first: bool) -> RangeKey {
    RangeKey {
        column: column.to_owned(),
        is_descending,
        has_nulls_first,
    }
}

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .expect("columns of one length")
}

type Row = (Option<i64>, Option<f64>, Option<String>);

/// Few values, so that many are equal; all kinds of floats.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let float = prop_oneof![
        Just(f64::NAN),
        Just(-f64::NAN),
        Just(0.0),
        Just(-0.0),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        -3.0..3.0f64,
    ];
    let row = (
        prop::option::weighted(0.8, -2i64..3),
        prop::option::weighted(0.8, float),
        prop::option::weighted(0.8, "[ab]{0,3}"),
    );
    prop::collection::vec(row, 0..60)
}

fn batch(rows: &[Row], first_id: usize) -> RecordBatch {
    let ids = (first_id as i64..).take(rows.len());
    table(vec![
        (
            "whole",
            Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0))),
        ),
        (
            "float",
            Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.1))),
        ),
        (
            "text",
            Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2.clone()))),
        ),
        ("id", Arc::new(Int64Array::from_iter_values(ids))),
    ])
}

fn orders() -> impl Strategy<Value = Vec<RangeKey>> {
    let columns = Just(vec!["whole", "float", "text"]).prop_shuffle();
    let ways = prop::collection::vec((any::<bool>(), any::<bool>()), 1..4);
    (columns, ways).prop_map(|(columns, ways)| {
        let keys = columns.into_iter().zip(ways);
        keys.map(|(column, (down, nulls_first))| key(column, down, nulls_first))
            .collect()
    })
}

proptest! {
    /// Whatever the keys, directions, nulls, equal rows and inputs: ranges that are sorted one by one are all rows in order.
    #[test]
    fn ranges_one_after_another_are_one_sort(
        inputs in prop::collection::vec(rows(), 1..6),
        keys in orders(),
        range_bytes in prop_oneof![Just(1u64), 40u64..2000, Just(1 << 30)],
    ) {
        let mut first_id = 0;
        let inputs: Vec<Vec<RecordBatch>> = inputs.iter().map(|rows| {
            let batches = rows.chunks(25).map(|rows| {
                first_id += rows.len();
                batch(rows, first_id - rows.len())
            });
            batches.collect()
        }).collect();
        let all: Vec<RecordBatch> = inputs.concat();
        prop_assume!(!all.is_empty());
        let bounds = bounds(&keys, &inputs, range_bytes).expect("chooses bounds");
        let ranges = ranges(&keys, &inputs, &bounds);
        let used = ranges.iter().filter(|rows| !rows.is_empty()).count();
        prop_assert!(range_bytes < 1 << 30 || used == 1);
        let by_ranges: Vec<RecordBatch> = ranges
            .into_iter()
            .filter(|rows| !rows.is_empty())
            .flat_map(|rows| sorted(&keys, rows))
            .collect();
        let one = sorted(&keys, all.clone());
        let schema = one[0].schema();
        let (one, by_ranges) = (concat_batches(&schema, &one), concat_batches(&schema, &by_ranges));
        let (one, by_ranges) = (one.expect("fits"), by_ranges.expect("fits"));
        for key in &keys {
            // Values that are the same to a sort come in any order.
            let of = |rows: &RecordBatch| comparable(rows.column_by_name(&key.column).expect("is there"));
            prop_assert_eq!(of(&one).to_data(), of(&by_ranges).to_data());
        }
        // Every row is there once, and as it was.
        let ids = by_ranges.column_by_name("id").expect("is there").as_primitive::<Int64Type>();
        let mut places = vec![None; first_id];
        for (place, id) in (0u64..).zip(ids.values()) {
            prop_assert_eq!(places[usize::try_from(*id).expect("is one")].replace(place), None);
        }
        let places: Option<Vec<u64>> = places.into_iter().collect();
        let places = UInt64Array::from(places.expect("no row is lost"));
        let back = take_record_batch(&by_ranges, &places).expect("takes");
        let all = concat_batches(&all[0].schema(), &all).expect("fits");
        prop_assert_eq!(back.columns().iter().map(|one| one.to_data()).collect::<Vec<_>>(),
            all.columns().iter().map(|one| one.to_data()).collect::<Vec<_>>());
    }
}

/// Rows `(key, bytes)` as inputs of a thousand rows.
fn of_lengths(rows: impl Iterator<Item = (i64, usize)>) -> Vec<Vec<RecordBatch>> {
    let rows: Vec<(i64, usize)> = rows.collect();
    let input = |rows: &[(i64, usize)]| {
        let keys = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
        let data = StringArray::from_iter_values(rows.iter().map(|row| "x".repeat(row.1)));
        vec![table(vec![
            ("key", Arc::new(keys)),
            ("data", Arc::new(data)),
        ])]
    };
    rows.chunks(1000).map(input).collect()
}

/// Bytes of the largest range, and of one on average.
fn largest(inputs: &[Vec<RecordBatch>]) -> (u64, u64) {
    let keys = [key("key", false, false)];
    let all: u64 = inputs.iter().flatten().map(data_bytes).sum();
    let bounds = bounds(&keys, inputs, all / u64::from(PARTITIONS)).expect("chooses bounds");
    let ranges = ranges(&keys, inputs, &bounds);
    let bytes = |rows: &Vec<RecordBatch>| rows.iter().map(data_bytes).sum::<u64>();
    let most = ranges.iter().map(bytes).max();
    (most.expect("there are ranges"), all / u64::from(PARTITIONS))
}

#[test]
fn ranges_have_about_the_same_bytes_where_long_rows_have_large_keys() {
    let rows = (0..10_000i64).map(|row| {
        let key = row * 7919 % 10_000;
        (key, if key > 9000 { 900 } else { 10 })
    });
    let (most, mean) = largest(&of_lengths(rows));
    assert!(most < mean * 3 / 2, "{most} bytes, {mean} on average");
}

#[test]
fn rows_of_a_hot_key_are_spread_over_its_ranges() {
    let rows = (0..10_000i64).map(|row| (if row % 10 < 7 { 5 } else { row * 7919 % 10 }, 100));
    let (most, mean) = largest(&of_lengths(rows));
    assert!(most < mean * 5 / 2, "{most} bytes, {mean} on average");
}

#[test]
fn one_key_that_all_rows_have_is_spread_over_all_ranges() {
    let (most, mean) = largest(&of_lengths((0..10_000).map(|_| (1, 100))));
    assert!(most < mean * 3 / 2, "{most} bytes, {mean} on average");
}

#[test]
fn sample_stands_for_all_bytes_and_long_keys_are_fewer() {
    let sample = |length: usize| {
        let keys: Vec<String> = (0..4000)
            .map(|row| format!("{row:0width$}", width = length))
            .collect();
        let input = table(vec![("key", Arc::new(StringArray::from(keys)))]);
        let bytes = data_bytes(&input);
        let sample = Fragment::Sample(vec![key("key", false, false)]);
        let drawn = run(&sample, vec![input]).expect("draws");
        let weights = drawn.iter().flat_map(|batch| {
            let weights = batch.column(1).as_primitive::<UInt64Type>();
            weights.values().to_vec()
        });
        let stands_for: u64 = weights.sum();
        assert!(stands_for <= bytes && stands_for > bytes * 9 / 10);
        rows_of(&drawn)
    };
    assert_eq!(sample(8), 512);
    let few = sample(8192);
    assert!((16..40).contains(&few), "{few}");
}

#[test]
fn whole_numbers_and_floats_of_other_inputs_have_one_order() {
    let whole = table(vec![(
        "key",
        Arc::new(Int64Array::from_iter_values(-50..50)),
    )]);
    let floats = Float64Array::from_iter_values((-100..100).map(|half| f64::from(half) / 2.0));
    let floats = table(vec![("key", Arc::new(floats))]);
    let inputs = [vec![whole.clone()], vec![floats.clone()], vec![whole]];
    let keys = [key("key", false, false)];
    let bounds = bounds(&keys, &inputs, 100).expect("chooses bounds");
    assert!(rows_of(&bounds) > 10);
    let mut last = f64::NEG_INFINITY;
    for rows in ranges(&keys, &inputs, &bounds) {
        if rows.is_empty() {
            continue;
        }
        for batch in sorted(&keys, rows) {
            let keys = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Float64);
            let keys = keys.expect("numbers");
            for &key in keys
                .as_primitive::<arrow::datatypes::Float64Type>()
                .values()
            {
                assert!(last <= key, "{key} after {last}");
                last = key;
            }
        }
    }
    assert!((last - 49.5).abs() < 1e-9);
}

#[test]
fn keys_without_a_common_order_are_named_and_so_is_one_that_is_missing() {
    let whole = table(vec![("key", Arc::new(Int64Array::from(vec![1])))]);
    let text = table(vec![("key", Arc::new(StringArray::from(vec!["a"])))]);
    let inputs = [vec![whole], vec![text]];
    let failure = bounds(&[key("key", false, false)], &inputs, 1).expect_err("no order");
    assert!(
        failure.message.starts_with("Sort: the column 'key' is"),
        "{failure}"
    );
    let failure = bounds(&[key("nope", false, false)], &inputs, 1).expect_err("no column");
    assert!(
        failure
            .message
            .ends_with("there is no column 'nope'; the columns are 'key'"),
        "{failure}"
    );
}

#[test]
fn more_keys_than_are_held_give_the_same_ranges_about() {
    // Each input has 512 keys drawn; 400 of them are more than are held at once.
    let inputs = of_lengths((0..400_000i64).map(|row| (row * 7919 % 400_000, 4)));
    let keys = [key("key", false, false)];
    let all: u64 = inputs.iter().flatten().map(data_bytes).sum();
    let bounds = bounds(&keys, &inputs, all / 10).expect("chooses bounds");
    let found = concat_batches(&bounds[0].schema(), &bounds).expect("fits");
    let found = found
        .column(0)
        .as_primitive::<Int64Type>()
        .values()
        .to_vec();
    assert!((9..=10).contains(&found.len()), "{found:?}");
    for (place, bound) in (1i64..).zip(found) {
        assert!((bound - 40_000 * place).abs() < 4000, "{place}: {bound}");
    }
}

#[test]
fn nothing_to_sort_has_no_bounds_and_tells_its_columns() {
    let none = batch(&[], 0);
    let keys = [key("text", true, true)];
    let drawn = run(&Fragment::Sample(keys.to_vec()), vec![none]).expect("draws");
    assert_eq!((drawn.len(), rows_of(&drawn)), (1, 0));
    assert_eq!(rows_of(&bounds(&keys, &[], 1).expect("none")), 0);
    let inputs = [vec![batch(&[], 0)]];
    assert_eq!(rows_of(&bounds(&keys, &inputs, 1).expect("none")), 0);
}
