//! Files whose columns differ, read as one dataset: COL-1 (by-name), COL-2 (nothing-lost).

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use parquet::arrow::ArrowWriter;

use crate::Execution;
use crate::executor::ExecutionOptions;
use crate::executor::pool::InProcessPool;
use crate::plan::Dataset;
use crate::sinks::Sink;

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    std::fs::create_dir_all(path.parent().expect("in a folder")).expect("makes folders");
    let batch = RecordBatch::try_from_iter(columns).expect("of one length");
    let file = std::fs::File::create(path).expect("creates");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("begins");
    writer.write(&batch).expect("writes");
    writer.close().expect("ends");
}

fn read(folder: &Path) -> Dataset {
    Dataset::read_parquet(&[folder.display().to_string()]).expect("goes together")
}

fn run(dataset: &Dataset) -> Result<RecordBatch, String> {
    let pool = Box::new(InProcessPool::of_cpus(2));
    let options = ExecutionOptions::default();
    let execution = Execution::start(dataset, &Sink::Consumer, pool, &options).expect("starts");
    let batches = execution.collect().map_err(|failure| failure.message)?;
    let schema = batches.first().expect("has rows").schema();
    Ok(concat_batches(&schema, &batches).expect("have one schema"))
}

fn three_kinds() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    write(&folder.path().join("a.parquet"), vec![("x", numbers)]);
    let (ids, floats): (ArrayRef, ArrayRef) = (
        Arc::new(Int64Array::from(vec![7, 8])),
        Arc::new(Float64Array::from(vec![0.5, 2.0])),
    );
    write(
        &folder.path().join("b.parquet"),
        vec![("id", ids), ("x", floats)],
    );
    let (texts, more): (ArrayRef, ArrayRef) = (
        Arc::new(StringArray::from(vec!["c"])),
        Arc::new(Int64Array::from(vec![3])),
    );
    let nested = folder.path().join("day=1/c.parquet");
    write(&nested, vec![("text", texts), ("x", more)]);
    folder
}

#[test]
fn files_of_other_columns_are_rows_of_one_dataset() {
    let folder = three_kinds();
    let rows = run(&read(folder.path())).expect("runs");
    let names: Vec<String> = rows
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    assert_eq!(names, ["x", "id", "text", "day"]);
    let x = rows.column(0).as_primitive::<Float64Type>();
    assert_eq!(x.values(), &[1.0, 2.0, 0.5, 2.0, 3.0]);
    let nulls: Vec<usize> = rows
        .columns()
        .iter()
        .map(|column| column.null_count())
        .collect();
    assert_eq!(nulls, [0, 3, 4, 4]);
}

#[test]
fn predicates_and_projections_hold_also_where_a_file_has_other_columns() {
    let folder = three_kinds();
    let dataset = read(folder.path());
    for (predicate, wanted) in [
        ("x = 2", vec![2.0, 2.0]),
        ("id <> 7 AND 10 / (id - 7) > 1", vec![2.0]),
        ("x < 1", vec![0.5]),
        ("id = 8", vec![2.0]),
        ("id IS NULL AND x > 1", vec![2.0, 3.0]),
        ("text = 'c'", vec![3.0]),
        ("day = '1'", vec![3.0]),
        ("day IS NULL AND text IS NULL AND x < 2", vec![1.0, 0.5]),
    ] {
        let filtered = dataset.filter(predicate).expect(predicate);
        let selected = filtered.select(&["x".to_owned()]).expect(predicate);
        let rows = run(&selected).expect(predicate);
        assert_eq!(rows.num_columns(), 1, "{predicate}");
        assert_eq!(
            rows.column(0).as_primitive::<Float64Type>().values(),
            &wanted,
            "{predicate}"
        );
    }
    let limited = dataset.filter("id = 7 OR id IS NULL").expect("filters");
    assert_eq!(
        run(&limited.limit(4).expect("limits"))
            .expect("runs")
            .num_rows(),
        4
    );
}

#[test]
fn files_whose_folders_do_not_match_are_not_opened() {
    let folder = three_kinds();
    let dataset = read(folder.path()).filter("day = '1'").expect("filters");
    std::fs::write(folder.path().join("a.parquet"), b"no Parquet any more").expect("writes");
    assert_eq!(run(&dataset).expect("does not look").num_rows(), 1);
}

#[test]
fn value_that_does_not_fit_the_dataset_names_its_file_and_is_not_called_damage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let large: ArrayRef = Arc::new(Int64Array::from(vec![(1 << 53) + 1]));
    write(&folder.path().join("a.parquet"), vec![("x", large)]);
    let float: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    write(&folder.path().join("b.parquet"), vec![("x", float)]);
    let message = run(&read(folder.path())).expect_err("has no exact place");
    assert!(
        message.contains("a.parquet") && message.contains("'x'"),
        "{message}"
    );
    assert!(!message.contains("damaged"), "{message}");
}

#[test]
fn types_with_nothing_in_common_name_both_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    write(
        &folder.path().join("a.parquet"),
        vec![("x", Arc::clone(&number))],
    );
    write(&folder.path().join("b.parquet"), vec![("x", number)]);
    let text: ArrayRef = Arc::new(StringArray::from(vec!["t"]));
    write(&folder.path().join("c.parquet"), vec![("x", text)]);
    let error = Dataset::read_parquet(&[folder.path().display().to_string()])
        .expect_err("has nothing in common")
        .to_string();
    assert!(
        error.contains("a.parquet") && error.contains("c.parquet"),
        "{error}"
    );
    assert!(error.contains("Int64") && error.contains("Utf8"), "{error}");
}

#[test]
fn required_column_of_one_file_may_be_null_in_another() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    crate::testing::write_file(&folder.path().join("a.parquet"), 0, 3, 3);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(4)]));
    write(&folder.path().join("b.parquet"), vec![("id", ids)]);
    let rows = run(&read(folder.path())
        .select(&["id".to_owned()])
        .expect("selects"))
    .expect("runs");
    assert_eq!(rows.schema().field(0).data_type(), &DataType::Int64);
    let ids: Vec<Option<i64>> = rows.column(0).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(ids, [Some(0), Some(1), Some(2), None, Some(4)]);
}
