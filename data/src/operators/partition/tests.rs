//! Rows find the same partitions every time, and keys that are equal meet.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, LargeStringArray, StringArray};
use proptest::prelude::*;

use super::*;
use crate::graph::{PartitionBy, RangeKey};
use crate::testing::{ids, rows};

fn cut(
    by: PartitionBy,
    partitions: u32,
    block_bytes: u64,
    batches: &[RecordBatch],
) -> Vec<(u32, Vec<i64>)> {
    cut_between(by, partitions, block_bytes, batches, Vec::new())
}

fn cut_between(
    by: PartitionBy,
    partitions: u32,
    block_bytes: u64,
    batches: &[RecordBatch],
    bounds: Vec<RecordBatch>,
) -> Vec<(u32, Vec<i64>)> {
    let partitioner = Partitioner { partitions, by };
    let mut cutter = PartitionCutter::new(&partitioner, 3, block_bytes, bounds);
    for batch in batches {
        cutter.push(batch.clone()).expect("finds partitions");
    }
    cutter.close();
    let next = || cutter.next_full();
    std::iter::from_fn(next)
        .map(|cut| {
            let (partition, count) = (cut.partition, cut.rows);
            let ids = ids(&cut.into_batches().expect("puts rows together"));
            assert_eq!(ids.len() as u64, count);
            (partition, ids)
        })
        .collect()
}

fn column(name: &str, values: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter([(name, values)]).expect("one column")
}

fn places(batch: &RecordBatch) -> Vec<u32> {
    let keys = vec!["key".to_owned()];
    let partitioner = Partitioner {
        partitions: 1000,
        by: PartitionBy::Hash { keys },
    };
    Assigner::new(&partitioner, 0, Vec::new())
        .assign(batch)
        .expect("hashes")
}

fn partition_bys() -> impl Strategy<Value = PartitionBy> {
    prop_oneof![
        Just(PartitionBy::Hash {
            keys: vec!["id".to_owned()]
        }),
        any::<u64>().prop_map(|seed| PartitionBy::Random { seed }),
    ]
}

proptest! {
    /// STG-2 (same-cut-every-time): every row is in one partition, in the order that rows had, the same every time.
    #[test]
    fn every_row_is_in_one_partition_and_the_same_every_time(
        by in partition_bys(),
        partitions in 1u32..7,
        block_bytes in prop_oneof![Just(1u64), 2000u64..20_000, Just(1 << 20)],
        counts in prop::collection::vec(0i64..40, 0..5),
    ) {
        let mut first = 0;
        let batches: Vec<RecordBatch> = counts.iter().map(|&count| {
            first += count;
            rows(first - count, count)
        }).collect();
        let blocks = cut(by.clone(), partitions, block_bytes, &batches);
        prop_assert_eq!(&blocks, &cut(by, partitions, block_bytes, &batches));
        let mut all = BTreeMap::<u32, Vec<i64>>::new();
        for (partition, ids) in blocks {
            prop_assert!(partition < partitions && !ids.is_empty());
            all.entry(partition).or_default().extend(ids);
        }
        prop_assert!(all.values().all(|ids| ids.is_sorted()));
        let mut ids: Vec<i64> = all.into_values().flatten().collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (0..first).collect::<Vec<_>>());
    }
}

#[test]
fn rows_lie_between_their_bounds_in_the_order_of_the_keys() {
    let key = |is_descending| RangeKey {
        column: "id".to_owned(),
        is_descending,
        has_nulls_first: false,
    };
    // Bounds in any order, of another type than the keys.
    let bounds = || vec![column("id", Arc::new(Int32Array::from(vec![20, 10])))];
    let by = |is_descending| PartitionBy::Range {
        keys: vec![key(is_descending)],
        bounds_feed: 1,
    };
    let up = cut_between(by(false), 3, 1 << 20, &[rows(0, 30)], bounds());
    let expected = [
        (0, (0..11).collect()),
        (1, (11..21).collect()),
        (2, (21..30).collect()),
    ];
    assert_eq!(up, expected);
    let down = cut_between(by(true), 3, 1 << 20, &[rows(0, 30)], bounds());
    let expected = [
        (0, (20..30).collect()),
        (1, (10..20).collect()),
        (2, (0..10).collect()),
    ];
    assert_eq!(down, expected);
}

#[test]
fn equal_keys_of_other_types_meet() {
    let whole = places(&column(
        "key",
        Arc::new(Int64Array::from(vec![Some(7), Some(0), None])),
    ));
    let small = places(&column(
        "key",
        Arc::new(Int32Array::from(vec![Some(7), Some(0), None])),
    ));
    let floats = Float64Array::from(vec![Some(7.0), Some(-0.0), None]);
    assert_eq!(whole, small);
    assert_eq!(whole, places(&column("key", Arc::new(floats))));
    let text = places(&column(
        "key",
        Arc::new(StringArray::from(vec![Some("a"), None])),
    ));
    let large = LargeStringArray::from(vec![Some("a"), None]);
    assert_eq!(text, places(&column("key", Arc::new(large))));
    assert_eq!(whole[2], text[1], "nulls of all types meet");
}

#[test]
fn hashed_rows_spread_over_all_partitions() {
    let keys = vec!["id".to_owned()];
    let blocks = cut(PartitionBy::Hash { keys }, 8, 64 << 20, &[rows(0, 4000)]);
    assert_eq!(blocks.len(), 8);
    assert!(
        blocks
            .iter()
            .all(|(_, ids)| (400..600).contains(&ids.len()))
    );
}

#[test]
fn blocks_of_partitions_are_no_larger_than_blocks() {
    // Rows of about 1 KB in blocks of 8 KB.
    let blocks = cut(PartitionBy::Random { seed: 7 }, 2, 8 << 10, &[rows(0, 100)]);
    assert!(blocks.iter().all(|(_, ids)| ids.len() <= 9), "{blocks:?}");
}

#[test]
fn key_that_is_missing_is_named() {
    let keys = vec!["nope".to_owned()];
    let partitioner = Partitioner {
        partitions: 2,
        by: PartitionBy::Hash { keys },
    };
    let mut cutter = PartitionCutter::new(&partitioner, 0, 1, Vec::new());
    let failure = cutter
        .push(rows(0, 1))
        .expect_err("there is no such column");
    assert!(failure.message.contains("'nope'"), "{failure}");
}
