//! Queries whose stages run together, compared with the same stages in workers of their own.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::executor::ExecutionOptions;
use crate::executor::pool::InProcessPool;
use crate::plan::Dataset;
use crate::sinks::{ParquetOutput, Sink};
use crate::stats::ExecutionStats;
use crate::testing::{test_map, write_file};
use crate::{ExecuteError, Execution};

const MIB: u64 = 1 << 20;

fn small(budget_bytes: u64) -> ExecutionOptions {
    ExecutionOptions {
        budget_bytes: Some(budget_bytes),
        ..ExecutionOptions::default()
    }
}

fn run_on(
    pool: InProcessPool,
    dataset: &Dataset,
    options: &ExecutionOptions,
) -> Result<(Vec<String>, ExecutionStats), ExecuteError> {
    let execution = Execution::start(dataset, &Sink::Consumer, Box::new(pool), options)?;
    let batches = execution.collect().map_err(ExecuteError::Failed)?;
    Ok((texts(&batches), execution.stats()))
}

/// Every row as text.
fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter();
        let columns: Vec<ArrayFormatter<'_>> = columns
            .map(|column| ArrayFormatter::try_new(column, &options).expect("can be shown"))
            .collect();
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|column| column.value(row).to_string());
            rows.push(values.collect::<Vec<_>>().join(" "));
        }
    }
    rows
}

/// Stages together on one node, and apart on two: the same rows.
fn assert_alike(dataset: &Dataset, options: &ExecutionOptions, is_sorted: bool) -> ExecutionStats {
    let (mut together, stats) = run_on(InProcessPool::of_cpus(3), dataset, options).expect("runs");
    assert_eq!(stats.stages.len(), 1, "all stages run in one worker");
    let (mut apart, others) =
        run_on(InProcessPool::of_nodes(2, 2), dataset, options).expect("runs");
    assert!(
        others.stages.len() > 1,
        "what runs together may lie on the only node alone"
    );
    if !is_sorted {
        together.sort();
        apart.sort();
    }
    assert_eq!(together.len(), apart.len());
    assert_eq!(together, apart);
    stats
}

fn numbers(rows: u64) -> Vec<(String, Dataset)> {
    let range = |rows| Dataset::range(rows).expect("plans");
    let half = range(rows / 2);
    vec![
        ("a".to_owned(), range(rows)),
        ("b".to_owned(), half.clone()),
        ("c".to_owned(), range(7)),
    ]
}

fn sql(query: &str, rows: u64) -> Dataset {
    Dataset::sql(query, &numbers(rows)).expect("plans")
}

#[test]
fn stages_that_run_together_give_what_they_give_apart() {
    let joins = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];
    let joins = joins.map(|join| {
        format!(
            "SELECT a.id AS x, b.id AS y FROM a {join} b ON a.id = b.id * 3 AND a.id % 5 > b.id % 3"
        )
    });
    let others = [
        "SELECT id FROM a WHERE id % 3 IN (SELECT id % 2 FROM b)",
        "SELECT id FROM a WHERE id NOT IN (SELECT id * 2 FROM b)",
        "SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.id = a.id) OR id > 900",
        "SELECT id % 10 AS k, count(*) AS n, sum(id) AS s, count(DISTINCT id % 7) AS d FROM a GROUP BY id % 10",
        "SELECT count(*) AS n, max(id) AS m FROM a WHERE id < 0",
        "SELECT a.id, c.id AS c FROM a, c WHERE a.id % 7 = c.id AND a.id > (SELECT avg(id) FROM b)",
        "SELECT a.id FROM a JOIN b ON a.id = b.id JOIN c ON b.id = c.id WHERE c.id IS NULL OR a.id < 3",
        "SELECT id FROM a UNION SELECT id * 2 FROM b",
        "SELECT x, count(*) AS n FROM (SELECT id % 4 AS x FROM a UNION ALL SELECT id % 3 FROM b) t GROUP BY x",
    ];
    for query in joins.iter().map(String::as_str).chain(others) {
        let dataset = sql(query, 1000);
        assert_alike(&dataset, &ExecutionOptions::default(), false);
    }
    for query in [
        "SELECT a.id FROM a JOIN b ON a.id = b.id ORDER BY a.id % 3 DESC, a.id",
        "SELECT id % 50 AS k, count(*) AS n FROM a GROUP BY id % 50 ORDER BY k LIMIT 7",
        "SELECT id FROM a ORDER BY id DESC LIMIT 5 OFFSET 3",
    ] {
        assert_alike(&sql(query, 1000), &ExecutionOptions::default(), true);
    }
}

#[test]
fn windows_that_run_together_give_what_they_give_apart() {
    for columns in [
        "row_number() OVER (PARTITION BY id % 7 ORDER BY id DESC) AS n, count(*) OVER (PARTITION BY id % 7) AS all",
        "sum(id) OVER (ORDER BY id ROWS BETWEEN 3 PRECEDING AND 1 FOLLOWING) AS s, rank() OVER (ORDER BY id % 10) AS r",
        "lag(id, 2, -1) OVER (PARTITION BY id % 3, id % 5 ORDER BY id) AS before, ntile(4) OVER (ORDER BY id) AS part",
        "count(*) OVER () AS n, max(id) OVER (PARTITION BY id % 4) - id AS below",
        "sum(id) FILTER (WHERE id % 2 = 0) OVER (PARTITION BY id % 9 ORDER BY id % 50) AS even",
        "avg(id) OVER (PARTITION BY id % 3 ORDER BY id RANGE BETWEEN 10 PRECEDING AND 10 FOLLOWING) AS near",
        "count(DISTINCT id % 5) OVER (PARTITION BY id % 11) AS d, last_value(id) OVER (ORDER BY id) AS l",
    ] {
        let query = format!("SELECT id, {columns} FROM a");
        assert_alike(&sql(&query, 1000), &ExecutionOptions::default(), false);
    }
    for query in [
        "SELECT id FROM a QUALIFY row_number() OVER (PARTITION BY id % 5 ORDER BY id) <= 2",
        "SELECT k, n, rank() OVER (ORDER BY n DESC, k) AS r FROM (SELECT id % 9 AS k, count(*) AS n FROM a GROUP BY id % 9) t",
        "SELECT a.id, b.n FROM a JOIN (SELECT id, row_number() OVER (ORDER BY id DESC) AS n FROM b) b ON a.id = b.id",
    ] {
        assert_alike(&sql(query, 1000), &ExecutionOptions::default(), false);
    }
}

/// Neither side of a join, nor the groups, nor what is sorted fit into their part of the memory.
#[test]
fn what_has_no_room_is_spilled_and_nothing_is_lost() {
    let query = "SELECT a.id AS x, b.id + 1 AS y FROM a LEFT JOIN b ON a.id = b.id ORDER BY x DESC";
    assert_alike(&sql(query, 200_000), &small(8 * MIB), true);
    let query = "SELECT id * 7 % 150000 AS k, count(*) AS n FROM a GROUP BY id * 7 % 150000";
    assert_alike(&sql(query, 200_000), &small(8 * MIB), false);
    let query = "SELECT id, count(*) OVER (PARTITION BY id % 1000) AS n, row_number() OVER (ORDER BY id DESC) AS r FROM a";
    assert_alike(&sql(query, 200_000), &small(8 * MIB), false);
    // On two threads.
    let query =
        "SELECT a.id % 9 AS k, count(*) AS n FROM a JOIN b ON a.id = b.id GROUP BY a.id % 9";
    assert_alike(&sql(query, 1_000_000), &small(64 * MIB), false);
}

#[test]
fn what_would_read_more_than_fits_stays_in_stages_of_its_own() {
    let dataset = sql(
        "SELECT id % 3 AS k, count(*) AS n FROM a GROUP BY id % 3",
        2_000_000,
    );
    let (rows, stats) = run_on(InProcessPool::of_cpus(2), &dataset, &small(8 * MIB)).expect("runs");
    assert_eq!((rows.len(), stats.stages.len()), (3, 2));
}

#[test]
fn function_after_a_query_has_its_own_stage_and_files_are_written_by_several_workers() {
    let joined = sql("SELECT a.id FROM a JOIN b ON a.id = b.id", 500);
    let mapped = joined.map(test_map("same")).expect("maps");
    let (rows, stats) = run_on(
        InProcessPool::of_cpus(2),
        &mapped,
        &ExecutionOptions::default(),
    )
    .expect("runs");
    let names: Vec<&str> = stats
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect();
    assert_eq!((rows.len(), names.len(), names[1]), (250, 2, "same"));

    let folder = tempfile::tempdir().expect("a temporary folder");
    let sink = Sink::Parquet(ParquetOutput::new(
        folder.path().display().to_string(),
        "out",
    ));
    let pool = Box::new(InProcessPool::of_cpus(2));
    let execution =
        Execution::start(&joined, &sink, pool, &ExecutionOptions::default()).expect("starts");
    execution.wait().expect("runs");
    let stats = execution.stats();
    assert_eq!((stats.rows_sunk(0), stats.stages.len()), (250, 2));
    assert_eq!(stats.stages[1].name, "Write");
}

#[test]
fn steps_count_their_rows_and_reading_its_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_file(&folder.path().join("a.parquet"), 0, 2000, 500);
    let paths = [folder.path().display().to_string()];
    let tables = [(
        "t".to_owned(),
        Dataset::read_parquet(&paths).expect("reads footers"),
    )];
    let query = "SELECT id % 2 AS k, count(*) AS n FROM t WHERE id % 4 < 2 GROUP BY id % 2";
    let dataset = Dataset::sql(query, &tables).expect("plans");
    let stats = assert_alike(&dataset, &ExecutionOptions::default(), false);
    let rows = |name: &str| {
        let operators = &stats.stages[0].operators;
        let found = operators.iter().find(|operator| operator.name == name);
        found.map(|operator| operator.rows_out)
    };
    assert_eq!((rows("Read"), rows("Aggregate")), (Some(1000), Some(2)));
    assert!(stats.bytes_read > 0);
}

#[test]
fn file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("a.parquet");
    write_file(&path, 0, 2000, 500);
    let tables = [(
        "t".to_owned(),
        Dataset::read_parquet(&[path.display().to_string()]).expect("reads footers"),
    )];
    let query = "SELECT text, count(*) AS n FROM t GROUP BY text";
    let dataset = Dataset::sql(query, &tables).expect("plans");
    std::fs::remove_file(&path).expect("removes it");
    let error = run_on(
        InProcessPool::of_cpus(2),
        &dataset,
        &ExecutionOptions::default(),
    );
    let text = error.expect_err("fails").to_string();
    assert!(
        text.contains("a.parquet") && text.contains("No such file"),
        "{text}"
    );
}
