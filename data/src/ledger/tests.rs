//! What becomes of the output of jobs: SINK-1 (all-or-nothing), STG-1 (nothing-half-done).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::folder::{JOB_FILE, machine, unfinished_folder};
use super::leftovers;
use super::record::{Committing, Entry, Rename};
use super::*;
use crate::executor::pool::InProcessPool;
use crate::executor::{Execution, ExecutionOptions};
use crate::plan::Dataset;
use crate::plan::MapSpec;
use crate::sinks::{ParquetOutput, Sink};
use crate::testing::{ids, test_map, write_file};
use crate::wire::spec::WrittenFile;
use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

pub(super) fn output(folder: &Path, mode: SaveMode) -> ParquetOutput {
    ParquetOutput {
        mode,
        ..ParquetOutput::new(folder.display().to_string(), "new")
    }
}

fn run(dataset: &Dataset, output: ParquetOutput) -> Result<(), TaskFailure> {
    let pool = Box::new(InProcessPool::of_cpus(2));
    let sink = Sink::Parquet(output);
    let execution =
        Execution::start(dataset, &sink, pool, &ExecutionOptions::default()).expect("starts");
    execution.wait()
}

/// Looks into the folder as a job without an identity does, and returns what it is told.
pub(super) fn prepared(folder: &Path, mode: SaveMode) -> Vec<String> {
    let prepared = prepare_folder(Request {
        operation: "write_parquet",
        folder: &folder.display().to_string(),
        mode,
        identity: &[],
        resume: Resume::Auto,
    });
    prepared.expect("may write").expect("shall write").warnings
}

pub(super) fn read(folder: &Path) -> Vec<i64> {
    let dataset = Dataset::read_parquet(&[folder.display().to_string()]).expect("is readable");
    let pool = Box::new(InProcessPool::of_cpus(1));
    let execution = Execution::start(
        &dataset,
        &Sink::Consumer,
        pool,
        &ExecutionOptions::default(),
    )
    .expect("starts");
    ids(&execution.collect().expect("reads"))
}

pub(super) fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("lists");
    entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

pub(super) fn numbers(rows: u64, function: &str) -> Dataset {
    let spec = MapSpec {
        batch_rows: Some(2),
        ..test_map(function)
    };
    Dataset::range(rows)
        .expect("plans")
        .map(spec)
        .expect("maps")
}

/// A folder with a file of ten rows.
fn used_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_file(&folder.path().join("old.parquet"), 100, 10, 5);
    folder
}

#[test]
fn failed_job_leaves_nothing_and_keeps_what_it_should_have_replaced() {
    for mode in [SaveMode::Append, SaveMode::Overwrite] {
        let folder = used_folder();
        run(&numbers(40, "fail at 7"), output(folder.path(), mode)).expect_err("fails");
        assert_eq!(
            names(folder.path()),
            BTreeSet::from(["old.parquet".to_owned()])
        );
        assert_eq!(read(folder.path()), (100..110).collect::<Vec<_>>());
    }
}

#[test]
fn failed_job_removes_the_folder_that_it_has_made() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let target = parent.path().join("out");
    run(&numbers(40, "fail at 7"), output(&target, SaveMode::Append)).expect_err("fails");
    assert!(!target.exists());
}

#[test]
fn overwriting_puts_the_new_rows_in_the_place_of_the_old_ones() {
    let folder = used_folder();
    run(
        &numbers(40, "same"),
        output(folder.path(), SaveMode::Overwrite),
    )
    .expect("runs");
    assert_eq!(read(folder.path()), (0..40).collect::<Vec<_>>());
    assert!(
        names(folder.path())
            .iter()
            .all(|name| name.starts_with("new_"))
    );
}

#[test]
fn folder_is_overwritten_by_what_is_read_from_it() {
    let folder = used_folder();
    let dataset = Dataset::read_parquet(&[folder.path().display().to_string()]).expect("plans");
    let kept = dataset.filter("id < 105").expect("filters");
    run(&kept, output(folder.path(), SaveMode::Overwrite)).expect("runs");
    assert_eq!(read(folder.path()), (100..105).collect::<Vec<_>>());
}

/// A file cannot be made visible: the new ones go, the old ones come back.
#[test]
fn commit_that_fails_half_way_is_taken_back() {
    let folder = used_folder();
    let sink = Sink::Parquet(output(folder.path(), SaveMode::Overwrite));
    let mut open = sink.begin().expect("opens").expect("writes files");
    let hidden = folder.path().join(".unfinished-new/1-a.parquet");
    fs::write(&hidden, "rows").expect("writes");
    for (name, unfinished) in [
        ("new_a.parquet", hidden),
        ("new_b.parquet", folder.path().join("gone")),
    ] {
        open.add(
            0,
            [WrittenFile {
                path: folder.path().join(name).display().to_string(),
                unfinished: unfinished.display().to_string(),
                ..WrittenFile::default()
            }],
            Vec::new(),
            Vec::new(),
        );
    }
    let failure = close_together(vec![(open, None)], Ok(()));
    let failure = failure.expect_err("one file is not there").failure;
    assert!(failure.message.contains("make the files of"), "{failure}");
    assert_eq!(
        names(folder.path()),
        BTreeSet::from(["old.parquet".to_owned()])
    );
}

/// A driver that was killed cannot tidy up: the next job does, and says so.
#[test]
fn what_a_killed_job_has_left_is_named_and_taken_back() {
    let folder = used_folder();
    let job = folder.path().join(".unfinished-dead");
    fs::create_dir_all(job.join("old")).expect("makes folders");
    fs::write(job.join(JOB_FILE), machine()).expect("writes");
    fs::write(job.join("3-dead_000001_000000.parquet"), "half").expect("writes");
    fs::write(folder.path().join("dead_000000_000000.parquet"), "whole").expect("writes");
    fs::rename(
        folder.path().join("old.parquet"),
        job.join("old/old.parquet"),
    )
    .expect("moves");
    let mut book = book::Book::begin(folder.path(), "dead").expect("begins");
    let name = "dead_000000_000000.parquet";
    let committing = Committing {
        replaced: vec!["old.parquet".into()],
        renames: vec![Rename {
            unfinished: format!(".unfinished-dead/1-{name}"),
            path: name.to_owned(),
        }],
        ..Committing::default()
    };
    book.write(Entry::Committing(committing)).expect("writes");
    let warnings = prepared(folder.path(), SaveMode::Append);
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains(".unfinished-dead") && warnings[0].contains("1 were"),
        "{warnings:?}"
    );
    assert_eq!(
        names(folder.path()),
        BTreeSet::from(["old.parquet".to_owned()])
    );
}

#[test]
fn job_that_lives_or_is_of_another_machine_is_left_alone() {
    let folder = used_folder();
    let sink = Sink::Parquet(output(folder.path(), SaveMode::Append));
    let _living = sink.begin().expect("opens");
    let foreign = folder.path().join(".unfinished-foreign");
    fs::create_dir_all(&foreign).expect("makes a folder");
    fs::write(foreign.join(JOB_FILE), "another machine").expect("writes");
    let warnings = prepared(folder.path(), SaveMode::Overwrite);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(".unfinished-foreign"), "{warnings:?}");
    assert!(names(folder.path()).is_superset(&BTreeSet::from([
        ".unfinished-foreign".to_owned(),
        ".unfinished-new".to_owned()
    ])));
}

#[test]
fn folder_that_was_begun_by_a_dead_job_is_swept_and_that_of_a_living_one_is_not() {
    let folder = used_folder();
    let begun = |name: &str| {
        let begun = folder.path().join(format!(".begun-{name}"));
        fs::create_dir(&begun).expect("makes a folder");
        begun
    };
    begun("empty");
    fs::write(begun("unlocked").join(JOB_FILE), "").expect("writes");
    fs::write(begun("let-go").join(JOB_FILE), machine()).expect("writes");
    let living = fs::File::create(begun("living").join(JOB_FILE)).expect("creates");
    living.lock().expect("locks");
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for name in ["empty", "unlocked", "let-go", "living"] {
        let begun = fs::File::open(folder.path().join(format!(".begun-{name}")));
        let dated = begun.and_then(|begun| begun.set_modified(an_hour_ago));
        dated.expect("sets a time");
    }
    begun("young");
    let warnings = prepared(folder.path(), SaveMode::Append);
    assert_eq!(warnings, Vec::<String>::new());
    let left = [".begun-living", ".begun-young", "old.parquet"].map(str::to_owned);
    assert_eq!(names(folder.path()), BTreeSet::from(left));
}

/// Between making its folder and locking it, a living job looks like a dead one.
#[test]
fn job_whose_folder_is_swept_before_it_was_locked_begins_anew() {
    // A job that has lost its folder to each of these sweeps has beginnings left.
    const SWEEPS: usize = 50;
    let folder = used_folder();
    let path = folder.path().display().to_string();
    for job in 0..100 {
        // No two jobs have one prefix.
        let prefix = format!("new{job}");
        let job_folder = folder.path().join(unfinished_folder(&prefix));
        let sink = Sink::Parquet(ParquetOutput::new(path.clone(), prefix));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..SWEEPS {
                    // It may find the other in the middle of its end.
                    let _ = leftovers::clear(folder.path(), Duration::ZERO);
                }
            });
            let open = sink.begin().expect("begins");
            assert!(open.is_some() && job_folder.join(JOB_FILE).is_file());
        });
    }
    assert!(folder.path().join("old.parquet").is_file());
}

#[test]
fn job_that_cannot_begin_leaves_nothing() {
    let folder = used_folder();
    let taken = folder.path().join(".unfinished-new");
    fs::create_dir(&taken).expect("makes a folder");
    fs::write(taken.join("something"), "").expect("writes");
    let sink = Sink::Parquet(output(folder.path(), SaveMode::Append));
    let refused = sink.begin().err().expect("the name is taken");
    assert!(refused.os_error().is_some(), "{refused}");
    assert!(refused.to_string().starts_with("write into /"), "{refused}");
    let left = [".unfinished-new", "old.parquet"].map(str::to_owned);
    assert_eq!(names(folder.path()), BTreeSet::from(left));
}

/// An output that nobody waits for any more is not the whole.
#[test]
fn cancelled_job_makes_nothing_visible() {
    let folder = used_folder();
    let pool = Box::new(InProcessPool::of_cpus(1));
    let sink = Sink::Parquet(output(folder.path(), SaveMode::Overwrite));
    let dataset = numbers(2000, "same");
    let execution =
        Execution::start(&dataset, &sink, pool, &ExecutionOptions::default()).expect("starts");
    execution.cancel();
    // It may have been quicker than the word.
    match execution.wait() {
        Ok(()) => assert_eq!(read(folder.path()).len(), 2000),
        Err(failure) => {
            assert_eq!(failure.code, ErrorCode::Cancelled);
            assert_eq!(
                names(folder.path()),
                BTreeSet::from(["old.parquet".to_owned()])
            );
        }
    }
}

#[test]
fn files_have_the_rows_that_were_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let most = ParquetOutput {
        max_rows_per_file: Some(100),
        ..output(&folder.path().join("most"), SaveMode::Append)
    };
    run(&numbers(1000, "same"), most).expect("runs");
    let least = ParquetOutput {
        min_rows_per_file: Some(400),
        ..output(&folder.path().join("least"), SaveMode::Append)
    };
    run(&numbers(1000, "same"), least).expect("runs");
    let bytes = ParquetOutput {
        min_bytes_per_file: Some(1 << 40),
        ..output(&folder.path().join("bytes"), SaveMode::Append)
    };
    run(&numbers(1000, "same"), bytes).expect("runs");
    assert_eq!(read(&folder.path().join("bytes")).len(), 1000);
    let files = |name: &str| names(&folder.path().join(name)).len();
    assert_eq!(read(&folder.path().join("most")).len(), 1000);
    assert!((10..=20).contains(&files("most")), "{}", files("most"));
    assert_eq!(read(&folder.path().join("least")).len(), 1000);
    assert!(files("least") <= 3, "{}", files("least"));
    assert_eq!(files("bytes"), 1);
}

#[test]
fn folder_that_is_there_is_passed_over_or_refused_even_if_it_is_empty() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prepare = |folder: &str, mode| {
        prepare_folder(Request {
            operation: "write_parquet",
            folder,
            mode,
            identity: &[],
            resume: Resume::Auto,
        })
    };
    let path = folder.path().display().to_string();
    let passed = prepare(&path, SaveMode::Ignore).expect("may be there");
    assert_eq!(passed, None);
    let refusal = prepare(&path, SaveMode::Error).expect_err("is there");
    assert!(refusal.to_string().contains("although empty"), "{refusal}");
    let absent = format!("{path}/absent");
    for mode in [SaveMode::Ignore, SaveMode::Error] {
        assert!(prepare(&absent, mode).expect("may write").is_some());
    }
}

#[test]
fn result_without_rows_can_be_read_again_with_its_columns() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let nothing = Dataset::range(100)
        .expect("plans")
        .filter("id < 0")
        .expect("filters");
    run(&nothing, output(folder.path(), SaveMode::Append)).expect("runs");
    let path = folder.path().display().to_string();
    let dataset = Dataset::read_parquet(&[path]).expect("is readable");
    assert_eq!(dataset.known_columns(), ["id"]);
    assert_eq!(read(folder.path()), Vec::<i64>::new());
}

#[test]
fn job_whose_function_was_never_called_is_read_again_as_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let target = folder.path().join("out");
    run(&numbers(0, "same"), output(&target, SaveMode::Append)).expect("runs");
    let read = Dataset::read_parquet(&[target.display().to_string()]).expect("is Parquet");
    assert_eq!(read.schema().expect("is known").fields().len(), 0);
    let pool = Box::new(InProcessPool::of_cpus(1));
    let options = ExecutionOptions::default();
    let execution = Execution::start(&read, &Sink::Consumer, pool, &options).expect("starts");
    assert!(execution.collect().expect("reads").is_empty());
}
