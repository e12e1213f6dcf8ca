//! Windows, without a cluster.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion_common::ScalarValue;
use datafusion_expr::{WindowFrame, WindowFrameBound, WindowFrameUnits};

use super::*;
use crate::graph::{RangeKey, Window, WindowCall};
use crate::operators::stream::Batches;
use crate::plan::Expression;

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ]))
}

/// As many rows as `keys` gives, each with about 100 bytes.
fn rows(keys: impl Iterator<Item = i64>) -> RecordBatch {
    let keys: Vec<i64> = keys.collect();
    let values: Vec<i64> = (0..).take(keys.len()).collect();
    let text = "x".repeat(100);
    let texts = StringArray::from_iter_values(keys.iter().map(|_| &text));
    let columns_of_rows: Vec<Arc<dyn Array>> = vec![
        Arc::new(Int64Array::from(keys)),
        Arc::new(Int64Array::from(values)),
        Arc::new(texts),
    ];
    RecordBatch::try_new(columns(), columns_of_rows).expect("columns of one length")
}

fn frame(start: WindowFrameBound, end: WindowFrameBound) -> WindowFrame {
    WindowFrame::new_bounds(WindowFrameUnits::Rows, start, end)
}

fn all() -> WindowFrame {
    WindowFrame::new(None)
}

fn so_far() -> WindowFrame {
    WindowFrame::new(Some(true))
}

fn sum(frame: WindowFrame) -> WindowCall {
    WindowCall {
        function: "sum".to_owned(),
        is_aggregate: true,
        arguments: vec![Expression::column("v")],
        order: vec![RangeKey {
            column: "v".to_owned(),
            is_descending: false,
            has_nulls_first: false,
        }],
        frame,
        filter: None,
        is_distinct: false,
        ignores_nulls: false,
        name: "sum".to_owned(),
    }
}

fn window(partition: &[&str], call: WindowCall) -> Window {
    Window {
        rows: columns(),
        partition: partition.iter().map(|&name| name.to_owned()).collect(),
        calls: vec![call],
    }
}

fn run(
    window: &Window,
    memory_bytes: usize,
    rows: RecordBatch,
) -> Result<RecordBatch, TaskFailure> {
    let environment = Environment::of_memory(memory_bytes);
    let rows = Box::new(Batches(vec![rows].into_iter()));
    let mut stream = open(&Fragment::Window(window.clone()), vec![rows], environment);
    let mut out = Vec::new();
    while let Some(batch) = stream.next()? {
        out.push(batch);
    }
    Ok(concat_batches(&out[0].schema(), &out).expect("all have the same columns"))
}

fn ints<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    let column = batch.column_by_name(name).expect("is there");
    column.as_primitive::<Int64Type>().values()
}

/// A function that sees all rows of a group gets all of them, wherever batches end.
#[test]
fn groups_come_to_functions_as_a_whole() {
    let rows_of = 40_000;
    for groups in [1, 3, 1000, rows_of] {
        let input = rows((0..rows_of).map(|row| row * 7919 % groups));
        let out = run(&window(&["k"], sum(all())), 64 << 20, input.clone()).expect("runs");
        let mut sums = vec![0; usize::try_from(groups).expect("is small")];
        let place = |key: i64| usize::try_from(key).expect("is a place");
        for (&key, &value) in ints(&input, "k").iter().zip(ints(&input, "v")) {
            sums[place(key)] += value;
        }
        assert_eq!(out.num_rows(), input.num_rows());
        let made = ints(&out, "k").iter().zip(ints(&out, "sum"));
        for (&key, &sum) in made {
            assert_eq!(sum, sums[place(key)], "of {groups} groups, {key}");
        }
    }
}

/// Twenty megabytes in four, twice: groups that are held one by one, and one group that functions see row by row.
#[test]
fn rows_that_have_no_room_are_spilled() {
    let rows_of = 200_000;
    let input = || rows((0..rows_of).map(|row| row % 2000));
    let out = run(&window(&["k"], sum(all())), 4 << 20, input()).expect("has room for a group");
    assert_eq!(out.num_rows(), input().num_rows());
    let out = run(&window(&[], sum(so_far())), 4 << 20, input()).expect("needs no room");
    assert_eq!(
        ints(&out, "sum").last(),
        Some(&(rows_of * (rows_of - 1) / 2))
    );
    let near = frame(
        WindowFrameBound::Preceding(ScalarValue::UInt64(Some(1))),
        WindowFrameBound::Following(ScalarValue::UInt64(Some(1))),
    );
    let out = run(&window(&[], sum(near)), 4 << 20, input()).expect("needs no room");
    assert_eq!(ints(&out, "sum")[..3], [1, 3, 6]);
}

#[test]
fn group_that_has_no_room_is_an_error_that_says_what_to_raise() {
    let input = rows(std::iter::repeat_n(1, 200_000));
    let failure = run(&window(&["k"], sum(all())), 4 << 20, input).expect_err("has no room");
    let text = failure.message;
    assert!(
        text.starts_with("Window: the rows of one group or key do not fit")
            && text.contains("raise execution_options.resource_limits.object_store_memory"),
        "{text}"
    );
}

#[test]
fn columns_are_told_where_there_are_no_rows() {
    for frame in [all(), so_far()] {
        let window = window(&["k"], sum(frame));
        let out = run(&window, 4 << 20, rows(std::iter::empty())).expect("runs");
        let planned = window_columns(&window).expect("plans");
        let names = |schema: &Schema| -> Vec<(String, DataType)> {
            let fields = schema.fields().iter();
            let pair = |field: &Arc<Field>| (field.name().clone(), field.data_type().clone());
            fields.map(pair).collect()
        };
        assert_eq!(names(&planned), names(&out.schema()));
    }
}
