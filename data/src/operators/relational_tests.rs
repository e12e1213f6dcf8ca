//! Numbers of rows, as expressions of a step see them.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::relational::open;
use crate::graph::{NamedExpression, Operator};
use crate::operators::stream::{BatchStream, Batches};
use crate::plan::Expression;

fn batches(rows: &[i64]) -> Vec<RecordBatch> {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let batch = |&rows: &i64| {
        let ids = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_new(Arc::clone(&schema), vec![ids]).expect("fits")
    };
    rows.iter().map(batch).collect()
}

/// The numbers of the rows of the input with this number, whose batches have so many rows.
fn numbers(sequence: u64, rows: &[i64]) -> Vec<i64> {
    let numbers = Expression::call("monotonically_increasing_id", &[]).expect("is known");
    computed(numbers, sequence, rows)
}

/// The values of an expression over the rows of such an input.
fn computed(expression: Expression, sequence: u64, rows: &[i64]) -> Vec<i64> {
    let step = Operator::Compute(vec![NamedExpression {
        name: "row".to_owned(),
        expression,
    }]);
    let input = Box::new(Batches(batches(rows).into_iter()));
    let mut stream = open(step, input, sequence);
    let mut numbers = Vec::new();
    while let Some(batch) = stream.next().expect("is computed") {
        assert_eq!(
            batch.num_columns(),
            2,
            "only the expression sees the numbers"
        );
        numbers.extend(batch.column(1).as_primitive::<Int64Type>().values());
    }
    numbers
}

#[test]
fn rows_of_an_input_are_counted_over_its_batches() {
    assert_eq!(numbers(0, &[2, 0, 3]), [0, 1, 2, 3, 4]);
}

#[test]
fn rows_that_are_made_again_have_the_numbers_that_they_had_and_no_other_input_has_them() {
    let first = numbers(7, &[3]);
    assert_eq!(numbers(7, &[1, 2]), first);
    assert!(
        numbers(8, &[3])
            .iter()
            .all(|number| !first.contains(number))
    );
}

/// `coalesce` and its like are another way to write an expression: the engine has no code for them.
#[test]
fn functions_that_stand_for_other_expressions_are_computed() {
    let rows = |text: &str| computed(Expression::from(text), 0, &[3]);
    assert_eq!(rows("coalesce(nullif(id, 1), 7)"), [0, 7, 2]);
    assert_eq!(rows("nvl(nullif(id, 0), id + 5)"), [5, 1, 2]);
}
