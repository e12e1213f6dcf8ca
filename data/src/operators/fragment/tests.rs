//! Relational work, without a cluster.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    StringViewArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, Schema};
use parking_lot::Mutex;

use super::*;
use crate::graph::{Aggregate, AggregateCall, AggregateFunction, RangeKey, Sort};
use crate::operators::stream::Batches;

/// What comes out, the last batch of no rows included.
fn run_all(fragment: &Fragment, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, TaskFailure> {
    let rows = Box::new(Batches(rows.into_iter()));
    let mut stream = open(fragment, vec![rows], Environment::of_memory(8 << 20));
    let mut out = Vec::new();
    while let Some(batch) = stream.next()? {
        out.push(batch);
    }
    Ok(out)
}

fn run(fragment: &Fragment, rows: Vec<RecordBatch>) -> RecordBatch {
    let out = run_all(fragment, rows).expect("runs");
    concat_batches(&out[0].schema(), &out).expect("all have the same columns")
}

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .expect("columns of one length")
}

fn ints(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn floats(values: &[Option<f64>]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn key(column: &str, is_descending: bool) -> RangeKey {
    RangeKey {
        column: column.to_owned(),
        is_descending,
        has_nulls_first: false,
    }
}

fn sort_by(keys: Vec<RangeKey>) -> Fragment {
    Fragment::Sort(Sort { keys, limit: None })
}

fn call(function: AggregateFunction, column: Option<&str>, name: &str) -> AggregateCall {
    AggregateCall {
        function,
        column: column.map(str::to_owned),
        name: name.to_owned(),
    }
}

fn half(phase: AggregatePhase, keys: &[&str], calls: &[AggregateCall]) -> Fragment {
    Fragment::Aggregate(Aggregate {
        phase,
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        calls: calls.to_vec(),
    })
}

/// Both halves: each of `inputs` by a worker of its own, then all of their states by one.
fn aggregate(keys: &[&str], calls: &[AggregateCall], inputs: Vec<Vec<RecordBatch>>) -> RecordBatch {
    let states = inputs
        .into_iter()
        .flat_map(|rows| run_all(&half(AggregatePhase::Partial, keys, calls), rows).expect("runs"));
    let states = states.collect();
    let results = run(&half(AggregatePhase::Final, keys, calls), states);
    match keys {
        [] => results,
        keys => {
            let order = keys.iter().map(|name| key(name, false)).collect();
            run(&sort_by(order), vec![results])
        }
    }
}

fn column_of<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch.column_by_name(name).expect("is there")
}

fn ints_of(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    column_of(batch, name)
        .as_primitive::<Int64Type>()
        .iter()
        .collect()
}

fn floats_of(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    column_of(batch, name)
        .as_primitive::<Float64Type>()
        .iter()
        .collect()
}

#[test]
fn rows_are_sorted_by_several_keys_with_nulls_last() {
    let rows = vec![
        table(vec![
            ("a", texts(&[Some("y"), None, Some("x")])),
            ("b", ints(&[Some(1), Some(2), Some(3)])),
        ]),
        table(vec![("a", texts(&[Some("x")])), ("b", ints(&[Some(9)]))]),
    ];
    let sorted = run(&sort_by(vec![key("a", false), key("b", true)]), rows);
    assert_eq!(ints_of(&sorted, "b"), [9, 3, 1, 2].map(Some));
}

#[test]
fn parts_of_different_types_are_sorted_as_one() {
    let rows = vec![
        table(vec![("a", ints(&[Some(3), Some(1)]))]),
        table(vec![
            ("a", floats(&[Some(2.5), Some(f64::NAN)])),
            ("b", ints(&[None, Some(1)])),
        ]),
    ];
    let sorted = run(&sort_by(vec![key("a", false)]), rows);
    let values = floats_of(&sorted, "a");
    assert_eq!(values[..3], [1.0, 2.5, 3.0].map(Some));
    assert!(values[3].is_some_and(f64::is_nan));
    assert_eq!(ints_of(&sorted, "b"), [None, None, None, Some(1)]);
}

/// As many rows as have no room in six megabytes.
fn many_rows() -> Vec<RecordBatch> {
    let part = |part: i64| {
        let values = (0..8192i64).map(|row| Some((row * 7919 + part * 104_729) % 999_983));
        let values: Vec<Option<i64>> = values.collect();
        let text = vec![Some("a text that makes rows longer than their key"); values.len()];
        table(vec![("a", ints(&values)), ("t", texts(&text))])
    };
    (0..40).map(part).collect()
}

#[test]
fn disk_is_not_filled_with_spilled_rows() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let place = SpillPlace {
        min_free_fraction: 1.0,
        min_free_bytes: u64::MAX,
        ..SpillPlace::below(folder.path())
    };
    let environment = Environment {
        spill: Some(place),
        ..Environment::of_memory(6 << 20)
    };
    let rows = Box::new(Batches(many_rows().into_iter()));
    let mut stream = open(&sort_by(vec![key("a", false)]), vec![rows], environment);
    let failure = stream.next().expect_err("no byte may be written");
    assert_eq!(failure.code, ErrorCode::OutOfDisk, "{failure}");
    assert!(failure.message.contains("AKTIS_SPILL_DIR"), "{failure}");
}

#[test]
fn more_rows_than_there_is_memory_for_are_sorted_through_files() {
    let folder = tempfile::tempdir().expect("makes a folder");
    let rows = many_rows();
    let total: usize = rows.iter().map(RecordBatch::num_rows).sum();
    let environment = Environment {
        spill: Some(SpillPlace::below(folder.path())),
        ..Environment::of_memory(6 << 20)
    };
    let rows = Box::new(Batches(rows.into_iter()));
    let mut stream = open(&sort_by(vec![key("a", false)]), vec![rows], environment);
    let first = stream.next().expect("runs").expect("has rows");
    let spilled = folder.path().join("spilled");
    let files = std::fs::read_dir(&spilled).expect("was made").count();
    assert!(
        files > 0,
        "all rows fit into memory: the test shows nothing"
    );
    let mut values: Vec<i64> = ints_of(&first, "a").into_iter().flatten().collect();
    while let Some(batch) = stream.next().expect("runs") {
        values.extend(ints_of(&batch, "a").into_iter().flatten());
    }
    assert_eq!(values.len(), total);
    assert!(values.is_sorted());
    drop(stream);
    assert_eq!(
        std::fs::read_dir(&spilled).expect("is there").count(),
        0,
        "files stay behind"
    );
}

#[test]
fn place_that_cannot_take_spilled_rows_is_the_systems_error_and_says_where() {
    let file = tempfile::NamedTempFile::new().expect("makes a file");
    let environment = Environment {
        spill: Some(SpillPlace::below(file.path())),
        ..Environment::of_memory(6 << 20)
    };
    let rows = Box::new(Batches(
        vec![table(vec![("a", ints(&[Some(1)]))])].into_iter(),
    ));
    let sort = sort_by(vec![key("a", false)]);
    let failure = open(&sort, vec![rows], environment)
        .next()
        .expect_err("no folder");
    assert!(
        failure.message.starts_with("Sort: spill rows into")
            && failure.message.contains("Not a directory"),
        "{}",
        failure.message
    );
}

#[test]
fn chance_gives_every_row_once_and_the_same_with_the_same_seed() {
    let rows = || {
        let part = |first: i64| {
            let ids: Vec<Option<i64>> = (first..first + 500).map(Some).collect();
            table(vec![("id", ints(&ids))])
        };
        vec![part(0), part(500)]
    };
    let shuffled = |seed| -> Vec<i64> {
        let out = run(&Fragment::Shuffle(seed), rows());
        assert_eq!(out.num_columns(), 1);
        ints_of(&out, "id").into_iter().flatten().collect()
    };
    let (one, other) = (shuffled(1), shuffled(2));
    assert_eq!(one, shuffled(1));
    assert_ne!(one, other);
    let mut all = one.clone();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..1000));
    assert!(!one.is_sorted());
}

#[test]
fn groups_of_several_inputs_are_put_together() {
    let calls = [
        call(AggregateFunction::Count, None, "rows"),
        call(AggregateFunction::Count, Some("v"), "count"),
        call(AggregateFunction::Sum, Some("v"), "sum"),
        call(AggregateFunction::Min, Some("v"), "min"),
        call(AggregateFunction::Max, Some("v"), "max"),
        call(AggregateFunction::CountDistinct, Some("v"), "distinct"),
        call(AggregateFunction::Variance, Some("v"), "variance"),
        call(
            AggregateFunction::Quantile(0.5f64.to_bits()),
            Some("v"),
            "median",
        ),
    ];
    let inputs = vec![
        vec![table(vec![
            ("k", texts(&[Some("a"), Some("b"), None])),
            ("v", ints(&[Some(1), None, Some(5)])),
        ])],
        vec![table(vec![
            ("k", texts(&[Some("a"), None, Some("a")])),
            ("v", ints(&[Some(4), Some(5), Some(1)])),
        ])],
    ];
    let out = aggregate(&["k"], &calls, inputs);
    let keys: Vec<Option<&str>> = column_of(&out, "k").as_string::<i32>().iter().collect();
    assert_eq!(keys, [Some("a"), Some("b"), None]);
    assert_eq!(ints_of(&out, "rows"), [3, 1, 2].map(Some));
    assert_eq!(ints_of(&out, "count"), [3, 0, 2].map(Some));
    assert_eq!(ints_of(&out, "sum"), [Some(6), None, Some(10)]);
    assert_eq!(ints_of(&out, "min"), [Some(1), None, Some(5)]);
    assert_eq!(ints_of(&out, "max"), [Some(4), None, Some(5)]);
    assert_eq!(ints_of(&out, "distinct"), [2, 0, 1].map(Some));
    let variance = floats_of(&out, "variance");
    assert!((variance[0].expect("has values") - 2.0).abs() < 1e-12);
    assert_eq!(variance[1..], [None, Some(0.0)]);
    assert_eq!(floats_of(&out, "median"), [Some(1.0), None, Some(5.0)]);
}

#[test]
fn integers_of_one_input_and_floats_of_another_are_added() {
    let calls = [
        call(AggregateFunction::Sum, Some("v"), "sum"),
        call(AggregateFunction::Max, Some("v"), "max"),
        call(AggregateFunction::SumOfFloats, Some("v"), "floats"),
    ];
    let inputs = vec![
        // Even of one input: a function may return either.
        vec![
            table(vec![("v", ints(&[Some(1), None]))]),
            table(vec![("v", floats(&[Some(0.5)]))]),
        ],
        vec![table(vec![("v", ints(&[Some(7)]))])],
    ];
    let out = aggregate(&[], &calls, inputs);
    assert_eq!(floats_of(&out, "sum"), [Some(8.5)]);
    assert_eq!(floats_of(&out, "max"), [Some(7.0)]);
    assert_eq!(floats_of(&out, "floats"), [Some(8.5)]);
}

#[test]
fn decimals_are_added_as_decimals() {
    let decimals = |values: Vec<i128>| -> ArrayRef {
        let values = Decimal128Array::from(values);
        Arc::new(values.with_precision_and_scale(5, 2).expect("fits"))
    };
    let calls = [call(AggregateFunction::Sum, Some("v"), "sum")];
    let input = |values| vec![table(vec![("v", decimals(values))])];
    let out = aggregate(
        &[],
        &calls,
        vec![input(vec![99_999, 99_999]), input(vec![1])],
    );
    let sum = column_of(&out, "sum");
    assert_eq!(sum.data_type(), &DataType::Decimal128(38, 2));
    assert_eq!(sum.as_primitive::<Decimal128Type>().value(0), 199_999);
}

#[test]
fn lists_hold_all_values_or_the_different_ones() {
    let calls = [
        call(AggregateFunction::List, Some("v"), "list"),
        call(AggregateFunction::Distinct, Some("v"), "distinct"),
    ];
    let input = || {
        vec![table(vec![(
            "v",
            texts(&[Some("x"), Some("y"), Some("x")]),
        )])]
    };
    let out = aggregate(&[], &calls, vec![input(), input()]);
    let lengths = |name: &str| column_of(&out, name).as_list::<i32>().value(0).len();
    assert_eq!((lengths("list"), lengths("distinct")), (6, 2));
}

#[test]
fn total_of_nothing_is_a_row() {
    let calls = [
        call(AggregateFunction::Count, None, "rows"),
        call(AggregateFunction::Sum, Some("v"), "sum"),
        call(AggregateFunction::Variance, Some("v"), "variance"),
    ];
    // Nobody has told the columns.
    let nothing = aggregate(&[], &calls, vec![vec![]]);
    assert_eq!(ints_of(&nothing, "rows"), [Some(0)]);
    assert!(column_of(&nothing, "sum").is_null(0));
    // The columns were told, and no row came.
    let empty = table(vec![("v", floats(&[]))]);
    let empty = aggregate(&[], &calls, vec![vec![empty]]);
    assert_eq!(ints_of(&empty, "rows"), [Some(0)]);
    assert_eq!(floats_of(&empty, "sum"), [None]);
    assert_eq!(floats_of(&empty, "variance"), [None]);
}

#[test]
fn groups_of_nothing_are_no_rows_but_columns() {
    let calls = [call(AggregateFunction::Sum, Some("v"), "sum")];
    let empty = table(vec![("k", texts(&[])), ("v", ints(&[]))]);
    let out = run_all(&half(AggregatePhase::Partial, &["k"], &calls), vec![empty]).expect("runs");
    assert_eq!(
        (out.len(), out[0].num_rows(), out[0].num_columns()),
        (1, 0, 2)
    );
    let none = run_all(&half(AggregatePhase::Final, &["k"], &calls), out).expect("runs");
    assert_eq!(
        (none.len(), none[0].num_rows(), none[0].num_columns()),
        (1, 0, 2)
    );
}

#[test]
fn columns_of_results_are_known_before_they_are_made() {
    let rows = table(vec![("k", texts(&[Some("a")])), ("v", ints(&[Some(1)]))]);
    let calls = vec![
        call(AggregateFunction::Sum, Some("v"), "sum"),
        call(AggregateFunction::Distinct, Some("v"), "distinct"),
        call(AggregateFunction::Variance, Some("v"), "variance"),
    ];
    let whole = Aggregate {
        phase: AggregatePhase::Final,
        keys: vec!["k".to_owned()],
        calls: calls.clone(),
    };
    let planned = output_of(&whole, &rows.schema()).expect("plans");
    let made = aggregate(&["k"], &calls, vec![vec![rows]]).schema();
    let types = |schema: &Schema| -> Vec<(String, DataType)> {
        let fields = schema.fields().iter();
        fields
            .map(|field| (field.name().clone(), field.data_type().clone()))
            .collect()
    };
    assert_eq!(types(&planned), types(&made));
}

#[test]
fn column_that_is_not_there_or_no_number_is_named() {
    let rows = || vec![table(vec![("v", texts(&[Some("x")]))])];
    let sort = run_all(&sort_by(vec![key("w", false)]), rows()).expect_err("no such column");
    assert_eq!(
        sort.message,
        "Sort: there is no column 'w'; the columns are 'v'"
    );
    let calls = [call(AggregateFunction::Sum, Some("v"), "sum")];
    let sum = run_all(&half(AggregatePhase::Partial, &[], &calls), rows()).expect_err("no number");
    assert!(
        sum.message
            .contains("the sum of 'v': its values are of type Utf8"),
        "{}",
        sum.message
    );
}

#[test]
fn failure_of_the_step_before_passes_as_it_is() {
    struct Fails;
    impl BatchStream for Fails {
        fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
            Err(TaskFailure::new(ErrorCode::Application, "seven"))
        }
    }
    let sort = sort_by(vec![key("a", false)]);
    let failure = open(&sort, vec![Box::new(Fails)], Environment::of_memory(1)).next();
    assert_eq!(failure.expect_err("fails").message, "seven");
}

/// Operators count all that a batch holds on to: a few rows of a block must not count as the block.
#[test]
fn few_rows_of_a_large_batch_hold_on_to_nothing_else() {
    let long = "x".repeat(64);
    let views = StringViewArray::from_iter_values((0..40_000).map(|row| format!("{row} {long}")));
    let large = table(vec![
        ("number", ints(&vec![Some(7); 40_000])),
        ("text", Arc::new(views)),
    ]);
    for rows in [0, 3] {
        let part: Vec<_> = vec![large.slice(9, rows)];
        let part = Box::new(Batches(part.into_iter()));
        let mut feed = feed::FragmentFeed::new("Sort", part, 64 << 10);
        let schema = feed.whole().expect("is read").expect("has columns");
        let piece = feed.next().expect("is copied").expect("is there");
        assert_eq!((piece.num_rows(), piece.schema()), (rows, schema));
        let held = piece.get_array_memory_size();
        assert!(held < 64 << 10, "{rows} rows hold {held} bytes");
    }
}

/// Rows in batches, and how many of these were read.
struct Counted(Batches, Arc<Mutex<usize>>);

impl BatchStream for Counted {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        *self.1.lock() += 1;
        self.0.next()
    }
}

#[test]
fn columns_that_were_told_are_not_looked_for_in_all_rows() {
    let one = table(vec![("a", ints(&[Some(3), None]))]);
    let other = table(vec![
        ("b", texts(&[Some("x")])),
        ("a", floats(&[Some(2.5)])),
    ]);
    let told = crate::columns::unify(&one.schema(), &other.schema()).expect("fit together");
    let read = Arc::new(Mutex::new(0));
    let rows = vec![one.clone(), other.clone(), one.clone()];
    let rows = Counted(Batches(rows.into_iter()), Arc::clone(&read));
    let known = |schema: &SchemaRef| KnownRows {
        schema: Arc::clone(schema),
        size: (5, 1000),
    };
    let feed = feed::FragmentFeed::new("Sort", Box::new(rows), 1 << 20);
    let mut feed = feed.of_known(Some(known(&told)));
    assert_eq!(feed.whole().expect("is known"), Some(nullable(&told)));
    assert_eq!((*read.lock(), feed.held()), (0, (5, 1000)));
    let rows = std::iter::from_fn(|| feed.next().expect("fits")).map(|rows| rows.schema());
    assert_eq!(rows.collect::<Vec<_>>(), vec![nullable(&told); 3]);

    let sorted = |told: &SchemaRef, rows: Vec<RecordBatch>| {
        let rows = Box::new(Batches(rows.into_iter()));
        let sort = sort_by(vec![key("a", false)]);
        let feeds: Vec<(Box<dyn BatchStream>, _)> = vec![(rows, Some(known(told)))];
        let mut stream = open_known(&sort, feeds, Environment::of_memory(8 << 20));
        std::iter::from_fn(move || stream.next().transpose()).collect::<Result<Vec<_>, _>>()
    };
    let all = sorted(&told, vec![one.clone(), other.clone()]).expect("sorts");
    let all = concat_batches(&all[0].schema(), &all).expect("have the same columns");
    assert_eq!(floats_of(&all, "a"), [Some(2.5), Some(3.0), None]);
    let none = sorted(&told, vec![]).expect("there are no rows");
    assert!(none.iter().all(|batch| batch.num_rows() == 0));
    let failure = sorted(&one.schema(), vec![one.clone(), other]).expect_err("'b' would be lost");
    assert!(failure.message.contains("nobody has told"), "{failure}");
    let misfit = sorted(&one.schema(), vec![table(vec![("a", texts(&[Some("x")]))])]);
    let misfit = misfit.expect_err("text is no number").message;
    assert!(misfit.contains("the column 'a' is"), "{misfit}");
}
