//! Sorts of many rows run by ranges on several nodes; the rows are those of one sort.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::pool::InProcessPool;
use super::{Execution, ExecutionOptions};
use crate::plan::Dataset;
use crate::sinks::Sink;
use crate::stats::ExecutionStats;
use crate::testing::{ids, sorted_downwards, test_map};

const ROWS: u64 = 200_000;

/// Half of it is for sorting.
const BUDGET_BYTES: u64 = 1 << 20;

fn run_on(pool: InProcessPool, dataset: &Dataset) -> (Vec<RecordBatch>, ExecutionStats) {
    let options = ExecutionOptions {
        budget_bytes: Some(BUDGET_BYTES),
        block_bytes: Some(256 << 10),
        ..ExecutionOptions::default()
    };
    let execution = Execution::start(dataset, &Sink::Consumer, Box::new(pool), &options);
    let execution = execution.expect("starts");
    (execution.collect().expect("runs"), execution.stats())
}

fn run(dataset: &Dataset) -> (Vec<i64>, ExecutionStats) {
    let (batches, stats) = run_on(InProcessPool::of_nodes(2, 2), dataset);
    (ids(&batches), stats)
}

fn names(stats: &ExecutionStats) -> Vec<&str> {
    stats.stages.iter().map(|one| one.name.as_str()).collect()
}

fn sql(query: &str) -> Dataset {
    let numbers = Dataset::range(ROWS).expect("plans");
    Dataset::sql(query, &[("t".to_owned(), numbers)]).expect("plans")
}

fn downwards() -> Vec<i64> {
    (0..ROWS.cast_signed()).rev().collect()
}

#[test]
fn rows_of_several_nodes_come_in_one_order() {
    let numbers = Dataset::range(ROWS).expect("plans");
    let (rows, stats) = run(&sorted_downwards(
        &numbers.map(test_map("same")).expect("plans"),
    ));
    assert_eq!(rows, downwards());
    assert_eq!(
        names(&stats),
        [
            "Read->same",
            "Sort(sample)",
            "Sort(bounds)",
            "Range",
            "Sort"
        ]
    );
    assert!(stats.stages[4].inputs.0 > 1, "by one worker alone");
}

#[test]
fn one_node_has_one_memory_and_one_sort() {
    let mapped = Dataset::range(ROWS).expect("plans");
    let mapped = sorted_downwards(&mapped.map(test_map("same")).expect("plans"));
    let (batches, stats) = run_on(InProcessPool::of_cpus(2), &mapped);
    assert_eq!(ids(&batches), downwards());
    assert_eq!(names(&stats), ["Read->same", "Sort"]);
}

#[test]
fn nearly_all_rows_with_one_key_are_sorted_by_ranges_all_the_same() {
    // What is the same for all of a key is told apart by the second one.
    let query = "SELECT id FROM t ORDER BY CASE WHEN id < 190000 THEN 1 ELSE id END DESC, id";
    let (rows, stats) = run(&sql(query));
    let expected: Vec<i64> = (190_000..200_000).rev().chain(0..190_000).collect();
    assert_eq!(rows, expected);
    assert!(stats.stages.iter().any(|one| one.name == "Range"));
    let one_key =
        "SELECT id, id + 1 AS a, id + 2 AS b, id + 3 AS c, id >= 0 AS k FROM t ORDER BY k";
    let (mut rows, stats) = run(&sql(one_key));
    rows.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(rows, downwards());
    let last = stats.stages.last().expect("stages");
    assert!(last.inputs.0 > 1, "its ranges are spread");
}

#[test]
fn first_rows_and_skipped_rows_are_those_of_the_whole_order() {
    let (rows, _) = run(&sql("SELECT id FROM t ORDER BY id DESC LIMIT 20000"));
    assert_eq!(rows, downwards()[..20_000]);
    let (rows, _) = run(&sql("SELECT id FROM t ORDER BY id DESC OFFSET 199000"));
    assert_eq!(rows, downwards()[199_000..]);
    let (rows, _) = run(&sql(
        "SELECT id FROM (SELECT id FROM t ORDER BY id DESC LIMIT 30000) ORDER BY id LIMIT 15000",
    ));
    assert_eq!(rows, (170_000..185_000).collect::<Vec<_>>());
}

#[test]
fn rows_behind_the_order_are_counted_and_put_side_by_side_in_it() {
    let numbers = Dataset::range(ROWS).expect("plans");
    let renamed = numbers.rename(&[("id".to_owned(), "other".to_owned())]);
    let sides = sorted_downwards(&numbers).zip(&[&renamed.expect("plans")]);
    let pool = InProcessPool::of_nodes(2, 2);
    let (batches, _) = run_on(pool, &sides.expect("plans"));
    let mut rows = 0;
    for batch in &batches {
        let id = batch.column(0).as_primitive::<Int64Type>();
        let other = batch.column(1).as_primitive::<Int64Type>();
        for (id, other) in id.values().iter().zip(other.values()) {
            assert_eq!(id + other, ROWS.cast_signed() - 1);
            rows += 1;
        }
    }
    assert_eq!(rows, ROWS);
}

#[test]
fn nothing_is_sorted_as_anything() {
    let none = sql("SELECT id FROM t WHERE id < 0 ORDER BY id");
    assert_eq!(run(&none).0, Vec::<i64>::new());
}
