//! Jobs in legs that are taken up: whatever is left of them, the rows are those of a clean run, and what a leg has made is not made again.

use std::fs;
use std::path::{Path, PathBuf};

use aktis_worker::TaskFailure;

use super::resume_tests::{check_rows, copy_into, traits};
use super::*;
use crate::executor::pool::InProcessPool;
use crate::executor::{Execution, ExecutionOptions};
use crate::graph::{JobOutput, KeptFunctions};
use crate::plan::{Compute, Dataset, MapSpec};
use crate::sinks::{ParquetOutput, Sink};
use crate::testing::test_map;

const ROWS: i64 = 120;

fn prepare(folder: &Path, traits: &[Trait]) -> PreparedFolder {
    let prepared = prepare_folder(Request {
        operation: "write_parquet",
        folder: &folder.display().to_string(),
        mode: SaveMode::Append,
        identity: traits,
        resume: Resume::Auto,
    });
    prepared.expect("may write").expect("shall write")
}

/// Runs a job with a function before a shuffle and one behind it. Returns how many legs were finished before, and the stages that ran.
fn run(folder: &Path, first: &str, second: &str) -> (u64, Result<Vec<String>, TaskFailure>) {
    let taken = prepare(folder, &traits()).takes_up;
    let legs_done = taken.as_ref().map_or(0, |job| job.legs_done);
    let identity = JobIdentity {
        traits: traits(),
        takes_up: taken.is_some(),
        together: None,
        kept: KeptFunctions::Expensive,
    };
    let prefix = taken.map_or_else(
        || format!("job{first}{second}").replace(' ', ""),
        |job| job.prefix,
    );
    let output = ParquetOutput {
        identity: Some(identity),
        ..ParquetOutput::new(folder.display().to_string(), prefix)
    };
    let model = |name: &str| MapSpec {
        compute: Compute::actors().with_workers(1, Some(1)),
        batch_rows: Some(2),
        ..test_map(name)
    };
    let rows = Dataset::range(ROWS as u64).expect("plans");
    let shuffled = rows.map(model(first)).and_then(|made| made.shuffle(None));
    let dataset = shuffled.and_then(|made| made.map(model(second)));
    let output = JobOutput {
        parts: Some(12),
        ..JobOutput::new(dataset.expect("plans"), Sink::Parquet(output))
    };
    let options = ExecutionOptions {
        keep_order: false,
        block_bytes: Some(4 * 8),
        ..ExecutionOptions::default()
    };
    let pool = Box::new(InProcessPool::of_cpus(4));
    let execution = match Execution::start_all(&[output], pool, &options) {
        Ok(execution) => execution,
        Err(error) => panic!("{error}"),
    };
    let outcome = execution.wait();
    let stages = execution.stats().stages.into_iter();
    let names = stages.map(|stage| stage.name).collect();
    (legs_done, outcome.map(|()| names))
}

fn check_whole(folder: &Path) {
    check_rows(folder, (0..ROWS).collect());
}

fn ledgers_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("lists").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(ledgers_below(&path));
        } else if path.extension().is_some_and(|kind| kind == "ledger") {
            found.push(path);
        }
    }
    found
}

#[test]
fn finished_legs_are_not_run_again_and_their_files_go_when_nobody_reads_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_, outcome) = run(folder.path(), "same", "fail at 107");
    outcome.expect_err("fails");
    let job = LegFolders::of(folder.path(), "jobsamefailat107");
    let files = |leg| job.files(leg).expect("lists").len();
    assert_eq!((files(0), files(1) > 0), (0, true));
    let (legs_done, outcome) = run(folder.path(), "fail at 7", "same");
    // The first function would fail if it were called.
    assert_eq!(
        (legs_done, outcome.expect("runs")),
        (2, vec!["Read->same->Write".to_owned()])
    );
    check_whole(folder.path());
}

#[test]
fn ledgers_that_are_cut_off_anywhere_give_the_rows_of_a_clean_run() {
    for (first, second) in [("fail at 107", "same"), ("same", "fail at 107")] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        run(folder.path(), first, second).1.expect_err("fails");
        for ledger in ledgers_below(folder.path()) {
            let length = fs::metadata(&ledger).expect("is there").len();
            for cut in (0..length).step_by(length as usize / 12) {
                let copy = tempfile::tempdir().expect("a temporary folder");
                copy_into(folder.path(), copy.path());
                let place = ledger.strip_prefix(folder.path()).expect("is in it");
                let file = fs::File::options()
                    .write(true)
                    .open(copy.path().join(place));
                file.expect("opens").set_len(cut).expect("cuts");
                run(copy.path(), "same", "same").1.expect("runs");
                check_whole(copy.path());
            }
        }
    }
}

#[test]
fn leg_that_somebody_has_removed_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(folder.path(), "same", "fail at 107")
        .1
        .expect_err("fails");
    let job = LegFolders::of(folder.path(), "jobsamefailat107");
    fs::remove_dir_all(job.path(1)).expect("is there");
    let refused = std::panic::catch_unwind(|| run(folder.path(), "same", "same"));
    let said = refused.expect_err("is refused");
    let said = said.downcast_ref::<String>().expect("is text");
    assert!(said.contains("somebody has removed a part of it"), "{said}");
}
