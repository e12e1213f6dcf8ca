//! Joins and zips, without a cluster, compared with what their names say.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion_expr::col;
use proptest::prelude::*;

use super::*;
use crate::graph::{Join, JoinKind, JoinNaming};
use crate::operators::stream::Batches;
use crate::plan::Expression;

type Row = Vec<Option<i64>>;

const KINDS: [JoinKind; 9] = [
    JoinKind::Inner,
    JoinKind::LeftOuter,
    JoinKind::RightOuter,
    JoinKind::FullOuter,
    JoinKind::LeftSemi,
    JoinKind::RightSemi,
    JoinKind::LeftAnti,
    JoinKind::RightAnti,
    JoinKind::LeftMark,
];

/// Rows of two columns in batches of three.
fn side(names: [&str; 2], rows: &[(Option<i64>, i64)]) -> Box<dyn BatchStream> {
    let batch = |rows: &[(Option<i64>, i64)]| {
        let keys = Int64Array::from_iter(rows.iter().map(|row| row.0));
        let values = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        let columns: [(&str, ArrayRef, bool); 2] = [
            (names[0], Arc::new(keys), true),
            (names[1], Arc::new(values), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
    };
    let mut batches: Vec<RecordBatch> = rows.chunks(3).map(batch).collect();
    if batches.is_empty() {
        batches.push(batch(&[]));
    }
    Box::new(Batches(batches.into_iter()))
}

fn run(fragment: &Fragment, feeds: Vec<Box<dyn BatchStream>>) -> RecordBatch {
    let mut stream = open(fragment, feeds, Environment::of_memory(8 << 20));
    let mut out = Vec::new();
    while let Some(batch) = stream.next().expect("runs") {
        out.push(batch);
    }
    concat_batches(&out[0].schema(), &out).expect("all have the same columns")
}

/// All rows in an order of their own; truth as 1 and 0.
fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let columns = batch.columns().iter().map(|column| {
        let numbers = arrow::compute::cast(column, &DataType::Int64).expect("is a number");
        numbers
            .as_primitive::<Int64Type>()
            .iter()
            .collect::<Vec<_>>()
    });
    let columns: Vec<Vec<Option<i64>>> = columns.collect();
    let row = |row| columns.iter().map(|column| column[row]).collect();
    let mut rows: Vec<Row> = (0..batch.num_rows()).map(row).collect();
    rows.sort();
    rows
}

fn join(kind: JoinKind) -> Join {
    Join {
        kind,
        keys: vec![("a".to_owned(), "b".to_owned())],
        has_equal_nulls: false,
        condition: None,
        is_not_in: false,
        naming: JoinNaming::Apart,
    }
}

/// What the join means, row by row.
fn meant(
    kind: JoinKind,
    left: &[(Option<i64>, i64)],
    right: &[(Option<i64>, i64)],
    goes: impl Fn((Option<i64>, i64), (Option<i64>, i64)) -> bool,
) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let some = |(key, value): (Option<i64>, i64)| vec![key, Some(value)];
    let pairs = matches!(
        kind,
        JoinKind::Inner | JoinKind::LeftOuter | JoinKind::RightOuter | JoinKind::FullOuter
    );
    for &one in left {
        let has_partner = right.iter().any(|&other| goes(one, other));
        match kind {
            JoinKind::LeftSemi if has_partner => rows.push(some(one)),
            JoinKind::LeftAnti if !has_partner => rows.push(some(one)),
            JoinKind::LeftMark => rows.push([some(one), vec![Some(has_partner.into())]].concat()),
            JoinKind::LeftOuter | JoinKind::FullOuter if !has_partner => {
                rows.push([some(one), vec![None, None]].concat());
            }
            _ => {}
        }
        let partners = right.iter().filter(|&&other| pairs && goes(one, other));
        rows.extend(partners.map(|&other| [some(one), some(other)].concat()));
    }
    for &other in right {
        let has_partner = left.iter().any(|&one| goes(one, other));
        match kind {
            JoinKind::RightSemi if has_partner => rows.push(some(other)),
            JoinKind::RightAnti if !has_partner => rows.push(some(other)),
            JoinKind::RightOuter | JoinKind::FullOuter if !has_partner => {
                rows.push([vec![None, None], some(other)].concat());
            }
            _ => {}
        }
    }
    rows.sort();
    rows
}

fn sides() -> impl Strategy<Value = Vec<(Option<i64>, i64)>> {
    prop::collection::vec((prop::option::weighted(0.9, 0..8i64), 0..5i64), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_join_gives_the_rows_that_its_name_says(
        left in sides(),
        right in sides(),
        is_conditional in any::<bool>(),
        has_keys in any::<bool>(),
        is_small in any::<bool>(),
    ) {
        for kind in KINDS {
            let mut join = join(kind);
            if !has_keys {
                join.keys.clear();
            }
            if is_conditional {
                join.condition = Some(Expression::Planned(col("x").gt_eq(col("y"))));
            }
            let feeds = vec![side(["a", "x"], &left), side(["b", "y"], &right)];
            // Without memory for any row both sides are sorted and merged.
            let memory = if is_small { 0 } else { 8 << 20 };
            let out = joined_within(&join, feeds, memory);
            let goes = |one: (Option<i64>, i64), other: (Option<i64>, i64)| {
                let are_equal = one.0.is_some() && one.0 == other.0;
                (are_equal || !has_keys) && (!is_conditional || one.1 >= other.1)
            };
            prop_assert_eq!(rows_of(&out), meant(kind, &left, &right, goes), "{:?}", kind);
        }
    }
}

/// `memory`: what the choice of an operator is told; with none, both sides are merged.
fn joined_within(join: &Join, feeds: Vec<Box<dyn BatchStream>>, memory: usize) -> RecordBatch {
    let is_merged = memory == 0 && !join.keys.is_empty();
    let feed = |rows| feed::FragmentFeed::new("Join", rows, 1 << 20);
    let mut feeds: Vec<FragmentFeed> = feeds.into_iter().map(feed).collect();
    let environment = Environment::of_memory(8 << 20);
    let begun = if is_merged {
        join::begin_merging(join, &mut feeds, &environment)
    } else {
        join::begin(join, &mut feeds, &environment)
    };
    let mut run = begun.expect("begins").expect("has columns");
    let mut out = vec![RecordBatch::new_empty(run.schema())];
    while let Some(batch) = run.next(&mut feeds).expect("runs") {
        out.push(batch);
    }
    concat_batches(&out[0].schema(), &out).expect("all have the same columns")
}

#[test]
fn nobody_knows_of_a_row_that_it_is_not_in_a_list_with_a_null() {
    let join = Join {
        is_not_in: true,
        ..join(JoinKind::LeftAnti)
    };
    let left = [(Some(1), 0), (Some(2), 0), (None, 0)];
    let not_in = |right: &[(Option<i64>, i64)]| {
        let feeds = vec![side(["a", "x"], &left), side(["b", "y"], right)];
        let mut stream = open(
            &Fragment::Join(join.clone()),
            feeds,
            Environment::of_memory(8 << 20),
        );
        let mut rows = 0;
        while let Some(batch) = stream.next().expect("runs") {
            rows += batch.num_rows();
        }
        rows
    };
    assert_eq!(not_in(&[(Some(1), 0)]), 1);
    assert_eq!(not_in(&[(Some(1), 0), (None, 0)]), 0);
    assert_eq!(not_in(&[]), 3);
}

fn named(kind: JoinKind, keys: [&str; 2], suffixes: [Option<&str>; 2]) -> Join {
    let [left_suffix, right_suffix] = suffixes.map(|suffix| suffix.map(str::to_owned));
    Join {
        keys: vec![(keys[0].to_owned(), keys[1].to_owned())],
        naming: JoinNaming::KeysOnce {
            left_suffix,
            right_suffix,
        },
        ..join(kind)
    }
}

fn columns(fields: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, kind): &(&str, DataType)| Field::new(*name, kind.clone(), true);
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

fn names(
    kind: JoinKind,
    keys: [&str; 2],
    suffixes: [Option<&str>; 2],
) -> Result<Vec<String>, String> {
    let left = columns(&[
        ("id", DataType::Int64),
        ("x", DataType::Int64),
        ("l", DataType::Utf8),
    ]);
    let right = columns(&[
        ("id", DataType::Int32),
        ("x", DataType::Int64),
        ("r", DataType::Utf8),
    ]);
    let schema = joined(&named(kind, keys, suffixes), &left, &right)?;
    Ok(schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect())
}

#[test]
fn keys_come_out_once_and_other_namesakes_get_suffixes() {
    let both = [Some("_l"), Some("_r")];
    let same = |kind| names(kind, ["id", "id"], both).expect("can be joined");
    assert_eq!(same(JoinKind::Inner), ["id", "x_l", "l", "x_r", "r"]);
    assert_eq!(same(JoinKind::FullOuter), ["id", "x_l", "l", "x_r", "r"]);
    assert_eq!(same(JoinKind::RightOuter), ["x_l", "l", "id", "x_r", "r"]);
    assert_eq!(same(JoinKind::LeftAnti), ["id", "x", "l"]);
    assert_eq!(same(JoinKind::RightSemi), ["id", "x", "r"]);
    let other = names(JoinKind::Inner, ["id", "x"], [None, Some("_r")]).expect("can be joined");
    assert_eq!(other, ["id", "x", "l", "id_r", "r"]);
}

#[test]
fn key_of_a_full_join_is_that_of_the_side_that_has_the_row() {
    let join = named(JoinKind::FullOuter, ["a", "b"], [None, None]);
    let feeds = vec![
        side(["a", "x"], &[(Some(1), 10), (Some(2), 20)]),
        side(["b", "y"], &[(Some(2), 200), (Some(3), 300)]),
    ];
    let out = run(&Fragment::Join(join), feeds);
    let row = |key, x, y| vec![Some(key), x, y];
    assert_eq!(
        rows_of(&out),
        [
            row(1, Some(10), None),
            row(2, Some(20), Some(200)),
            row(3, None, Some(300))
        ]
    );
}

#[test]
fn what_cannot_be_joined_says_why() {
    let error = |keys, suffixes| names(JoinKind::Inner, keys, suffixes).expect_err("cannot be");
    let missing = error(["idd", "id"], [None, None]);
    assert_eq!(
        missing,
        "there is no column 'idd' on the left; its columns are 'id', 'x', 'l'"
    );
    let other_type = error(["id", "r"], [None, None]);
    assert!(
        other_type.starts_with(
            "the key 'id' of the left is Int64 and the key 'r' of the right is Utf8: "
        ),
        "{other_type}"
    );
    let namesakes = error(["id", "id"], [None, None]);
    assert!(
        namesakes.starts_with("both sides have columns 'x': give left_suffix or right_suffix"),
        "{namesakes}"
    );
    let again = error(["id", "id"], [None, Some("")]);
    assert!(again.contains("two columns named 'x'"), "{again}");
}

#[test]
fn whole_numbers_of_two_widths_meet_and_floats_are_no_keys_for_them() {
    let key = |kind: DataType| columns(&[("k", kind)]);
    let join = named(JoinKind::Inner, ["k", "k"], [None, None]);
    let out = joined(&join, &key(DataType::Int32), &key(DataType::Int64)).expect("meet");
    assert_eq!(out.field(0).data_type(), &DataType::Int64);
    joined(&join, &key(DataType::Int64), &key(DataType::Float64)).expect_err("never are equal");
}

#[test]
fn side_without_rows_and_columns_has_no_partners() {
    let nothing = || -> Box<dyn BatchStream> { Box::new(Batches(Vec::new().into_iter())) };
    let rows = [(Some(1), 10)];
    let out = |kind| {
        let join = named(kind, ["a", "b"], [None, None]);
        let feeds = vec![side(["a", "x"], &rows), nothing()];
        rows_of(&run(&Fragment::Join(join), feeds))
    };
    assert_eq!(out(JoinKind::LeftOuter), [[Some(1), Some(10)]]);
    assert_eq!(out(JoinKind::LeftAnti), [[Some(1), Some(10)]]);
    assert!(out(JoinKind::Inner).is_empty());
    let join = Fragment::Join(named(JoinKind::Inner, ["a", "b"], [None, None]));
    let mut neither = open(
        &join,
        vec![nothing(), nothing()],
        Environment::of_memory(8 << 20),
    );
    assert!(neither.next().expect("runs").is_none());
}

#[test]
fn both_sides_are_sorted_through_files_where_none_fits_into_memory() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let rows = 60_000i64;
    let batches = |name: &str, factor: i64| {
        let batch = |first: i64| {
            let keys = (first..first + 6000).map(|row| row * factor % rows);
            let text = arrow::array::StringArray::from(vec!["x".repeat(120); 6000]);
            let columns: [(&str, ArrayRef); 2] = [
                ("id", Arc::new(Int64Array::from_iter_values(keys))),
                (name, Arc::new(text)),
            ];
            RecordBatch::try_from_iter(columns).expect("columns of one length")
        };
        let batches: Vec<RecordBatch> = (0..10).map(|part| batch(part * 6000)).collect();
        Box::new(Batches(batches.into_iter())) as Box<dyn BatchStream>
    };
    let environment = Environment {
        spill: Some(SpillPlace::below(folder.path())),
        ..Environment::of_memory(4 << 20)
    };
    let join = Fragment::Join(named(JoinKind::Inner, ["id", "id"], [None, None]));
    let feeds = vec![batches("l", 7919), batches("r", 104_729)];
    let mut stream = open(&join, feeds, environment);
    let mut ids: Vec<i64> = Vec::new();
    let mut files = 0;
    while let Some(batch) = stream.next().expect("runs") {
        let spilled = std::fs::read_dir(folder.path().join("spilled"));
        files = files.max(spilled.expect("was made").count());
        ids.extend(batch.column(0).as_primitive::<Int64Type>().values());
    }
    assert!(
        files > 0,
        "all rows fit into memory: the test shows nothing"
    );
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..rows));
}

/// The operator would begin anew with files, for which it wants the rows of its side a second time.
#[test]
fn pairs_of_sides_that_cannot_be_held_fail_by_the_name_of_what_is_short() {
    let rows: Vec<_> = (0..400_000).map(|row| (Some(row), row)).collect();
    let join = Fragment::Join(Join {
        keys: Vec::new(),
        naming: JoinNaming::Apart,
        ..named(JoinKind::Inner, ["a", "b"], [None, None])
    });
    let feeds = vec![side(["a", "x"], &rows), side(["b", "y"], &rows)];
    let mut stream = open(&join, feeds, Environment::of_memory(4 << 20));
    let failure = stream.next().expect_err("does not fit");
    assert!(failure.message.contains("do not fit"), "{failure}");
}

#[test]
fn rows_are_zipped_by_their_place_whatever_the_batches_are() {
    let rows = |count: i64| {
        (0..count)
            .map(|row| (Some(row), row * 10))
            .collect::<Vec<_>>()
    };
    let zip = |counts: &[i64]| {
        let feeds = counts.iter().map(|&count| side(["k", "v"], &rows(count)));
        open(
            &Fragment::Zip,
            feeds.collect(),
            Environment::of_memory(8 << 20),
        )
    };
    let mut stream = zip(&[7, 7, 7]);
    let first = stream.next().expect("runs").expect("has rows");
    let schema = first.schema();
    let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ["k", "v", "k_1", "v_1", "k_2", "v_2"]);
    let mut out = vec![first];
    while let Some(batch) = stream.next().expect("runs") {
        out.push(batch);
    }
    let all = concat_batches(&schema, &out).expect("all have the same columns");
    let row = |row: i64| {
        [row, row * 10]
            .repeat(3)
            .into_iter()
            .map(Some)
            .collect::<Row>()
    };
    assert_eq!(rows_of(&all), (0..7).map(row).collect::<Vec<_>>());
    let failure = zip(&[3, 4]).next().expect_err("are not as many");
    assert!(
        failure.message.contains("the datasets have 3 and 4 rows"),
        "{failure}"
    );
    assert_eq!(
        zip(&[0, 0])
            .next()
            .expect("runs")
            .expect("tells columns")
            .num_columns(),
        4
    );
}

#[test]
fn sides_that_are_known_are_joined_without_being_read_first() {
    struct Unread(Box<dyn BatchStream>, bool);
    impl BatchStream for Unread {
        fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
            assert!(self.1, "it is read before it is known how to join");
            self.0.next()
        }
    }
    let (left, right) = ([(Some(1), 5), (Some(2), 6)], [(Some(2), 7), (Some(2), 8)]);
    let known = |names: [&str; 2], bytes| KnownRows {
        schema: columns(&names.map(|name| (name, DataType::Int64))),
        size: (2, bytes),
    };
    let feed = |names, rows: &[_], bytes, is_open| {
        let rows = Box::new(Unread(side(names, rows), is_open));
        let feed = feed::FragmentFeed::new("Join", rows, 1 << 20);
        feed.of_known(Some(known(names, bytes)))
    };
    let environment = Environment::of_memory(8 << 20);
    let feeds = |bytes, is_open| {
        [
            feed(["a", "x"], &left, bytes, is_open),
            feed(["b", "y"], &right, bytes, is_open),
        ]
    };
    let begun = join::begin(
        &join(JoinKind::Inner),
        &mut feeds(1 << 30, false),
        &environment,
    );
    begun.expect("begins").expect("has columns");
    for bytes in [100, 1 << 30] {
        let mut feeds = feeds(bytes, true);
        let begun = join::begin(&join(JoinKind::Inner), &mut feeds, &environment);
        let mut run = begun.expect("begins").expect("has columns");
        let mut rows = Vec::new();
        while let Some(batch) = run.next(&mut feeds).expect("runs") {
            rows.extend(rows_of(&batch));
        }
        let row = |value| [Some(2), Some(6), Some(2), Some(value)].to_vec();
        assert_eq!(rows, [row(7), row(8)], "{bytes} B on each side");
    }
}
