//! Outputs of one job: SINK-1 (all-or-nothing) holds for all of them together, whenever the driver dies.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use aktis_worker::TaskFailure;

use super::book::Book;
use super::durable::{self, power};
use super::record::{Committing, Entry, Finished, Member, Told, path_of};
use super::tests::{names, numbers, output, prepared, read};
use super::{SaveMode, together};
use crate::executor::pool::InProcessPool;
use crate::executor::{Execution, ExecutionOptions, LettersFolder};
use crate::graph::JobOutput;
use crate::plan::{Dataset, OnError};
use crate::sinks::{ParquetOutput, Sink};
use crate::testing::{test_map, write_file};

const ROWS: i64 = 40;
const FOLDERS: [&str; 3] = ["a", "b", "c"];

/// The same rows into three folders, one of which has other rows, as one job.
fn run(parent: &Path, function: &str) -> Result<(), TaskFailure> {
    let rows = numbers(ROWS as u64, function);
    let one = |name: &&str| {
        let mode = if *name == "b" {
            SaveMode::Overwrite
        } else {
            SaveMode::Append
        };
        let output = ParquetOutput {
            prefix: format!("new{name}"),
            ..output(&parent.join(name), mode)
        };
        JobOutput::new(rows.clone(), Sink::Parquet(output))
    };
    let outputs: Vec<JobOutput> = FOLDERS.iter().map(one).collect();
    let pool = Box::new(InProcessPool::of_cpus(2));
    let options = ExecutionOptions::default();
    let execution = Execution::start_all(&outputs, pool, &options).expect("starts");
    let outcome = execution.wait();
    assert_eq!(
        execution.stats().stages[0].name,
        "Read->same".replace("same", function)
    );
    outcome
}

fn with_old_rows(parent: &Path) {
    for name in FOLDERS {
        fs::create_dir(parent.join(name)).expect("makes a folder");
    }
    write_file(&parent.join("b/old.parquet"), 100, 10, 5);
}

/// Whether the job's rows are there: in all folders or in none; hidden is nothing.
fn is_there(parent: &Path) -> bool {
    let rows = |name: &str| {
        let folder = parent.join(name);
        let mut names = names(&folder);
        let is_left = |name: &String| name.starts_with(".unfinished-");
        assert!(!names.iter().any(is_left), "{names:?}");
        names.retain(|name| !name.starts_with(['.', '_']));
        if names.is_empty() {
            return Vec::new();
        }
        let mut rows = read(&folder);
        rows.sort_unstable();
        rows
    };
    let new: Vec<i64> = (0..ROWS).collect();
    let is_there = rows("a") == new;
    let old: Vec<i64> = (100..110).collect();
    let (a, b) = if is_there {
        (new.clone(), new)
    } else {
        (Vec::new(), old)
    };
    assert_eq!((rows("a"), rows("b"), rows("c")), (a.clone(), b, a));
    is_there
}

#[test]
fn outputs_of_a_job_are_there_together_or_not_at_all() {
    let parent = tempfile::tempdir().expect("a folder");
    with_old_rows(parent.path());
    run(parent.path(), "fail at 7").expect_err("fails");
    assert!(!is_there(parent.path()));
    run(parent.path(), "same").expect("runs");
    assert!(is_there(parent.path()));
}

/// The last one cannot be made visible, when the others are: all are taken back, and the failed one is named.
#[test]
fn commit_that_fails_takes_all_outputs_back() {
    let parent = tempfile::tempdir().expect("a folder");
    with_old_rows(parent.path());
    // A folder that is not empty lies where the first file of `c` is to be.
    let obstacle = parent.path().join("c/newc_000000_000000.parquet/x");
    fs::create_dir_all(obstacle).expect("makes");
    let failure = run(parent.path(), "same").expect_err("fails");
    assert!(failure.message.contains("/c visible"), "{failure}");
    fs::remove_dir_all(parent.path().join("c/newc_000000_000000.parquet")).expect("removes");
    assert!(!is_there(parent.path()));
}

/// At every moment at which the disk took something: whoever writes there next, in whichever folder first, finds all or nothing; and
/// running again gives the rows of a clean run.
#[test]
fn driver_that_dies_between_two_commits_leaves_all_outputs_or_none() {
    let (parent, copies) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let parent = parent.path().join("outputs");
    fs::create_dir(&parent).expect("makes a folder");
    with_old_rows(&parent);
    power::watch(&parent, copies.path());
    durable::sync_file(&parent.join("b/old.parquet")).expect("syncs");
    for folder in [&parent.join("b"), &parent] {
        durable::sync_folder(folder).expect("syncs");
    }
    let before = fs::read_dir(copies.path()).expect("lists").count();
    run(&parent, "same").expect("runs");
    let mut copies = power::stop_watching(&parent);
    copies.sort();
    let mut moments = [0, 0];
    for (number, copy) in copies.iter().enumerate().skip(before) {
        let mut order = FOLDERS;
        order.rotate_left(number / 2 % FOLDERS.len());
        let before: Vec<BTreeSet<String>> = order.map(|name| names(&copy.join(name))).into();
        let found = order.map(|name| prepared(&copy.join(name), SaveMode::Append));
        println!(
            "{}: {order:?} had {before:?}, found {found:?}",
            copy.display()
        );
        let was_there = is_there(copy);
        moments[usize::from(was_there)] += 1;
        if !was_there {
            run(copy, "same").expect("runs");
            assert!(is_there(copy));
        }
    }
    assert!(moments[0] > 10 && moments[1] > 1, "{moments:?}");
}

/// The disk takes everything but the last word: the job has failed, so nothing is there.
#[test]
fn decision_that_the_disk_does_not_take_was_none() {
    let parent = tempfile::tempdir().expect("a folder");
    with_old_rows(parent.path());
    // Once for the names that change.
    power::refuse(&path_of(&parent.path().join("a"), "newa"), 1);
    let failure = run(parent.path(), "same").expect_err("fails");
    assert!(failure.message.contains("/a visible"), "{failure}");
    assert!(!is_there(parent.path()));
}

/// Rows that were put aside elsewhere are there with the output that they were on the way to, or not at all, whenever the driver dies.
#[test]
fn dead_letters_elsewhere_are_there_with_their_output_or_not_at_all() {
    let (parent, copies) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let parent = parent.path().join("outputs");
    for folder in [&parent, &parent.join("out"), &parent.join("dead")] {
        fs::create_dir(folder).expect("makes a folder");
    }
    power::watch(&parent, copies.path());
    durable::sync_folder(&parent).expect("syncs");
    let mut spec = test_map("fail at 7");
    spec.failures.on_error = Some(OnError::DeadLetter);
    spec.batch_rows = Some(2);
    let rows = Dataset::range(ROWS as u64).and_then(|all| all.map(spec));
    let output = JobOutput {
        letters_folder: Some(LettersFolder {
            folder: parent.join("dead").display().to_string(),
            prefix: "dead".to_owned(),
        }),
        ..JobOutput::new(
            rows.expect("plans"),
            Sink::Parquet(output(&parent.join("out"), SaveMode::Append)),
        )
    };
    let pool = Box::new(InProcessPool::of_cpus(2));
    let execution = Execution::start_all(&[output], pool, &ExecutionOptions::default());
    execution.expect("starts").wait().expect("runs");
    let mut moments = [0, 0];
    for (number, copy) in power::stop_watching(&parent).iter().enumerate() {
        let mut order = ["out", "dead"];
        order.rotate_left(number % 2);
        for name in order.iter().filter(|name| copy.join(name).is_dir()) {
            prepared(&copy.join(name), SaveMode::Append);
        }
        let seen = order.map(|name| {
            let names = fs::read_dir(copy.join(name))
                .into_iter()
                .flatten()
                .flatten();
            let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.filter(|name| !name.starts_with(['.', '_'])).count()
        });
        assert_eq!(seen[0] > 0, seen[1] > 0, "{}", copy.display());
        moments[usize::from(seen[0] > 0)] += 1;
    }
    assert!(moments[0] > 5 && moments[1] > 1, "{moments:?}");
}

/// A run that goes on with a job has its prefix, and other dead letters: those of the run that died count no more.
#[test]
fn output_is_final_where_that_which_decides_says_so_of_it() {
    let parent = tempfile::tempdir().expect("a folder");
    let [main, dead] = ["main", "dead"].map(|name| parent.path().join(name));
    for folder in [&main, &dead] {
        fs::create_dir(folder).expect("makes a folder");
    }
    let member = |folder: &str, prefix: &str| Member {
        folder: format!("../{folder}"),
        prefix: prefix.to_owned(),
    };
    let mut of_first = Book::begin(&dead, "first").expect("begins");
    let committing = Committing {
        decided_by: Some(member("main", "job")),
        ..Committing::default()
    };
    let written = of_first.write(Entry::Committing(committing));
    written.expect("writes");
    let mut decider = Book::begin(&main, "job").expect("begins");
    let mut decide = |decides_for: &str| {
        let committing = Committing {
            decides_for: vec![member("dead", decides_for)],
            ..Committing::default()
        };
        let entries = [
            Entry::Undone(Finished {}),
            Entry::Committing(committing),
            Entry::Finished(Finished {}),
        ];
        for entry in entries {
            decider.write(entry).expect("writes");
        }
    };
    let is_final = || {
        let told = Told::read(&path_of(&dead, "first")).expect("reads");
        together::is_final(&told, &dead, "first").expect("reads")
    };
    decide("second");
    assert!(!is_final());
    decide("first");
    assert!(is_final());
}

#[test]
fn way_from_one_folder_to_another_leads_there() {
    let parent = tempfile::tempdir().expect("a folder");
    for folder in ["x/y", "x/z/a"] {
        fs::create_dir_all(parent.path().join(folder)).expect("makes");
    }
    let (one, other) = (parent.path().join("x/y"), parent.path().join("x/z/a"));
    let way = together::way(&one, &other).expect("are there");
    assert_eq!(way, Path::new("../z/a"));
    assert_eq!(together::way(&one, &one).expect("is there"), Path::new(""));
}
