//! A stage worker called directly, without a cluster.

use std::path::Path;

use arrow::array::{Int64Array, RecordBatch};

use super::*;
use crate::Execution;
use crate::executor::ExecutionOptions;
use crate::executor::pool::InProcessPool;
use crate::plan::{Dataset, Kept, MapSpec, Produces};
use crate::sinks::{ParquetOutput, ParquetWriting, Sink};
use crate::testing::{ids, rows, test_map, whole, write_file};

fn read(folder: &Path) -> Dataset {
    Dataset::read_parquet(&[folder.display().to_string()]).expect("reads footers")
}

/// Runs on two threads and gives all rows and the bytes that were read.
fn run(dataset: &Dataset) -> (Vec<RecordBatch>, u64) {
    let execution = Execution::start(
        dataset,
        &Sink::Consumer,
        Box::new(InProcessPool::of_cpus(2)),
        &ExecutionOptions::default(),
    )
    .expect("starts");
    let batches = execution.collect().expect("runs");
    (batches, execution.stats().bytes_read)
}

fn fail(dataset: &Dataset) -> TaskFailure {
    let pool = Box::new(InProcessPool::of_cpus(2));
    let options = ExecutionOptions::default();
    let execution = Execution::start(dataset, &Sink::Consumer, pool, &options).expect("starts");
    execution.collect().expect_err("fails")
}

fn names(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// Files whose names begin with `out_`.
fn output(folder: &Path) -> ParquetOutput {
    ParquetOutput::new(folder.display().to_string(), "out")
}

/// Two files of 2000 rows in row groups of 500: about 4 MB.
fn two_files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_file(&folder.path().join("a.parquet"), 0, 2000, 500);
    write_file(&folder.path().join("b.parquet"), 2000, 2000, 500);
    folder
}

const ALL_BYTES: u64 = 4_000_000;

#[test]
fn rows_come_as_they_were_written_and_in_order() {
    let folder = two_files();
    let (batches, bytes) = run(&read(folder.path()));
    assert_eq!(whole(&batches), rows(0, 4000));
    assert!(bytes >= ALL_BYTES, "{bytes}");
}

/// PLAN-1 (projection-prunes), in bytes read from storage.
#[test]
fn columns_that_nobody_wants_are_not_read() {
    let folder = two_files();
    let (batches, bytes) = run(&read(folder.path())
        .select(&names(&["id"]))
        .expect("selects"));
    assert_eq!(ids(&batches), (0..4000).collect::<Vec<_>>());
    assert!(bytes < ALL_BYTES / 10, "{bytes}");
}

/// PLAN-2 (predicate-passes-untouched), in bytes read from storage.
#[test]
fn row_groups_and_pages_without_matches_are_not_read() {
    let folder = two_files();
    let filtered = read(folder.path())
        .filter("id >= 2600 AND id < 2700")
        .expect("filters");
    let (batches, bytes) = run(&filtered);
    assert_eq!(ids(&batches), (2600..2700).collect::<Vec<_>>());
    // One row group of eight holds the rows, and the page index leaves a fifth of it.
    assert!(bytes < ALL_BYTES / 10, "{bytes}");
}

#[test]
fn predicate_behind_a_map_that_lets_its_column_pass_saves_reading_too() {
    let folder = two_files();
    let spec = MapSpec {
        reads: Some(names(&["text"])),
        keeps: Kept::Named(names(&["id"])),
        keeps_rows: true,
        ..test_map("text length")
    };
    let dataset = read(folder.path())
        .map(spec)
        .expect("maps")
        .filter("id < 10")
        .expect("filters");
    let (batches, bytes) = run(&dataset);
    assert_eq!(ids(&batches), (0..10).collect::<Vec<_>>());
    let lengths = whole(&batches);
    let lengths = lengths.column_by_name("length").expect("was made");
    assert_eq!(
        lengths
            .as_any()
            .downcast_ref::<Int64Array>()
            .expect("integers")
            .value(9),
        5
    );
    assert!(bytes < ALL_BYTES / 10, "{bytes}");
}

/// PLAN-3 (limit-passes-row-preserving), in bytes read from storage.
#[test]
fn limit_reads_only_the_first_rows() {
    let folder = two_files();
    let (batches, bytes) = run(&read(folder.path()).limit(7).expect("limits"));
    assert_eq!(ids(&batches), (0..7).collect::<Vec<_>>());
    assert!(bytes < ALL_BYTES / 4, "{bytes}");
}

#[test]
fn filters_and_limits_behind_unknown_functions_work_too() {
    let folder = two_files();
    let dataset = read(folder.path()).map(test_map("same")).expect("maps");
    let dataset = dataset
        .filter("id % 10 = 3 AND text LIKE 'row%'")
        .expect("filters");
    let dataset = dataset
        .rename(&[("id".to_owned(), "key".to_owned())])
        .expect("renames");
    let dataset = dataset
        .select(&names(&["key"]))
        .expect("selects")
        .limit(3)
        .expect("limits");
    let (batches, _) = run(&dataset
        .rename(&[("key".to_owned(), "id".to_owned())])
        .expect("renames"));
    assert_eq!(ids(&batches), [3, 13, 23]);
}

#[test]
fn batches_have_the_size_that_was_asked_for() {
    let folder = two_files();
    let spec = MapSpec {
        batch_rows: Some(64),
        ..test_map("lengths")
    };
    let (batches, _) = run(&read(folder.path()).map(spec).expect("maps"));
    let batch = whole(&batches);
    let lengths = batch
        .column(0)
        .as_any()
        .downcast_ref::<Int64Array>()
        .expect("integers");
    assert_eq!(lengths.values().iter().sum::<i64>(), 4000);
    let full = lengths.values().iter().filter(|&&rows| rows == 64).count();
    assert!(full >= 60, "{lengths:?}");
}

#[test]
fn generator_and_mask_give_their_rows() {
    let twice = Dataset::range(10)
        .expect("plans")
        .map(test_map("twice"))
        .expect("maps");
    assert_eq!(
        run(&twice)
            .0
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        20
    );
    let mask = MapSpec {
        produces: Produces::Mask,
        ..test_map("even")
    };
    let even = Dataset::range(10).expect("plans").map(mask).expect("maps");
    assert_eq!(ids(&run(&even).0), [0, 2, 4, 6, 8]);
}

#[test]
fn function_that_loses_a_row_beside_kept_columns_is_told() {
    let spec = MapSpec {
        keeps: Kept::Named(names(&["id"])),
        ..test_map("drop one")
    };
    let failure = fail(&Dataset::range(10).expect("plans").map(spec).expect("maps"));
    assert_eq!(failure.code, ErrorCode::InvalidArgument);
    assert!(failure.message.contains("one row for one row"), "{failure}");
}

#[test]
fn failing_function_and_constructor_end_the_run_with_their_message() {
    let failing = Dataset::range(10)
        .expect("plans")
        .map(test_map("fail at 7"))
        .expect("maps");
    assert_eq!(fail(&failing).message, "ValueError: seven");
    let broken = Dataset::range(10)
        .expect("plans")
        .map(test_map("broken constructor"));
    assert_eq!(
        fail(&broken.expect("maps")).message,
        "constructor: no model"
    );
}

/// A panic in a worker's thread is an answer: without one the driver would wait for ever.
#[test]
fn panic_in_a_worker_ends_the_run_with_its_message() {
    let folder = two_files();
    let dataset = read(folder.path())
        .map(test_map("panic at 7"))
        .expect("maps");
    let failure = fail(&dataset);
    assert_eq!(failure.code, ErrorCode::Internal);
    assert!(failure.message.contains("panicked: seven"), "{failure}");
}

#[test]
fn late_step_over_a_missing_column_names_the_columns_there_are() {
    let dataset = Dataset::range(10)
        .expect("plans")
        .map(test_map("same"))
        .expect("maps");
    let failure = fail(&dataset.select(&names(&["nope"])).expect("may be there"));
    assert!(
        failure.message.contains("'nope'") && failure.message.contains("'id'"),
        "{failure}"
    );
}

#[test]
fn damaged_file_is_named() {
    let folder = two_files();
    let path = folder.path().join("b.parquet");
    let dataset = read(folder.path());
    let mut bytes = std::fs::read(&path).expect("reads");
    let middle = bytes.len() / 2;
    bytes[1000..middle].fill(0xff);
    std::fs::write(&path, bytes).expect("writes");
    let failure = fail(&dataset);
    assert!(failure.message.contains("b.parquet"), "{failure}");
    std::fs::write(&path, b"not parquet at all").expect("writes");
    let error = Dataset::read_parquet(&[path.display().to_string()]).expect_err("is no Parquet");
    assert!(
        matches!(error, crate::PlanError::InvalidParquet { .. }),
        "{error}"
    );
}

#[test]
fn two_stages_keep_order_under_a_tiny_budget() {
    let folder = two_files();
    let first = test_map("same");
    let compute = crate::plan::Compute::actors().with_workers(1, Some(2));
    let second = MapSpec {
        compute,
        batch_rows: Some(100),
        ..test_map("same")
    };
    let compute = crate::plan::Compute::tasks().with_workers(1, Some(1));
    let dataset = read(folder.path())
        .map(MapSpec { compute, ..first })
        .expect("maps");
    let dataset = dataset.map(second).expect("maps");
    let options = ExecutionOptions {
        budget_bytes: Some(200_000),
        block_bytes: Some(50_000),
        ..ExecutionOptions::default()
    };
    let pool = Box::new(InProcessPool::of_cpus(4));
    let execution = Execution::start(&dataset, &Sink::Consumer, pool, &options).expect("starts");
    assert_eq!(
        ids(&execution.collect().expect("runs")),
        (0..4000).collect::<Vec<_>>()
    );
    let stats = execution.stats();
    assert_eq!(stats.stages.len(), 2);
    // A block may be cut up to twice as large as asked for; 4 workers and a bit of framing.
    assert!(
        stats.most_block_bytes <= 200_000 + 3 * 110_000,
        "{}",
        stats.most_block_bytes
    );
}

#[test]
fn written_files_hold_all_rows_and_nothing_is_left_unfinished() {
    let source = two_files();
    let target = tempfile::tempdir().expect("a temporary folder");
    let sink = Sink::Parquet(ParquetOutput {
        writing: ParquetWriting {
            compression: "zstd".to_owned(),
            row_group_rows: Some(300),
            ..ParquetWriting::default()
        },
        ..output(target.path())
    });
    let dataset = read(source.path()).map(test_map("same")).expect("maps");
    let pool = Box::new(InProcessPool::of_cpus(2));
    let execution =
        Execution::start(&dataset, &sink, pool, &ExecutionOptions::default()).expect("starts");
    execution.wait().expect("runs");
    assert_eq!(execution.stats().rows_sunk(0), 4000);
    assert_eq!(whole(&run(&read(target.path())).0), rows(0, 4000));
    let files: Vec<String> = std::fs::read_dir(target.path())
        .expect("lists")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert!(
        files.iter().all(|name| name.starts_with("out_")),
        "{files:?}"
    );
    assert_eq!(files.len(), execution.stats().files.len());
}

/// STG-1 (nothing-half-done).
#[test]
fn failed_write_leaves_no_file_of_its_input() {
    let target = tempfile::tempdir().expect("a temporary folder");
    let sink = Sink::Parquet(output(target.path()));
    let spec = MapSpec {
        batch_rows: Some(4),
        ..test_map("fail at 7")
    };
    let dataset = Dataset::range(8).expect("plans").map(spec).expect("maps");
    let pool = Box::new(InProcessPool::of_cpus(1));
    let execution =
        Execution::start(&dataset, &sink, pool, &ExecutionOptions::default()).expect("starts");
    execution.wait().expect_err("fails");
    let files = std::fs::read_dir(target.path()).expect("lists").count();
    assert!(
        files <= 1,
        "only the input without the 7 may have been written"
    );
}

#[test]
fn counting_reads_no_columns() {
    let folder = two_files();
    let dataset = read(folder.path()).filter("id >= 3999").expect("filters");
    let pool = Box::new(InProcessPool::of_cpus(2));
    let execution = Execution::start(&dataset, &Sink::Count, pool, &ExecutionOptions::default())
        .expect("starts");
    execution.wait().expect("runs");
    assert_eq!(execution.stats().rows_sunk(0), 1);
    assert!(
        execution.stats().bytes_read < ALL_BYTES / 5,
        "{}",
        execution.stats().bytes_read
    );
}

/// STG-2 (same-cut-every-time).
#[test]
fn repeated_input_leaves_out_what_was_delivered() {
    let range = crate::sources::RangeTable::new(1000);
    let wanted = crate::sources::Wanted {
        columns: &[0],
        filters: &[],
        batch_rows: None,
        room: crate::sources::ReadRoom::OF_TESTS,
    };
    let task = StageTask {
        name: "Read".to_owned(),
        source: sources::settings_of(&range, &wanted).expect("is registered"),
        steps: Vec::new(),
        sink: None,
        block_bytes: 800,
        growing_inputs: 0,
        row_limit: None,
        prefetch_batches: 0,
        memory_bytes: 1 << 26,
        even_rows: 0,
        partitioner: None,
        group: None,
    };
    let spec = crate::wire::encode_task(&task).expect("has no expressions");
    let worker = || StageWorker::new(spec.clone(), Vec::new()).expect("understands it");
    let options = crate::sources::SplitOptions {
        workers: 1,
        batch_rows: None,
        window_rows: 0,
        work: crate::sources::RowWork::Reading,
        parts: Some(1),
        is_spread: false,
    };
    let source = sources::of_table(&range).expect("is registered");
    let splits = source.splits(u64::MAX, options);
    let input = InputSpec {
        position: splits[0].position.clone(),
        rows: splits[0].rows,
        ..InputSpec::default()
    };
    let all = pull_all(&mut worker(), input.clone()).expect("runs");
    let first: u64 = all[..3].iter().map(|(rows, _)| rows).sum();
    let again = InputSpec {
        skip_blocks: 3,
        skip_rows: first,
        ..input.clone()
    };
    let rest = pull_all(&mut worker(), again.clone()).expect("runs");
    assert_eq!(rest, all[3..]);
    let other = InputSpec {
        skip_rows: first + 1,
        ..again
    };
    let failure = pull_all(&mut worker(), other).expect_err("rows differ");
    assert!(failure.message.contains("other rows"), "{failure}");
}

fn pull_all(worker: &mut StageWorker, input: InputSpec) -> Result<Vec<(u64, Bytes)>, TaskFailure> {
    worker.start(input, Vec::new())?;
    let mut blocks = Vec::new();
    loop {
        let (report, block) = worker.pull()?;
        blocks.extend(block.map(|block| (report.rows, block.into())));
        if report.is_last {
            return Ok(blocks);
        }
    }
}
