//! Rows are counted and go on, and some of those that an expectation does not hold for are told.

use std::collections::BTreeSet;

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;
use crate::operators::failing::Watch;
use crate::operators::failing::notes::NoNotes;
use crate::operators::stream::Batches;
use crate::plan::Expression;
use crate::testing::ids;
use crate::wire::expect::Judged;
use crate::wire::failing::FailingSpec;

fn numbers(values: &[Option<i64>]) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let ids = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_new(schema, vec![ids]).expect("fits")
}

fn expectation(most: MostViolations) -> Expectation {
    Expectation {
        name: "small".to_owned(),
        expression: Expression::from("id < 10"),
        most,
        only_warns: false,
    }
}

fn input(is_rerun: bool) -> Arc<FailingInput> {
    let (notes, watch) = (Arc::new(NoNotes), Arc::<Watch>::default());
    let spec = FailingSpec::default();
    Arc::new(FailingInput::new(
        spec,
        3,
        "here".into(),
        notes,
        watch,
        is_rerun,
    ))
}

/// The ids that go on, and how it ends.
fn judged(
    input: &Arc<FailingInput>,
    most: MostViolations,
    batches: Vec<RecordBatch>,
) -> (Vec<i64>, Result<(), TaskFailure>) {
    let judge = Judge::new(input, 1, &expectation(most), None, &[]);
    let mut stream = open(judge, Box::new(Batches(batches.into_iter())), 0);
    let mut passed = Vec::new();
    loop {
        match stream.next() {
            Ok(Some(batch)) => passed.push(batch),
            Ok(None) => return (ids(&passed), Ok(())),
            Err(failure) => return (ids(&passed), Err(failure)),
        }
    }
}

fn told(input: &FailingInput) -> Judged {
    let mut told = input.judgements.take_changed().expect("is written down");
    assert_eq!(told.len(), 1);
    told.remove(0)
}

#[test]
fn rows_go_on_and_null_is_a_violation() {
    let input = input(false);
    let batches = vec![
        numbers(&[Some(1), Some(11), Some(2)]),
        numbers(&[None, Some(12)]),
    ];
    let (passed, outcome) = judged(&input, MostViolations::Rows(3), batches);
    assert!(outcome.is_ok());
    assert_eq!(passed.len(), 5);
    let told = told(&input);
    assert_eq!((told.operator, told.rows, told.violations), (1, 5, 3));
    assert_eq!(told.numbers, [1, 3, 4]);
    let (_, rows) = crate::block::decode(told.examples).expect("reads");
    let rows = rows[0].column_by_name("row").expect("has rows");
    let values = rows.as_struct().column(0).as_primitive::<Int64Type>();
    let values: BTreeSet<Option<i64>> = values.iter().collect();
    assert_eq!(values, BTreeSet::from([None, Some(11), Some(12)]));
    assert!(input.judgements.take_changed().expect("nothing").is_empty());
}

#[test]
fn only_the_first_rows_are_examples_and_all_are_counted() {
    let input = input(false);
    let most = MostViolations::Share(1f64.to_bits());
    let batches = vec![numbers(&[Some(20); 4]), numbers(&[Some(30); 4])];
    judged(&input, most, batches).1.expect("goes on");
    let told = told(&input);
    assert_eq!((told.rows, told.violations), (8, 8));
    assert_eq!(told.numbers, [0, 1, 2, 3, 4]);
}

#[test]
fn input_with_more_violations_than_the_job_may_have_ends_at_once() {
    let batches = || {
        vec![
            numbers(&[Some(20)]),
            numbers(&[Some(20)]),
            numbers(&[Some(1)]),
        ]
    };
    let first = input(false);
    let (passed, outcome) = judged(&first, MostViolations::Rows(1), batches());
    assert_eq!(passed, [20]);
    assert!(outcome.is_err() && first.over_limit().is_some());
    assert_eq!(told(&first).violations, 2);
    // Blocks that were lost are made again whatever is in them.
    let (passed, outcome) = judged(&input(true), MostViolations::Rows(1), batches());
    assert!(outcome.is_ok() && passed.len() == 3);
}
