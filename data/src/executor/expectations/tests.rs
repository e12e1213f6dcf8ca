//! Rows are judged once, and a verdict is told when it is certain, whatever workers do.

use super::*;
use crate::executor::pool::InProcessPool;
use crate::executor::{Execution, ExecutionOptions};
use crate::graph::{JobOutput, RangeKey, plan_job};
use crate::plan::{Dataset, Expression, MapSpec, MostViolations};
use crate::sinks::Sink;
use crate::testing::{ids, test_map};

const WORKER: WorkerKey = WorkerKey(1);
const OTHER: WorkerKey = WorkerKey(2);

fn share(share: f64) -> MostViolations {
    MostViolations::Share(share.to_bits())
}

fn expectation(expression: &str, most: MostViolations) -> Expectation {
    Expectation {
        name: expression.to_owned(),
        expression: Expression::from(expression),
        most,
        only_warns: false,
    }
}

/// A job of one expectation, over a thousand rows.
fn table(most: MostViolations) -> Expectations {
    let dataset = Dataset::range(1000).expect("plans");
    let dataset = dataset.expect(expectation("id >= 0", most)).expect("plans");
    let job = plan_job(&dataset, &Sink::Consumer).expect("is cut");
    Expectations::new(&job, Some(1000))
}

fn report(rows: u64, violations: u64, is_last: bool) -> Report {
    let judged = Judged {
        operator: 1,
        rows,
        violations,
        is_over: is_last,
        ..Judged::default()
    };
    Report {
        judged: vec![judged],
        is_last,
        ..Report::default()
    }
}

#[test]
fn what_dead_workers_have_told_is_not_added_to_what_others_tell() {
    let mut all = table(MostViolations::Rows(5));
    all.begin(WORKER, (0, 0), false);
    all.report(WORKER, &report(100, 3, false)).expect("few");
    all.forget(WORKER);
    all.begin(OTHER, (0, 0), false);
    all.report(OTHER, &report(50, 2, false)).expect("few");
    assert_eq!(
        all.counts(0, 1),
        JudgedCounts {
            rows: 100,
            violations: 3
        }
    );
    let last = report(200, 4, true);
    assert_eq!(all.of_used_up(OTHER, &last)[0].rows, 200);
    all.report(OTHER, &last).expect("few");
    // A block of it is lost, and made again.
    all.begin(WORKER, (0, 0), true);
    all.report(WORKER, &report(200, 4, true)).expect("few");
    assert_eq!(
        all.counts(0, 1),
        JudgedCounts {
            rows: 200,
            violations: 4
        }
    );
    all.begin(WORKER, (0, 1), false);
    let failure = all.report(WORKER, &report(10, 2, false)).expect_err("six");
    assert!(
        failure.message.contains(
            "6 rows of the 210 that came so far violate it, more than max_violations=5 allows"
        ),
        "{failure}"
    );
}

#[test]
fn share_is_broken_when_no_other_rows_can_mend_it() {
    let mut all = table(share(0.01));
    all.begin(WORKER, (0, 0), false);
    all.report(WORKER, &report(10, 10, false))
        .expect("of a thousand");
    let failure = all.report(WORKER, &report(11, 11, false));
    assert!(failure.is_err(), "more than a hundredth of all");

    let mut all = table(share(0.5));
    all.begin(WORKER, (0, 0), false);
    all.report(WORKER, &report(10, 6, true))
        .expect("others may come");
    // Nobody wants more of them.
    all.end(0, false).expect("is undecided");
    assert!(all.end(0, true).is_err(), "they have not");
}

#[test]
fn warning_only_is_never_a_failure() {
    let mut all = table(MostViolations::Rows(0));
    for found in all.stages[0].values_mut() {
        found.expectation.only_warns = true;
    }
    all.begin(WORKER, (0, 0), false);
    all.report(WORKER, &report(10, 6, true)).expect("goes on");
    all.end(0, true).expect("goes on");
    let found = &all.stages[0][&1];
    let stats = found.stats(all.counts(0, 1), true);
    assert_eq!(
        (stats.verdict, stats.violations),
        (ExpectationVerdict::Broken, 6)
    );
}

#[test]
fn rows_that_a_function_may_multiply_have_no_bound() {
    let numbers = Dataset::range(1000).expect("plans");
    let bound = |dataset: Dataset| {
        let dataset = dataset.expect(expectation("id >= 0", share(0.1)));
        let job = plan_job(&dataset.expect("plans"), &Sink::Consumer).expect("is cut");
        let all = Expectations::new(&job, Some(1000));
        let mut found = all.stages.iter().flat_map(BTreeMap::values);
        found.next().expect("one expectation").bound
    };
    let kept = MapSpec {
        keeps_rows: true,
        ..test_map("same")
    };
    let key = RangeKey {
        column: "id".to_owned(),
        is_descending: false,
        has_nulls_first: false,
    };
    assert_eq!(bound(numbers.clone()), Some(1000));
    assert_eq!(bound(numbers.filter("id > 3").expect("plans")), Some(1000));
    assert_eq!(bound(numbers.map(kept).expect("plans")), Some(1000));
    assert_eq!(bound(numbers.sort(vec![key]).expect("plans")), Some(1000));
    assert_eq!(bound(numbers.map(test_map("same")).expect("plans")), None);
}

fn run(dataset: &Dataset) -> (Result<Vec<i64>, TaskFailure>, Vec<ExpectationStats>) {
    let output = JobOutput {
        parts: Some(8),
        ..JobOutput::new(dataset.clone(), Sink::Consumer)
    };
    let options = ExecutionOptions::default();
    let pool = Box::new(InProcessPool::of_cpus(2));
    let execution = Execution::start_all(&[output], pool, &options).expect("starts");
    let rows = execution.collect().map(|batches| ids(&batches));
    let stats = execution.stats();
    let operators = stats.stages.iter().flat_map(|stage| &stage.operators);
    let found = operators.filter_map(|operator| operator.expectation.clone());
    (rows, found.collect())
}

#[test]
fn job_goes_on_or_ends_by_what_is_expected() {
    let numbers = Dataset::range(1000).expect("plans");
    let few = numbers
        .expect(expectation("id >= 3", MostViolations::Rows(3)))
        .expect("plans");
    let both = few
        .expect(expectation("id < 900", share(0.1)))
        .expect("plans");
    let (rows, found) = run(&both);
    assert_eq!(rows.expect("holds").len(), 1000);
    let counts: Vec<(u64, u64)> = found.iter().map(|one| (one.rows, one.violations)).collect();
    assert_eq!(counts, [(1000, 3), (1000, 100)]);
    assert!(
        found
            .iter()
            .all(|one| one.verdict == ExpectationVerdict::Held)
    );

    let many = both
        .expect(expectation("id <> 7", MostViolations::Rows(0)))
        .expect("plans");
    let (rows, found) = run(&many);
    let failure = rows.expect_err("is broken");
    assert!(
        failure.message.starts_with("expect(id <> 7): 1 row of"),
        "{failure}"
    );
    assert_eq!(found[2].verdict, ExpectationVerdict::Broken);
    assert_eq!(found[2].examples.len(), 1);
}

/// The stages run in one worker, as one plan, whose threads judge rows in any order.
#[test]
fn rows_of_stages_that_run_together_are_judged() {
    let key = RangeKey {
        column: "id".to_owned(),
        is_descending: true,
        has_nulls_first: false,
    };
    let numbers = Dataset::range(1000).expect("plans");
    let sorted = |expected: &str, most| {
        let judged = numbers.expect(expectation(expected, most)).expect("plans");
        let sorted = judged.sort(vec![key.clone()]).expect("plans");
        sorted
            .expect(expectation("id < 5000", MostViolations::Rows(0)))
            .expect("plans")
    };
    let (rows, found) = run(&sorted("id >= 10", MostViolations::Rows(10)));
    assert_eq!(rows.expect("holds").len(), 1000);
    let counts: Vec<(u64, u64)> = found.iter().map(|one| (one.rows, one.violations)).collect();
    assert_eq!(counts, [(1000, 10), (1000, 0)]);
    let (rows, found) = run(&sorted("id >= 11", MostViolations::Rows(10)));
    assert!(rows.is_err());
    assert_eq!(
        (found[0].violations, found[0].examples.len()),
        (11, EXAMPLES)
    );
}

/// Only what is certain is said of an expectation whose rows have not all come.
#[test]
fn nothing_is_said_where_the_rest_of_the_rows_is_not_wanted() {
    let numbers = Dataset::range(10_000).expect("plans");
    let behind = |expression: &str, most: MostViolations| {
        let judged = numbers
            .expect(expectation(expression, most))
            .expect("plans");
        judged.filter("id >= 0").expect("plans")
    };
    let verdict = |dataset: &Dataset| run(dataset).1[0].verdict;
    let (few, all) = (share(0.01), MostViolations::Rows(0));
    let (rows, found) = run(&behind("id >= 50", few).limit(5).expect("plans"));
    assert_eq!(rows.expect("50 of 10 000 are few"), [0, 1, 2, 3, 4]);
    assert_eq!(found[0].verdict, ExpectationVerdict::Undecided);
    let early = behind("id < 9000", all).limit(5).expect("plans");
    assert_eq!(verdict(&early), ExpectationVerdict::Undecided);
    let late = behind("id < 10000", all).limit(20_000).expect("plans");
    assert_eq!(verdict(&late), ExpectationVerdict::Held);
    // The rows of a limit right behind it are all that come, and those of one before it.
    let judged = numbers
        .expect(expectation("id < 9000", all))
        .expect("plans");
    assert_eq!(
        verdict(&judged.limit(5).expect("plans")),
        ExpectationVerdict::Held
    );
    let limited = numbers
        .filter("id > 3")
        .expect("plans")
        .limit(7)
        .expect("plans");
    let judged = limited
        .expect(expectation("id < 9000", few))
        .expect("plans");
    assert_eq!(verdict(&judged), ExpectationVerdict::Held);
    assert!(
        run(&behind("id > 300", all).limit(5).expect("plans"))
            .0
            .is_err(),
        "it is certain"
    );
}

#[test]
fn limit_takes_rows_before_they_are_judged_and_filters_behind() {
    let numbers = Dataset::range(1000).expect("plans");
    let judged = numbers
        .expect(expectation("id < 5", MostViolations::Rows(0)))
        .expect("plans");
    let (rows, found) = run(&judged.limit(5).expect("plans"));
    assert_eq!(rows.expect("holds"), [0, 1, 2, 3, 4]);
    assert_eq!(found[0].rows, 5);
    assert!(run(&judged.filter("id < 5").expect("plans")).0.is_err());
    let without = judged.without_expectations().expect("plans");
    assert_eq!(run(&without).0.expect("holds").len(), 1000);
}
