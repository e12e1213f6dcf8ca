//! Jobs in legs that are taken up: whatever is left of them, the rows are those of a clean run, and what a leg has made is not made again.

use std::fs;
use std::path::{Path, PathBuf};

use aktis_worker::TaskFailure;
use arrow::array::{Array, AsArray, RecordBatch};

use super::durable::power;
use super::record::{LEDGERS, Told};
use super::resume_tests::{check_rows, copy_into, read, traits};
use super::*;
use crate::executor::pool::InProcessPool;
use crate::executor::{Execution, ExecutionOptions};
use crate::graph::{JobOutput, KeptFunctions};
use crate::plan::{Compute, Dataset, Expectation, Expression, MapSpec, MostViolations, OnError};
use crate::sinks::{ParquetOutput, Sink};
use crate::stats::{ExecutionStats, ExpectationVerdict};
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

/// A function, what is expected of its rows, a shuffle, and another function.
#[derive(Clone)]
struct Job {
    prefix: String,
    first: MapSpec,
    /// How many may violate that they are not 7.
    expected: Option<u64>,
    second: MapSpec,
}

impl Job {
    fn of(first: &str, second: &str) -> Self {
        let model = |name: &str, definition: &str| MapSpec {
            name: name.to_owned(),
            compute: Compute::actors().with_workers(1, Some(1)),
            batch_rows: Some(2),
            ..test_map(definition)
        };
        Self {
            prefix: format!("job{first}{second}").replace(' ', ""),
            first: model("first", first),
            expected: None,
            second: model("second", second),
        }
    }

    /// The same, whose functions put rows aside that they fail for, as many as that.
    fn losing(mut self, most: u64) -> Self {
        for spec in [&mut self.first, &mut self.second] {
            spec.failures.on_error = Some(OnError::DeadLetter);
            spec.failures.max_errors = Some(most);
        }
        self
    }

    fn expecting(self, most: u64) -> Self {
        Self {
            expected: Some(most),
            ..self
        }
    }

    fn first(&self) -> Dataset {
        let rows = Dataset::range(ROWS as u64).expect("plans");
        let made = rows.map(self.first.clone()).expect("plans");
        let Some(most) = self.expected else {
            return made;
        };
        let expectation = Expectation {
            name: "not seven".to_owned(),
            expression: Expression::from("id <> 7"),
            most: MostViolations::Rows(most),
            only_warns: false,
        };
        made.expect(expectation).expect("plans")
    }

    fn second(&self, first: &Dataset) -> Dataset {
        let shuffled = first.shuffle(None).expect("plans");
        shuffled.map(self.second.clone()).expect("plans")
    }

    fn run(&self, folder: &Path) -> Run {
        run_into(&[folder.to_owned()], self, vec![self.second(&self.first())])
    }

    /// Into two folders: what both functions have made, and what the first has, of which the second makes other rows.
    fn run_together(&self, parent: &Path) -> Run {
        let first = self.first();
        let rows = first.map(self.second.clone()).expect("plans");
        let folders = ["a", "b"].map(|name| parent.join(name));
        run_into(&folders, self, vec![self.second(&first), rows])
    }
}

/// How many legs were finished before, how it has ended, and what it has done.
struct Run {
    legs_done: u64,
    outcome: Result<(), TaskFailure>,
    stats: ExecutionStats,
}

fn run_into(folders: &[PathBuf], job: &Job, datasets: Vec<Dataset>) -> Run {
    let taken = prepare(&folders[0], &traits()).takes_up;
    let legs_done = taken.as_ref().map_or(0, |job| job.legs_done);
    let takes_up = taken.is_some();
    let prefix = taken.map_or_else(|| job.prefix.clone(), |job| job.prefix);
    let outputs = datasets.into_iter().enumerate().map(|(place, dataset)| {
        let identity = JobIdentity {
            traits: traits(),
            takes_up,
            together: (folders.len() > 1).then(|| OneOfSeveral {
                place,
                folders: folders.to_vec(),
            }),
            kept: KeptFunctions::Expensive,
        };
        let folder = folders[place].display().to_string();
        let output = ParquetOutput {
            identity: Some(identity),
            ..ParquetOutput::new(folder, prefix.clone())
        };
        JobOutput {
            parts: Some(12),
            ..JobOutput::new(dataset, Sink::Parquet(output))
        }
    });
    let options = ExecutionOptions {
        keep_order: false,
        block_bytes: Some(4 * 8),
        ..ExecutionOptions::default()
    };
    let pool = Box::new(InProcessPool::of_cpus(4));
    let execution = match Execution::start_all(&outputs.collect::<Vec<_>>(), pool, &options) {
        Ok(execution) => execution,
        Err(error) => panic!("{error}"),
    };
    let outcome = execution.wait();
    Run {
        legs_done,
        outcome,
        stats: execution.stats(),
    }
}

/// Runs a job with a function before a shuffle and one behind it. Returns how many legs were finished before, and the stages that ran.
fn run(folder: &Path, first: &str, second: &str) -> (u64, Result<Vec<String>, TaskFailure>) {
    let run = Job::of(first, second).run(folder);
    let names = run.stats.stages.into_iter().map(|stage| stage.name);
    let names: Vec<String> = names.collect();
    (run.legs_done, run.outcome.map(|()| names))
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
        (2, vec!["Read->second->Write".to_owned()])
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

/// LED-1 (synced-before-it-counts), SINK-1 (all-or-nothing) of a job in legs, the first of which puts a row aside: at every moment at
/// which the disk took something.
#[test]
fn power_cut_at_any_moment_gives_the_rows_of_a_clean_run() {
    let (parent, copies) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let folder = parent.path().join("out");
    fs::create_dir(&folder).expect("makes a folder");
    let losing = |second: &str| {
        let mut job = Job::of("fail at 107", second).losing(1);
        job.second.failures.on_error = Some(OnError::Raise);
        job
    };
    let check_all = |folder: &Path| {
        assert_eq!(take_letters(folder), 1);
        check_rows(folder, (0..ROWS).filter(|&id| id != 107).collect());
    };
    power::watch(&folder, copies.path());
    run(&folder, "fail at 7", "same").1.expect_err("fails");
    let stopped = losing("fail at 7").run(&folder);
    stopped.outcome.expect_err("fails");
    losing("same").run(&folder).outcome.expect("runs");
    let copies = power::different(power::stop_watching(&folder));
    check_all(&folder);
    let mut most_legs = 0;
    for copy in copies {
        let told = |ledger: fs::DirEntry| Told::read(&ledger.path()).expect("reads");
        let finished = fs::read_dir(copy.join(LEDGERS))
            .is_ok_and(|ledgers| ledgers.flatten().map(told).any(|told| told.is_finished));
        if finished {
            prepare(&copy, &[]);
        } else {
            let run = losing("same").run(&copy);
            run.outcome.expect("runs");
            most_legs = most_legs.max(run.legs_done);
        }
        check_all(&copy);
    }
    assert_eq!(most_legs, 2);
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

/// What refuses to run a job, with the text of that.
fn refusal(run: impl FnOnce() -> Run + std::panic::UnwindSafe) -> String {
    let refused = std::panic::catch_unwind(|| drop(run())).expect_err("is refused");
    refused.downcast_ref::<String>().expect("is text").clone()
}

/// The rows that were put aside beside an output, which are taken away. None names a file of a leg, which is gone.
fn take_letters(folder: &Path) -> usize {
    let folder = folder.join("_dead_letters");
    let letters = read(&folder);
    for batch in &letters {
        let position = batch.column_by_name("position").expect("is told");
        let file = position
            .as_struct()
            .column_by_name("file")
            .expect("is told");
        assert_eq!(file.null_count(), file.len());
    }
    fs::remove_dir_all(folder).expect("is there");
    letters.iter().map(RecordBatch::num_rows).sum()
}

/// Of a leg that an earlier run has finished, and of the last one.
#[test]
fn rows_that_legs_have_put_aside_are_there_once_and_count_against_limits() {
    let folder = tempfile::tempdir().expect("a folder");
    let losing = |second: &str, most| Job::of("fail at 7", second).losing(most);
    let mut stopped = losing("fail at 107", 1);
    stopped.second.failures.on_error = Some(OnError::Raise);
    let run = stopped.run(folder.path());
    run.outcome.expect_err("fails behind the shuffle");
    let (copy, other) = (tempfile::tempdir(), tempfile::tempdir());
    let [copy, other] = [copy, other].map(|folder| folder.expect("a folder"));
    for copy in [copy.path(), other.path()] {
        copy_into(folder.path(), copy);
    }
    // Two legs are finished, in which no row may have failed any more.
    let run = losing("same", 0).run(folder.path());
    let failure = run.outcome.expect_err("one has failed");
    assert!(failure.message.contains("max_errors=0"), "{failure}");
    assert_eq!(run.legs_done, 2);
    let run = losing("fail at 107", 1).run(folder.path());
    run.outcome.expect("one row of each may fail");
    let failed = run.stats.stages.iter().flat_map(|stage| &stage.operators);
    let failed: Vec<u64> = failed.map(|operator| operator.rows_failed).collect();
    assert_eq!(failed.iter().sum::<u64>(), 2, "{failed:?}");
    assert_eq!(take_letters(folder.path()), 2);
    let wanted = (0..ROWS).filter(|id| ![7, 107].contains(id)).collect();
    check_rows(folder.path(), wanted);
    // What somebody has removed of it is missed.
    let leg = LegFolders::of(copy.path(), "jobfailat7failat107").path(0);
    fs::remove_dir_all(leg.join("_dead_letters")).expect("is there");
    fs::remove_file(
        LegFolders::of(other.path(), "jobfailat7failat107")
            .path(0)
            .join("found"),
    )
    .expect("is there");
    for copy in [copy.path(), other.path()] {
        let said = refusal(|| losing("same", 1).run(copy));
        assert!(said.contains("somebody has removed a part of it"), "{said}");
    }
}

#[test]
fn what_is_expected_counts_rows_of_finished_legs() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = Job::of("same", "fail at 107")
        .expecting(1)
        .run(folder.path());
    run.outcome.expect_err("fails behind the shuffle");
    let expected = |run: &Run| {
        let found: Vec<_> = run.stats.expectations().cloned().collect();
        let [one] = found.as_slice() else {
            panic!("{found:?}");
        };
        (one.rows, one.violations, one.verdict)
    };
    let wanted = |verdict| (ROWS as u64, 1, verdict);
    let run = Job::of("same", "same").expecting(0).run(folder.path());
    let failure = run.outcome.as_ref().expect_err("one does not hold");
    assert!(failure.message.contains("max_violations=0"), "{failure}");
    assert_eq!(expected(&run), wanted(ExpectationVerdict::Broken));
    let run = Job::of("fail at 7", "same").expecting(1).run(folder.path());
    assert_eq!(expected(&run), wanted(ExpectationVerdict::Held));
    run.outcome.expect("one may not hold");
    assert_eq!(run.legs_done, 2);
    check_whole(folder.path());
}

/// What both outputs are made of is a leg, and so is what each has for itself.
#[test]
fn outputs_of_one_job_in_legs_are_there_together_and_no_function_is_called_again() {
    let parent = tempfile::tempdir().expect("a folder");
    let losing = |first: &str, second: &str| Job::of(first, second).losing(1);
    let mut stopped = losing("fail at 7", "fail at 107");
    stopped.second.failures.on_error = Some(OnError::Raise);
    let run = stopped.run_together(parent.path());
    run.outcome.expect_err("fails behind the shuffle");
    for name in ["a", "b"] {
        let seen = fs::read_dir(parent.path().join(name)).expect("lists");
        let mut seen = seen.map(|entry| entry.expect("reads").file_name());
        assert!(!seen.any(|name| !name.to_string_lossy().starts_with(['.', '_'])));
    }
    // The first function would fail if it were called.
    let run = losing("fail", "same").run_together(parent.path());
    run.outcome.expect("runs");
    assert!(run.legs_done > 0);
    for name in ["a", "b"] {
        let folder = parent.path().join(name);
        assert_eq!(take_letters(&folder), 1);
        check_rows(&folder, (0..ROWS).filter(|&id| id != 7).collect());
    }
}
