//! Rows are judged once, and a verdict is told when it is certain, whatever workers do.

use super::*;
use crate::executor::pool::InProcessPool;
use crate::executor::{Execution, ExecutionOptions};
use crate::graph::{JobOutput, RangeKey, plan_job};
use crate::plan::{Dataset, Expression, MapSpec, MostViolations};
use crate::sinks::Sink;
use crate::testing::{ids, test_map};
use crate::wire::failing::ToldRows;
use crate::wire::spec::StepReport;

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

/// What is known of the rows that come to an expectation behind these, which are a thousand numbers.
fn bounds(dataset: Dataset) -> Vec<(u64, Vec<FunctionKey>)> {
    let dataset = dataset.expect(expectation("id >= 0", share(0.1)));
    let job = plan_job(&dataset.expect("plans"), &Sink::Consumer).expect("is cut");
    let all = Expectations::new(&job, Some(1000));
    let mut found = all.stages.into_iter().flat_map(BTreeMap::into_values);
    found.next().expect("one expectation").bounds
}

#[test]
fn rows_that_nothing_multiplies_are_those_of_the_sources_or_of_a_limit() {
    let numbers = Dataset::range(1000).expect("plans");
    let kept = MapSpec {
        keeps_rows: true,
        ..test_map("same")
    };
    let key = RangeKey {
        column: "id".to_owned(),
        is_descending: false,
        has_nulls_first: false,
    };
    let all = [(1000, Vec::new())];
    assert_eq!(bounds(numbers.clone()), all);
    assert_eq!(bounds(numbers.filter("id > 3").expect("plans")), all);
    assert_eq!(bounds(numbers.map(kept).expect("plans")), all);
    assert_eq!(bounds(numbers.sort(vec![key]).expect("plans")), all);
    // A function that may make more rows must be seen not to.
    let mapped = numbers.map(test_map("same")).expect("plans");
    assert_eq!(bounds(mapped.clone()), [(1000, vec![(0, 1)])]);
    let few = mapped.limit(7).expect("plans");
    assert_eq!(
        bounds(few.clone()),
        [(1000, vec![(0, 1)]), (7, Vec::new())],
        "what a limit lets pass does not hang on functions before it"
    );
    let behind = bounds(few.map(test_map("same")).expect("plans"));
    assert_eq!(behind[1], (7, vec![(1, 1)]));
    assert_eq!(bounds(few.union(&[&few]).expect("plans"))[0].0, 14);
}

#[test]
fn function_that_has_always_given_a_row_for_each_is_taken_to_go_on_so() {
    let table = || {
        let numbers = Dataset::range(1000).expect("plans");
        let mapped = numbers.map(test_map("same")).expect("plans");
        let judged = mapped
            .expect(expectation("id >= 0", share(0.01)))
            .expect("plans");
        let job = plan_job(&judged, &Sink::Consumer).expect("is cut");
        Expectations::new(&job, Some(1000))
    };
    let found = |rows: u64, given: u64, left_out: &[u64], is_last: bool| {
        let step = |rows_in, rows_out| StepReport {
            rows_in,
            rows_out,
            ..StepReport::default()
        };
        let mut report = report(given, given.min(60), is_last);
        report.judged[0].operator = 2;
        report.steps = vec![step(0, rows), step(rows, given), step(given, given)];
        report.failed = vec![ToldRows {
            step: 0,
            rows: left_out.to_vec(),
            ..ToldRows::default()
        }];
        report
    };
    // Of two inputs: the outcome of the first, and of the second.
    let outcomes = |first: Report, second: Report| {
        let mut all = table();
        all.begin(WORKER, (0, 0), false);
        let first = all.report(WORKER, &first);
        all.begin(WORKER, (0, 1), false);
        [first.is_err(), all.report(WORKER, &second).is_err()]
    };
    // While the first input is under way nothing is known of the function.
    assert_eq!(
        outcomes(found(100, 100, &[], false), found(50, 50, &[], false)),
        [false, false]
    );
    assert!(outcomes(found(100, 100, &[], true), found(50, 50, &[], false))[0]);
    assert!(
        outcomes(found(100, 98, &[3, 4], true), found(50, 48, &[], false))[0],
        "rows that it failed for are told"
    );
    // Of what is under way it may make more.
    let mut none = found(100, 100, &[], true);
    none.judged[0].violations = 0;
    assert_eq!(outcomes(none, found(500, 500, &[], false)), [false, false]);
    assert_eq!(
        outcomes(found(60, 60, &[], true), found(40, 40, &[], true)),
        [false, true],
        "it must have had enough rows"
    );
    for given in [99, 101] {
        let second = found(500, 500, &[], true);
        assert_eq!(
            outcomes(found(100, given, &[], true), second),
            [false, false]
        );
    }
    // An attempt that goes on with an input of another gets less than the whole.
    let mut all = table();
    all.begin(WORKER, (0, 0), false);
    all.forget(WORKER);
    all.begin(OTHER, (0, 0), false);
    assert!(all.report(OTHER, &found(100, 90, &[], true)).is_ok());
    all.begin(OTHER, (0, 1), false);
    assert!(all.report(OTHER, &found(100, 100, &[], true)).is_err());
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
