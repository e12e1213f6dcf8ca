//! What expectations have found counts once, whichever run has found it, in jobs of one stage and of several.

use std::fs;
use std::path::Path;

use aktis_worker::TaskFailure;

use super::record::LEDGERS;
use super::resume_tests::{check_rows, copy, ledger_of, told, traits};
use super::*;
use crate::executor::pool::InProcessPool;
use crate::executor::{Execution, ExecutionOptions};
use crate::graph::{JobOutput, KeptFunctions};
use crate::plan::{Dataset, Expectation, Expression, MapSpec, MostViolations};
use crate::sinks::{ParquetOutput, Sink};
use crate::stats::{ExecutionStats, ExpectationVerdict};
use crate::testing::test_map;

const ROWS: u64 = 120;

fn expected(dataset: &Dataset, expression: &str, most: u64) -> Dataset {
    let expectation = Expectation {
        name: expression.to_owned(),
        expression: Expression::from(expression),
        most: MostViolations::Rows(most),
        only_warns: false,
    };
    dataset.expect(expectation).expect("plans")
}

/// Rows are judged as they are read, between two functions and behind them.
fn judged_rows(last: &str, stages: usize) -> Dataset {
    let map = |dataset: &Dataset, function: &str, workers| {
        let mut spec = MapSpec {
            batch_rows: Some(2),
            ..test_map(function)
        };
        // Another number of workers makes another stage.
        spec.compute.max_workers = workers;
        dataset.map(spec).expect("maps")
    };
    let read = Dataset::range(ROWS).expect("plans");
    let first = map(&expected(&read, "id <> 7", 1), "same", None);
    let between = expected(&first, "id % 10 <> 0", 12);
    let last = map(&between, last, (stages > 1).then_some(2));
    expected(&last, "id < 119", 1)
}

fn run(folder: &Path, last: &str, stages: usize) -> (Result<(), TaskFailure>, ExecutionStats) {
    let prepared = prepare_folder(Request {
        operation: "write_parquet",
        folder: &folder.display().to_string(),
        mode: SaveMode::Append,
        identity: &traits(),
        resume: Resume::Auto,
    });
    let prepared = prepared.expect("may write").expect("shall write");
    let identity = JobIdentity {
        traits: traits(),
        takes_up: prepared.takes_up.is_some(),
        together: None,
        kept: KeptFunctions::default(),
    };
    let prefix = prepared.takes_up.map(|job| job.prefix);
    let prefix = prefix.unwrap_or_else(|| format!("job{last}").replace(' ', ""));
    let output = ParquetOutput {
        identity: Some(identity),
        ..ParquetOutput::new(folder.display().to_string(), prefix)
    };
    let output = JobOutput {
        parts: Some(12),
        ..JobOutput::new(judged_rows(last, stages), Sink::Parquet(output))
    };
    let options = ExecutionOptions {
        block_bytes: Some(4 * 8),
        ..ExecutionOptions::default()
    };
    let pool = Box::new(InProcessPool::of_cpus(2 * stages as u16));
    let execution = Execution::start_all(&[output], pool, &options).expect("starts");
    (execution.wait(), execution.stats())
}

/// A job that has failed, and whose ledger tells what was judged.
fn unfinished(stages: usize) -> tempfile::TempDir {
    loop {
        let folder = tempfile::tempdir().expect("a temporary folder");
        run(folder.path(), "fail at 107", stages)
            .0
            .expect_err("fails");
        let is_kept = folder.path().join(LEDGERS).is_dir();
        if is_kept && !told(folder.path()).judged.is_empty() {
            return folder;
        }
    }
}

fn check_goes_on(folder: &Path, stages: usize) {
    let (outcome, stats) = run(folder, "same", stages);
    outcome.expect("no more rows violate it than may");
    let found = stats.expectations();
    let found: Vec<_> = found
        .map(|one| (one.rows, one.violations, one.verdict))
        .collect();
    let held = |violations| (ROWS, violations, ExpectationVerdict::Held);
    assert_eq!(found, [held(1), held(12), held(1)]);
    check_rows(folder, (0..ROWS as i64).collect());
}

#[test]
fn what_was_judged_counts_once_wherever_the_ledger_is_cut_off() {
    for stages in [1, 2] {
        let folder = unfinished(stages);
        let length = fs::metadata(ledger_of(folder.path()));
        let length = length.expect("is there").len();
        for cut in (0..length).step_by(length as usize / 12).chain([length]) {
            let copy = copy(folder.path());
            let file = fs::File::options().write(true).open(ledger_of(copy.path()));
            file.expect("opens").set_len(cut).expect("cuts");
            check_goes_on(copy.path(), stages);
        }
    }
}

/// A machine with less room runs stages in the same workers, one with more runs them apart.
#[test]
fn what_was_judged_counts_in_other_stages_than_it_was_judged_in() {
    for (before, after) in [(1, 2), (2, 1)] {
        check_goes_on(unfinished(before).path(), after);
    }
}
