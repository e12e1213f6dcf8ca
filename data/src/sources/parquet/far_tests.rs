//! Files that are not local.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use prost::Message as _;

use crate::Execution;
use crate::executor::ExecutionOptions;
use crate::executor::pool::InProcessPool;
use crate::graph::{JobOutput, plan_job};
use crate::operators::stream::BatchStream;
use crate::plan::Dataset;
use crate::sinks::Sink;
use crate::sources::parquet::read::{FileReader, Files};
use crate::sources::parquet::spec::ScanSpec;
use crate::sources::parquet::stream::{FileStream, WantedRows};
use crate::sources::{
    Opened, ReadRoom, RowWork, SourceReader as _, SplitOptions, Wanted, calls_python, decode,
    of_table, settings_of,
};
use crate::testing::{FAR_IN_TWOS, far_files, ids, write_file};

fn read(dataset: &Dataset) -> Result<Vec<i64>, TaskFailure> {
    let output = JobOutput {
        parts: Some(2),
        ..JobOutput::new(dataset.clone(), Sink::Consumer)
    };
    let options = ExecutionOptions {
        keep_order: true,
        ..ExecutionOptions::default()
    };
    let pool = Box::new(InProcessPool::of_cpus(1));
    let execution = Execution::start_all(&[output], pool, &options).expect("starts");
    execution.collect().map(|batches| ids(&batches))
}

#[test]
fn rows_of_many_streams_come_in_the_order_of_their_files_and_row_groups() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let names = ["a b%20.parquet", "b.parquet", "c.parquet"];
    for (first, name) in (0..).step_by(2000).zip(names) {
        write_file(&folder.path().join(name), first, 2000, 300);
    }
    let dataset = far_files(folder.path(), &names);
    assert_eq!(
        read(&dataset).expect("reads"),
        (0..6000).collect::<Vec<_>>()
    );
    let some = dataset.filter("id % 1000 = 7").expect("filters");
    let wanted: Vec<i64> = (0..6).map(|thousand| thousand * 1000 + 7).collect();
    assert_eq!(read(&some).expect("reads"), wanted);
    let first = dataset.limit(5).expect("limits");
    assert_eq!(read(&first).expect("reads"), [0, 1, 2, 3, 4]);
}

/// What all rows of a dataset are read with as one input, where there is memory for so much, and their position.
fn planned(dataset: &Dataset, ahead_bytes: impl Fn(u64) -> u64) -> (Bytes, Bytes) {
    let job = plan_job(dataset, &Sink::Consumer).expect("plans");
    let plan = job.stages[0].source.as_ref().expect("reads");
    let source = of_table(plan.table.as_deref().expect("has a table")).expect("is a source");
    let options = SplitOptions {
        workers: 1,
        batch_rows: None,
        window_rows: 0,
        work: RowWork::Reading,
        parts: Some(1),
        is_spread: false,
    };
    let split = source.splits(u64::MAX, options).remove(0);
    let settings = source.settings(&Wanted {
        columns: &plan.columns,
        filters: &[],
        batch_rows: None,
        room: ReadRoom {
            ahead_bytes: ahead_bytes(split.row_bytes),
            ..ReadRoom::OF_TESTS
        },
    });
    (settings.expect("has settings"), split.position)
}

/// All rows of a dataset as one input, opened where there is memory for so much, and what it is read with.
fn opened(
    dataset: &Dataset,
    ahead_bytes: impl Fn(u64) -> u64,
    row_limit: Option<usize>,
    is_first: bool,
) -> (FileStream, Files, ScanSpec) {
    let (settings, position) = planned(dataset, ahead_bytes);
    let (files, runtime) = FileReader::new(&settings).expect("starts").for_test();
    let scan: ScanSpec = decode(&settings).expect("are settings");
    let wanted = WantedRows {
        position: decode(&position).expect("is a position"),
        row_limit,
        is_first,
    };
    let stream = FileStream::new(&scan, files.clone(), wanted, runtime).expect("opens");
    (stream, files, scan)
}

#[test]
fn what_is_asked_for_ahead_is_as_much_as_there_is_memory_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_file(&folder.path().join("a.parquet"), 0, 500, 50);
    let dataset = far_files(folder.path(), &["a.parquet"]);
    for (groups, under_way) in [(0.0, 1.0), (2.5, 3.0), (4.5, 5.0), (1e6, 10.0)] {
        let group_bytes = Cell::new(0.0);
        let ahead_bytes = |row_bytes: u64| {
            group_bytes.set((row_bytes * 50) as f64);
            // A quarter of it is for small files.
            (groups * group_bytes.get() * 4.0 / 3.0) as u64
        };
        let (stream, ..) = opened(&dataset, ahead_bytes, None, false);
        let found = stream.bytes_under_way() as f64 / group_bytes.get();
        assert!((found - under_way).abs() < 0.5, "{groups}: {found}");
    }
}

#[test]
fn nothing_large_is_asked_for_beside_the_first_rows_of_all_nor_beyond_a_limit() {
    // As long as a run is at least.
    const GROUP_ROWS: usize = 5_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rows = 4 * GROUP_ROWS;
    write_file(&folder.path().join("a.parquet"), 0, rows as i64, GROUP_ROWS);
    let dataset = far_files(folder.path(), &["a.parquet"]);
    let groups = |stream: &FileStream, row_bytes: u64| {
        stream.bytes_under_way() / (row_bytes * GROUP_ROWS as u64)
    };
    for (is_first, row_limit, under_way) in [
        (true, None, 1),
        (false, None, 4),
        (false, Some(GROUP_ROWS), 1),
        (false, Some(GROUP_ROWS + 1), 2),
    ] {
        let row_bytes = Cell::new(0);
        let ahead_bytes = |bytes| {
            row_bytes.set(bytes);
            u64::MAX / 4
        };
        let (mut stream, ..) = opened(&dataset, ahead_bytes, row_limit, is_first);
        let found = groups(&stream, row_bytes.get());
        assert_eq!(found, under_way, "{is_first} {row_limit:?}");
        if is_first {
            stream.next().expect("reads").expect("has rows");
            let found = groups(&stream, row_bytes.get());
            assert_eq!(
                found, 4,
                "asked for before anything becomes of the first rows"
            );
        }
    }
}

#[test]
fn footer_and_row_groups_are_asked_for_together_and_nothing_is_read_twice() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("a.parquet");
    write_file(&path, 0, 2000, 500);
    let file_bytes = std::fs::metadata(&path).expect("is there").len();
    let dataset = far_files(folder.path(), &["a.parquet"]);
    let (settings, position) = planned(&dataset, |_| 64 << 20);
    let mut scan: ScanSpec = decode(&settings).expect("are settings");
    scan.store = FAR_IN_TWOS.into();
    let mut reader = FileReader::new(&scan.encode_to_vec().into()).expect("starts");
    let input = Opened {
        position,
        blocks: Vec::new(),
    };
    let mut stream = reader.open(input, None).expect("opens");
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().expect("reads") {
        rows.extend(ids(&[batch]));
    }
    assert_eq!(rows, (0..2000).collect::<Vec<_>>());
    let footer_bytes = 64 << 10;
    let read = reader.bytes_read();
    assert!(read <= file_bytes + footer_bytes, "{read} of {file_bytes}");
}

#[test]
fn small_files_that_came_along_with_their_footers_have_a_part_of_the_memory_and_are_read_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let names: Vec<String> = (0..150)
        .map(|number| format!("{number:03}.parquet"))
        .collect();
    let mut file_bytes = 0;
    for (number, name) in (0..).zip(&names) {
        let path = folder.path().join(name);
        write_file(&path, number * 40, 40, 40);
        file_bytes += std::fs::metadata(&path).expect("is there").len();
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let dataset = far_files(folder.path(), &names);
    let (mut stream, files, scan) = opened(&dataset, |_| 1 << 20, None, false);
    let (mut rows, mut most_kept) = (0, 0);
    while let Some(batch) = stream.next().expect("reads") {
        rows += batch.num_rows();
        let kept = files.store.kept_bytes();
        most_kept = most_kept.max(kept);
        // A worker may have two such inputs, and a run more in each.
        let held = kept + 2 * stream.bytes_under_way();
        assert!(kept <= scan.kept_bytes(), "{kept}");
        assert!(held <= 2 * scan.ahead_bytes + (100 << 10), "{held}");
    }
    assert_eq!(rows, 150 * 40);
    assert!(most_kept > 0, "footers are asked for ahead");
    // Without what is kept each would be read twice.
    assert!(files.store.bytes_read() < file_bytes * 5 / 4);
    assert_eq!(files.store.kept_bytes(), 0);
}

#[test]
fn workers_that_reach_files_by_python_find_its_modules_imported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_file(&folder.path().join("a.parquet"), 0, 10, 10);
    let near = folder.path().join("a.parquet").display().to_string();
    let near = Dataset::read_parquet(&[near]).expect("reads");
    for (dataset, is_far) in [
        (near, false),
        (far_files(folder.path(), &["a.parquet"]), true),
    ] {
        let job = plan_job(&dataset, &Sink::Consumer).expect("plans");
        let plan = job.stages[0].source.as_ref().expect("reads");
        let wanted = Wanted {
            columns: &plan.columns,
            filters: &[],
            batch_rows: None,
            room: ReadRoom::OF_TESTS,
        };
        let source = settings_of(plan.table.as_deref().expect("has a table"), &wanted);
        assert_eq!(calls_python(&source.expect("has settings")), is_far);
    }
}

#[test]
fn job_with_a_small_budget_asks_for_little_ahead_and_ends() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_file(&folder.path().join("a.parquet"), 0, 5000, 100);
    let dataset = far_files(folder.path(), &["a.parquet"]);
    let options = ExecutionOptions {
        budget_bytes: Some(2048),
        ..ExecutionOptions::default()
    };
    let output = JobOutput::new(dataset, Sink::Consumer);
    let pool = Box::new(InProcessPool::of_cpus(1));
    let execution = Execution::start_all(&[output], pool, &options).expect("starts");
    let rows = execution.collect().expect("ends");
    assert_eq!(ids(&rows), (0..5000).collect::<Vec<_>>());
}

#[test]
fn what_a_store_refuses_reaches_the_user_in_its_words_with_its_number() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["a.parquet", "b.parquet"] {
        write_file(&folder.path().join(name), 0, 50, 10);
    }
    let dataset = far_files(folder.path(), &["a.parquet", "b.parquet"]);
    std::fs::remove_file(folder.path().join("b.parquet")).expect("removes");
    let failure = read(&dataset).expect_err("one file is gone");
    assert_eq!((failure.code, failure.os_error()), (ErrorCode::Os, Some(2)));
    assert!(
        failure.message.ends_with("b.parquet: it is far and gone"),
        "{failure}"
    );
}

/// Files of ten rows each, in groups of four, of which only some are looked at.
fn write_many(folder: &Path) {
    for number in 0..100 {
        write_file(
            &folder.join(format!("{number:03}.parquet")),
            number * 10,
            10,
            4,
        );
    }
}

fn many(folder: &Path) -> Dataset {
    let names: Vec<String> = (0..100)
        .map(|number| format!("{number:03}.parquet"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    far_files(folder, &names)
}

#[test]
fn rows_of_files_that_nobody_looked_at_come_in_order_and_filters_and_limits_hold() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_many(folder.path());
    let dataset = many(folder.path());
    let all = read(&dataset).expect("reads");
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
    let some = dataset.filter("id % 100 = 7").expect("filters");
    let wanted: Vec<i64> = (0..10).map(|hundred| hundred * 100 + 7).collect();
    assert_eq!(read(&some).expect("reads"), wanted);
    let first = dataset.limit(15).expect("limits");
    assert_eq!(read(&first).expect("reads"), (0..15).collect::<Vec<_>>());
}

#[test]
fn file_that_nobody_looked_at_may_have_narrower_columns_and_no_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_many(folder.path());
    let put = |number: usize, name: &str, column: ArrayRef| {
        let batch = RecordBatch::try_from_iter([(name, column)]).expect("of one length");
        let file = std::fs::File::create(folder.path().join(format!("{number:03}.parquet")));
        let file = file.expect("creates");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("begins");
        writer.write(&batch).expect("writes");
        writer.close().expect("ends");
    };
    put(62, "id", Arc::new(Int32Array::from(vec![7, 8])));
    let narrow = read(&many(folder.path())).expect("reads");
    assert_eq!((narrow.len(), &narrow[620..622]), (992, &[7, 8][..]));
    let others: [(&str, ArrayRef); 2] = [
        ("new", Arc::new(Int64Array::from(vec![1]))),
        ("id", Arc::new(StringArray::from(vec!["text"]))),
    ];
    for (name, column) in others {
        put(63, name, column);
        let text = read(&many(folder.path())).expect_err("is refused").message;
        let named = ["063.parquet", &format!("'{name}'"), "merge_schema=True"];
        assert!(named.iter().all(|part| text.contains(part)), "{text}");
    }
}
