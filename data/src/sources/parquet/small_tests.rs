//! Small files that are read as a whole, beside the scan of all others.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Int32Type, Int64Type};
use futures::{FutureExt, TryStreamExt};
use parquet::arrow::ArrowWriter;

use super::adapt::ScanColumns;
use super::small;
use super::spec::{FilePart, ScanSpec};
use crate::block;
use crate::storage::{Store, StoreSpec};

/// Rows of columns of many types, which differ by `first`.
fn rows(first: i64, count: i64) -> RecordBatch {
    let numbers = || first..first + count;
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers()));
    let some = |number: i64| (number % 3 != 0).then(|| format!("row {number}"));
    let texts: ArrayRef = Arc::new(StringArray::from_iter(numbers().map(some)));
    let names: Vec<String> = numbers()
        .map(|number| format!("kind {}", number % 2))
        .collect();
    let kinds: DictionaryArray<Int32Type> = names.iter().map(String::as_str).collect();
    let times =
        TimestampMicrosecondArray::from_iter_values(numbers()).with_timezone("Europe/Berlin");
    let list = |number: i64| Some((0..number % 4).map(Some));
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(numbers().map(list));
    let part: ArrayRef = Arc::new(Int32Array::from_iter_values((0..).take(count as usize)));
    let field = Arc::new(Field::new("part", part.data_type().clone(), false));
    let columns: [(&str, ArrayRef); 6] = [
        ("id", ids),
        ("text", texts),
        ("kind", Arc::new(kinds)),
        ("time", Arc::new(times)),
        ("list", Arc::new(lists)),
        ("struct", Arc::new(StructArray::from(vec![(field, part)]))),
    ];
    RecordBatch::try_from_iter(columns).expect("of one length")
}

fn write(path: &Path, batch: &RecordBatch) -> FilePart {
    let file = std::fs::File::create(path).expect("creates");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("begins");
    writer.write(batch).expect("writes");
    writer.close().expect("ends");
    let rows = batch.num_rows() as u64;
    FilePart {
        path: path.display().to_string(),
        size_bytes: std::fs::metadata(path).expect("is there").len(),
        row_groups: 1,
        row_group_rows: rows,
        rows,
        ..FilePart::default()
    }
}

/// What these parts have in the columns at these places.
fn read(
    parts: &[FilePart],
    columns: Vec<u32>,
    row_limit: Option<usize>,
) -> Result<Vec<RecordBatch>, String> {
    let spec = ScanSpec {
        schema: block::encode_schema(&rows(0, 1).schema()).expect("is one"),
        columns,
        ..ScanSpec::default()
    };
    let adapter = ScanColumns::new(&spec).and_then(|scan| scan.adapter(&parts[0], false));
    let adapter = adapter.expect("fits");
    let store: Store = StoreSpec::default().open(0).expect("is local");
    let stream = small::stream(&store, &adapter, parts, 40, row_limit).expect("begins");
    let batches = stream
        .try_collect()
        .now_or_never()
        .expect("waits for nobody");
    batches.map_err(|error| error.to_string())
}

#[test]
fn columns_of_all_types_are_as_they_were_written_in_the_order_that_is_wanted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let written = [rows(0, 100), rows(100, 30)];
    let parts: Vec<FilePart> = (0..2)
        .map(|file| {
            write(
                &folder.path().join(format!("{file}.parquet")),
                &written[file],
            )
        })
        .collect();
    assert!(parts.iter().all(small::is_all_of_one));
    let all = concat_batches(&written[0].schema(), &written).expect("are alike");
    for wanted in [vec![0, 1, 2, 3, 4, 5], vec![4, 0, 3], vec![5], vec![]] {
        let places: Vec<usize> = wanted.iter().map(|&column| column as usize).collect();
        let batches = read(&parts, wanted.clone(), None).expect("reads");
        let counts: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(counts, [40, 40, 20, 30], "of {wanted:?}");
        let expected = all.project(&places).expect("has them");
        let read = concat_batches(&batches[0].schema(), &batches).expect("are alike");
        assert_eq!(read, expected, "of {wanted:?}");
    }
}

#[test]
fn no_more_rows_are_read_than_are_wanted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let written = rows(0, 100);
    let part = write(&folder.path().join("a.parquet"), &written);
    let gone = FilePart {
        path: folder.path().join("gone").display().to_string(),
        ..part.clone()
    };
    for limit in [1, 40, 41, 100] {
        let batches = read(&[part.clone(), gone.clone()], vec![0], Some(limit)).expect("reads");
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, limit);
    }
    let failed = read(&[part, gone], vec![0], Some(101)).expect_err("one is gone");
    assert!(failed.contains("gone"), "{failed}");
}

#[test]
fn file_that_has_other_rows_than_its_footer_told_fails() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let part = write(&folder.path().join("a.parquet"), &rows(0, 100));
    let told = FilePart {
        rows: 99,
        row_group_rows: 99,
        ..part
    };
    let failed = read(&[told], vec![0], None).expect_err("it has one more");
    assert!(failed.contains("has changed since"), "{failed}");
}

#[test]
fn parts_of_files_and_large_files_are_left_to_the_scan() {
    let all = FilePart {
        size_bytes: 1000,
        row_groups: 1,
        row_group_rows: 10,
        rows: 10,
        ..FilePart::default()
    };
    let (mut later, mut shorter, mut large, mut several) =
        (all.clone(), all.clone(), all.clone(), all.clone());
    (later.first_row, later.rows, shorter.rows) = (1, 9, 9);
    (large.size_bytes, several.row_groups) = (1 << 20, 2);
    assert!(small::is_all_of_one(&all));
    for part in [later, shorter, large, several] {
        assert!(!small::is_all_of_one(&part), "{part:?}");
    }
}
