//! A stage worker on both sides of an exchange, called directly.

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::Schema;

use super::*;
use crate::block;
use crate::graph::{Fragment, PartitionBy, Partitioner, RangeKey, Sort};
use crate::sources::blocks::{BlockPart, handed_on, position_of};
use crate::testing::{ids, rows};
use crate::wire::encode_task;
use crate::wire::spec::FeedSize;

fn worker(partitioner: Option<Partitioner>) -> StageWorker {
    worker_of(Vec::new(), partitioner)
}

fn worker_of(steps: Vec<Operator>, partitioner: Option<Partitioner>) -> StageWorker {
    let task = StageTask {
        name: "exchange".to_owned(),
        source: handed_on(),
        steps,
        sink: None,
        block_bytes: 20_000,
        growing_inputs: 0,
        memory_bytes: 1 << 20,
        even_rows: 0,
        row_limit: None,
        prefetch_batches: 0,
        partitioner,
        group: None,
    };
    let spec = encode_task(&task).expect("has no expressions");
    StageWorker::new(spec, Vec::new()).expect("understands it")
}

/// An input of these blocks of each feed.
fn input(feeds: &[&[RecordBatch]]) -> (InputSpec, Vec<InputBlock>) {
    let all = || feeds.iter().copied().flatten();
    let part = |batch: &RecordBatch| BlockPart {
        first_row: 0,
        rows: batch.num_rows() as u64,
    };
    let stream = |batch: &RecordBatch| {
        block::encode(&batch.schema(), std::slice::from_ref(batch)).expect("encodes")
    };
    let spec = InputSpec {
        position: position_of(all().map(part)),
        feed_blocks: feeds.iter().map(|feed| feed.len() as u32).collect(),
        ..InputSpec::default()
    };
    (spec, all().map(stream).map(InputBlock::Here).collect())
}

/// All blocks: partition and rows.
fn run(
    mut worker: StageWorker,
    (spec, blocks): (InputSpec, Vec<InputBlock>),
) -> Vec<(u32, Vec<i64>)> {
    worker.start(spec, blocks).expect("starts");
    let mut all = Vec::new();
    loop {
        let (report, block) = worker.pull().expect("goes on");
        if let Some(stream) = block {
            let (_, batches) = block::decode(stream).expect("decodes");
            all.push((report.partition, ids(&batches)));
        }
        if report.is_last {
            return all;
        }
    }
}

fn by_chance() -> Option<Partitioner> {
    let by = PartitionBy::Random { seed: 7 };
    Some(Partitioner { partitions: 3, by })
}

#[test]
fn blocks_are_of_one_partition_each_and_say_which() {
    let run_from = |first| run(worker(by_chance()), input(&[&[rows(first, 30)]]));
    let blocks = run_from(0);
    let partitions: Vec<u32> = blocks.iter().map(|(partition, _)| *partition).collect();
    assert_eq!(partitions, [0, 1, 2]);
    assert!(blocks.iter().all(|(_, ids)| ids.is_sorted()));
    let mut all: Vec<i64> = blocks.iter().flat_map(|(_, ids)| ids.clone()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..30).collect::<Vec<i64>>());
    // A row finds its partition by its place.
    let later = run_from(1000).into_iter();
    let less = |ids: Vec<i64>| ids.into_iter().map(|id| id - 1000).collect();
    let later: Vec<(u32, Vec<i64>)> = later.map(|(at, ids)| (at, less(ids))).collect();
    assert_eq!(later, blocks);
}

/// What is lost of an input is made again by its numbers, and nothing beside it. STG-2 (same-cut-every-time).
#[test]
fn only_the_blocks_that_are_wanted_are_sent_again() {
    let (spec, blocks) = input(&[&[rows(0, 300)]]);
    let all = run(worker(by_chance()), (spec.clone(), blocks.clone()));
    assert!(all.len() > 6, "{}", all.len());
    let before = |number: usize| all[..number].iter().map(|(_, ids)| ids.len() as u64).sum();
    let again = InputSpec {
        skip_blocks: 2,
        skip_rows: before(2),
        wanted_blocks: vec![2, 5],
        ..spec
    };
    let made = run(worker(by_chance()), (again, blocks));
    assert_eq!(made, [all[2].clone(), all[5].clone()]);
}

#[test]
fn bounds_come_along_a_feed_of_their_own_and_are_no_rows() {
    let key = RangeKey {
        column: "id".to_owned(),
        is_descending: false,
        has_nulls_first: false,
    };
    let by = PartitionBy::Range {
        keys: vec![key],
        bounds_feed: 1,
    };
    let bounds = Int64Array::from(vec![3]);
    let bounds = RecordBatch::try_from_iter([("id", Arc::new(bounds) as _)]);
    let bounds = [bounds.expect("one column")];
    let two = Some(Partitioner { partitions: 2, by });
    let blocks = run(worker(two), input(&[&[rows(4, 2), rows(2, 2)], &bounds]));
    assert_eq!(blocks, [(0, vec![2, 3]), (1, vec![4, 5])]);
}

#[test]
fn feeds_are_read_in_the_order_of_the_edges() {
    let blocks = run(worker(None), input(&[&[rows(4, 2)], &[], &[rows(0, 1)]]));
    assert_eq!(blocks, [(0, vec![4, 5, 0])]);
}

#[test]
fn columns_of_an_input_without_rows_are_those_that_others_told() {
    let (spec, blocks) = input(&[&[], &[]]);
    let told = block::encode_schema(&crate::testing::schema()).expect("encodes");
    let spec = InputSpec {
        feed_schemas: vec![Bytes::new(), told.clone()],
        ..spec
    };
    let mut worker = worker(None);
    worker.start(spec, blocks).expect("starts");
    let (report, block) = worker.pull().expect("goes on");
    assert!(report.is_last && block.is_none());
    assert_eq!(report.schema, told);
}

/// A sort of rows that are much goes by the columns that were told: it must not read all of them before it begins.
#[test]
fn large_input_is_sorted_with_the_columns_that_were_told() {
    let sorted = |feed_schemas: Vec<Bytes>, is_large: bool| {
        let key = RangeKey {
            column: "id".to_owned(),
            is_descending: false,
            has_nulls_first: false,
        };
        let keys = vec![key];
        let sort = Operator::Relational(Fragment::Sort(Sort { keys, limit: None }));
        let (spec, blocks) = input(&[&[rows(4, 2), rows(0, 3)]]);
        let size = FeedSize {
            rows: 5,
            bytes: 1 << 30,
        };
        let spec = InputSpec {
            feed_schemas,
            feed_sizes: if is_large { vec![size] } else { Vec::new() },
            ..spec
        };
        let mut worker = worker_of(vec![sort], None);
        worker.start(spec, blocks)?;
        let (_, block) = worker.pull()?;
        let (_, batches) = block::decode(block.expect("is one")).expect("decodes");
        Ok::<Vec<i64>, TaskFailure>(ids(&batches))
    };
    let told = |schema: Arc<Schema>| vec![block::encode_schema(&schema).expect("encodes")];
    let right = told(crate::testing::schema());
    assert_eq!(sorted(right, true), Ok(vec![0, 1, 2, 4, 5]));
    assert_eq!(sorted(Vec::new(), true), Ok(vec![0, 1, 2, 4, 5]));
    let wrong = told(Arc::new(Schema::empty()));
    let failure = sorted(wrong.clone(), true).expect_err("no column is known");
    assert!(failure.message.contains("id"), "{failure}");
    assert_eq!(
        sorted(wrong, false),
        Ok(vec![0, 1, 2, 4, 5]),
        "what is at hand is looked at"
    );
}

#[test]
fn input_with_more_blocks_than_its_feeds_have_is_a_failure() {
    let (mut spec, blocks) = input(&[&[rows(0, 1)], &[rows(1, 1)]]);
    spec.feed_blocks = vec![1, 0];
    let failure = worker(None)
        .start(spec, blocks)
        .expect_err("one is too many");
    assert!(
        failure.message.contains("more blocks than its feeds"),
        "{failure}"
    );
}
