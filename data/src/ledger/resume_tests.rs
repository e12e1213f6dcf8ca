//! Jobs that are taken up: whatever is left of them, the rows are those of a clean run.

use std::fs;
use std::path::{Path, PathBuf};

use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use super::durable::power;
use super::record::{LEDGERS, Trait};
use super::*;
use crate::block;
use crate::executor::pool::InProcessPool;
use crate::executor::{Execution, ExecutionOptions};
use crate::graph::{JobOutput, KeptFunctions};
use crate::plan::{Dataset, MapSpec, OnError};
use crate::sinks::{ParquetOutput, Sink};
use crate::testing::{ids, test_map};
use crate::wire::spec::WrittenFile;

const ROWS: i64 = 120;

pub(super) fn traits() -> Vec<Trait> {
    vec![Trait::new("the function", "1")]
}

fn prepare(folder: &Path, traits: &[Trait], resume: Resume) -> PreparedFolder {
    let prepared = prepare_folder(Request {
        operation: "write_parquet",
        folder: &folder.display().to_string(),
        mode: SaveMode::Append,
        identity: traits,
        resume,
    });
    prepared.expect("may write").expect("shall write")
}

/// Runs the job, or goes on with it. Returns how many inputs were done before.
fn run(folder: &Path, function: &str, resume: Resume) -> (u64, Result<(), TaskFailure>) {
    run_stages(folder, function, resume, 1)
}

/// The same of a job of so many stages, whose last one calls the function.
fn run_stages(
    folder: &Path,
    function: &str,
    resume: Resume,
    stages: usize,
) -> (u64, Result<(), TaskFailure>) {
    let steps = (0..stages).map(|stage| {
        let is_last = stage + 1 == stages;
        let mut spec = test_map(if is_last { function } else { "same" });
        // Another number of workers makes another stage.
        spec.compute.max_workers = (stage % 2 == 1).then_some(2);
        spec
    });
    run_steps(folder, &format!("job{function}"), steps.collect(), resume)
}

/// The same of a job of these steps.
fn run_steps(
    folder: &Path,
    name: &str,
    steps: Vec<MapSpec>,
    resume: Resume,
) -> (u64, Result<(), TaskFailure>) {
    let prepared = prepare(folder, &traits(), resume);
    let (prefix, done) = match prepared.takes_up {
        Some(job) => (Some(job.prefix), job.done),
        None => (None, 0),
    };
    let identity = JobIdentity {
        traits: traits(),
        takes_up: prefix.is_some(),
        together: None,
        kept: KeptFunctions::default(),
    };
    let prefix = prefix.unwrap_or_else(|| name.replace(' ', ""));
    let output = ParquetOutput {
        identity: Some(identity),
        ..ParquetOutput::new(folder.display().to_string(), prefix)
    };
    let mut dataset = Dataset::range(ROWS as u64).expect("plans");
    let stages = steps.len();
    for step in steps {
        let spec = MapSpec {
            batch_rows: Some(2),
            ..step
        };
        dataset = dataset.map(spec).expect("maps");
    }
    let output = JobOutput {
        parts: Some(12),
        ..JobOutput::new(dataset, Sink::Parquet(output))
    };
    let options = ExecutionOptions {
        // Several of them for each input.
        block_bytes: Some(4 * 8),
        ..ExecutionOptions::default()
    };
    let pool = Box::new(InProcessPool::of_cpus(2 * stages as u16));
    let execution = Execution::start_all(&[output], pool, &options);
    (done, execution.expect("starts").wait())
}

fn check_whole(folder: &Path) {
    check_rows(folder, (0..ROWS).collect());
}

pub(super) fn check_rows(folder: &Path, wanted: Vec<i64>) {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("lists")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    // What a job had begun and not locked may be that of one that lives: it stays for a minute.
    names.retain(|name| !name.starts_with(".begun-"));
    assert!(
        names.iter().all(|name| !name.starts_with(['.', '_'])),
        "{names:?}"
    );
    let mut ids = ids(&read(folder));
    ids.sort_unstable();
    assert_eq!(ids, wanted);
}

pub(super) fn read(folder: &Path) -> Vec<RecordBatch> {
    let dataset = Dataset::read_parquet(&[folder.display().to_string()]).expect("is readable");
    let pool = Box::new(InProcessPool::of_cpus(1));
    let options = ExecutionOptions::default();
    let execution = Execution::start(&dataset, &Sink::Consumer, pool, &options).expect("starts");
    execution.collect().expect("reads")
}

/// A folder with a job that failed over the row 107. Inputs are begun in their order, so that others were done by then.
fn unfinished() -> tempfile::TempDir {
    unfinished_of(1)
}

fn unfinished_of(stages: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_, outcome) = run_stages(folder.path(), "fail at 107", Resume::Auto, stages);
    outcome.expect_err("fails");
    assert!(told(folder.path()).inputs_done() > 0);
    folder
}

pub(super) fn ledger_of(folder: &Path) -> PathBuf {
    let ledger = fs::read_dir(folder.join(LEDGERS)).expect("lists").next();
    ledger.expect("one").expect("reads").path()
}

pub(super) fn told(folder: &Path) -> record::Told {
    record::Told::read(&ledger_of(folder)).expect("reads")
}

pub(super) fn copy(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_into(folder, copy.path());
    copy
}

pub(super) fn copy_into(folder: &Path, copy: &Path) {
    fs::create_dir_all(copy).expect("makes a folder");
    for entry in fs::read_dir(folder).expect("lists").flatten() {
        let target = copy.join(entry.file_name());
        if entry.path().is_dir() {
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

#[test]
fn failed_job_keeps_what_is_done_and_is_taken_up() {
    let folder = unfinished();
    let (done, outcome) = run(folder.path(), "same", Resume::Demanded);
    outcome.expect("runs");
    assert!(done > 0);
    check_whole(folder.path());
}

/// A machine with less room runs stages in the same workers, one with more runs them apart.
#[test]
fn job_is_taken_up_with_other_stages_than_it_had() {
    for (before, after) in [(1, 3), (3, 1), (2, 3)] {
        let folder = unfinished_of(before);
        let (_, outcome) = run_stages(folder.path(), "same", Resume::Demanded, after);
        outcome.expect("runs");
        check_whole(folder.path());
    }
}

#[test]
fn ledger_that_is_cut_off_anywhere_gives_the_rows_of_a_clean_run() {
    cut_off_anywhere(1);
}

#[test]
fn ledger_of_several_stages_that_is_cut_off_anywhere_gives_the_rows_of_a_clean_run() {
    cut_off_anywhere(3);
}

fn cut_off_anywhere(stages: usize) {
    let folder = unfinished_of(stages);
    let length = fs::metadata(ledger_of(folder.path()))
        .expect("is there")
        .len();
    let mut most_done = 0;
    // One of several stages is long.
    let step = if stages > 1 { length / 30 } else { 1 };
    let cuts = (0..length).step_by(step as usize);
    for cut in cuts.chain([length]) {
        let copy = copy(folder.path());
        let path = ledger_of(copy.path());
        let file = fs::File::options().write(true).open(path).expect("opens");
        file.set_len(cut).expect("cuts");
        let (done, outcome) = run_stages(copy.path(), "same", Resume::Auto, stages);
        outcome.expect("runs");
        assert!(done >= most_done, "more of the ledger tells no less");
        most_done = done;
        check_whole(copy.path());
    }
    assert!(most_done > 0);
}

/// Rows that are put aside are those of a clean run, too, in one stage and in two.
#[test]
fn letters_of_a_ledger_that_is_cut_off_anywhere_are_there_once() {
    for stages in [1, 2] {
        let steps = |last: &str| {
            let mut losing = test_map("fail at 7");
            losing.failures.on_error = Some(OnError::DeadLetter);
            let mut last = test_map(last);
            last.compute.max_workers = (stages > 1).then_some(2);
            vec![losing, last]
        };
        let folder = loop {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let run = run_steps(folder.path(), "first", steps("fail at 107"), Resume::Auto);
            run.1.expect_err("fails");
            let is_kept = folder.path().join(LEDGERS).is_dir();
            if is_kept && !told(folder.path()).left_out.is_empty() {
                break folder;
            }
        };
        let length = fs::metadata(ledger_of(folder.path()))
            .expect("is there")
            .len();
        for cut in (0..length).step_by(length as usize / 12).chain([length]) {
            let copy = copy(folder.path());
            let file = fs::File::options().write(true).open(ledger_of(copy.path()));
            file.expect("opens").set_len(cut).expect("cuts");
            let run = run_steps(copy.path(), "second", steps("same"), Resume::Auto);
            run.1.expect("runs");
            let letters = read(&copy.path().join("_dead_letters"));
            assert_eq!(letters.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
            fs::remove_dir_all(copy.path().join("_dead_letters")).expect("is there");
            check_rows(copy.path(), (0..ROWS).filter(|&id| id != 7).collect());
        }
    }
}

/// LED-1 (synced-before-it-counts), SINK-1 (all-or-nothing): at every moment at which the disk took something, also amid the commit.
#[test]
fn power_cut_at_any_moment_gives_the_rows_of_a_clean_run() {
    power_cut_at_any_moment(1);
}

/// LED-2 (all-or-made-again), too.
#[test]
fn power_cut_of_several_stages_gives_the_rows_of_a_clean_run() {
    power_cut_at_any_moment(2);
}

fn power_cut_at_any_moment(stages: usize) {
    let (parent, copies) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let folder = parent.path().join("out");
    fs::create_dir(&folder).expect("makes a folder");
    power::watch(&folder, copies.path());
    run_stages(&folder, "fail at 7", Resume::Auto, stages)
        .1
        .expect_err("fails");
    run_stages(&folder, "same", Resume::Auto, stages)
        .1
        .expect("runs");
    let copies = power::stop_watching(&folder);
    assert!(copies.len() > 10, "{copies:?}");
    check_whole(&folder);
    for copy in copies {
        // A job that had finished by then runs a second time otherwise.
        let finished = fs::read_dir(copy.join(LEDGERS)).is_ok_and(|ledgers| {
            let told = ledgers
                .flatten()
                .map(|ledger| record::Told::read(&ledger.path()).expect("reads"));
            told.into_iter().any(|told| told.is_finished)
        });
        if finished {
            prepare(&copy, &[], Resume::Auto);
        } else {
            run_stages(&copy, "same", Resume::Auto, stages)
                .1
                .expect("runs");
        }
        check_whole(&copy);
    }
}

/// The disk takes everything but the last word: the job has failed, and is taken up.
#[test]
fn job_whose_last_word_the_disk_does_not_take_is_taken_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ledger = record::path_of(folder.path(), "jobsame");
    // Once for the names that change.
    power::refuse(&ledger, 1);
    let (_, outcome) = run(folder.path(), "same", Resume::Auto);
    outcome.expect_err("fails");
    power::refuse(&ledger, usize::MAX);
    let (done, outcome) = run(folder.path(), "same", Resume::Demanded);
    outcome.expect("runs");
    assert_eq!(done, 12);
    check_whole(folder.path());
}

/// LED-1: also of files that are made to have the columns of others when they were on the disk already.
#[test]
fn files_that_were_written_anew_are_on_the_disk_before_they_count() {
    let (parent, copies) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let folder = parent.path().join("out");
    fs::create_dir(&folder).expect("makes a folder");
    power::watch(&folder, copies.path());
    let mut output = begun(&folder, "anew");
    output.keep(1, 2).expect("keeps");
    let numbers = Int64Array::from_iter_values(0..10);
    let floats = Float64Array::from_iter_values((0..10).map(f64::from));
    for (input, column) in [(0, Arc::new(numbers) as ArrayRef), (1, Arc::new(floats))] {
        let file = written(&folder, input, column);
        output.add(input, [file], Vec::new(), Vec::new());
    }
    let ledger = record::path_of(&folder, "anew");
    let until = Instant::now() + Duration::from_secs(60);
    while record::Told::read(&ledger).expect("reads").files.len() < 2 {
        assert!(Instant::now() < until, "they are never told");
        std::thread::sleep(Duration::from_millis(20));
    }
    close_together(vec![(output, None)], Ok(())).expect("commits");
    let mut copies = power::stop_watching(&folder);
    copies.retain(|copy| copy.to_string_lossy().ends_with("-cut"));
    copies.sort();
    let last = copies.last().expect("the last word");
    prepare(last, &[], Resume::Auto);
    let rows = read(last);
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 20);
}

/// What is done is kept, also where its files cannot be put together.
#[test]
fn job_whose_files_do_not_go_together_keeps_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut output = begun(folder.path(), "misfits");
    output.keep(1, 2).expect("keeps");
    let numbers = Int64Array::from_iter_values(0..10);
    let texts = StringArray::from_iter_values(["a"; 10]);
    for (input, column) in [(0, Arc::new(numbers) as ArrayRef), (1, Arc::new(texts))] {
        let file = written(folder.path(), input, column);
        output.add(input, [file], Vec::new(), Vec::new());
    }
    close_together(vec![(output, None)], Ok(())).expect_err("do not go together");
    assert_eq!(told(folder.path()).inputs_done(), 2);
    prepare(folder.path(), &traits(), Resume::Demanded);
}

/// A Parquet output of a job that may be taken up.
fn begun(folder: &Path, prefix: &str) -> FolderOutput {
    let identity = JobIdentity {
        traits: traits(),
        takes_up: false,
        together: None,
        kept: KeptFunctions::default(),
    };
    let output = ParquetOutput {
        identity: Some(identity),
        ..ParquetOutput::new(folder.display().to_string(), prefix)
    };
    let begun = Sink::Parquet(output).begin().expect("begins");
    begun.expect("writes files")
}

/// A file of it with one column, which an input has given.
fn written(folder: &Path, input: u64, column: ArrayRef) -> WrittenFile {
    let rows = RecordBatch::try_from_iter([("x", column)]).expect("one column");
    let job = fs::read_dir(folder).expect("lists").flatten();
    let mut job = job.filter(|entry| entry.file_name().to_string_lossy().starts_with(".unf"));
    let unfinished = job
        .next()
        .expect("the job's")
        .path()
        .join(format!("1-{input}"));
    let file = fs::File::create(&unfinished).expect("creates");
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).expect("begins");
    writer.write(&rows).expect("writes");
    writer.close().expect("ends");
    WrittenFile {
        path: folder
            .join(format!("x{input}.parquet"))
            .display()
            .to_string(),
        bytes: fs::metadata(&unfinished).expect("is there").len(),
        unfinished: unfinished.display().to_string(),
        rows: 10,
        schema: block::encode_schema(&rows.schema()).expect("encodes"),
        sequence: input,
        output: 0,
    }
}

/// What was left out is known by its attempt, so no run may have attempts of another, whether files tell of these or not.
#[test]
fn attempts_of_each_run_are_its_own() {
    let folder = unfinished();
    let ledger = ledger_of(folder.path());
    let prefix = ledger.file_stem().expect("a name").to_string_lossy();
    let first_attempt = || {
        let output = ParquetOutput {
            identity: Some(JobIdentity {
                traits: traits(),
                takes_up: true,
                together: None,
                kept: KeptFunctions::default(),
            }),
            ..ParquetOutput::new(folder.path().display().to_string(), prefix.clone())
        };
        let begun = Sink::Parquet(output).begin().expect("begins");
        begun.expect("writes files").left().next_attempt
    };
    let mut attempts = vec![0, first_attempt(), first_attempt()];
    let left_out = LeftOut {
        attempt: attempts[2] * 7,
        ..LeftOut::default()
    };
    attempts.push(left_out.attempt);
    let done = record::Done {
        left_out: vec![left_out],
        ..record::Done::default()
    };
    let bytes = told(folder.path()).bytes;
    let mut book = book::Book::go_on(folder.path(), &prefix, bytes).expect("opens");
    book.write(record::Entry::Done(done)).expect("writes");
    attempts.push(first_attempt());
    assert!(
        attempts.is_sorted_by(|one, next| one < next),
        "{attempts:?}"
    );
}

#[test]
fn another_job_is_told_what_is_different_and_begins_anew() {
    let folder = unfinished();
    let other = [Trait::new("the function", "2")];
    let refused = prepare_folder(Request {
        operation: "write_parquet",
        folder: &folder.path().display().to_string(),
        mode: SaveMode::Append,
        identity: &other,
        resume: Resume::Demanded,
    });
    let refused = refused.expect_err("is another").to_string();
    assert!(refused.contains("has changed: the function"), "{refused}");
    let prepared = prepare(folder.path(), &other, Resume::Auto);
    assert_eq!(prepared.takes_up, None);
    assert!(
        prepared.warnings[0].contains("has changed: the function"),
        "{:?}",
        prepared.warnings
    );
    assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 0);
}

#[test]
fn job_that_is_taken_up_twice_at_once_runs_once() {
    let folder = unfinished();
    let prepared = prepare(folder.path(), &traits(), Resume::Demanded);
    let TakesUp { prefix, .. } = prepared.takes_up.expect("is unfinished");
    let output = || ParquetOutput {
        identity: Some(JobIdentity {
            traits: traits(),
            takes_up: true,
            together: None,
            kept: KeptFunctions::default(),
        }),
        ..ParquetOutput::new(folder.path().display().to_string(), prefix.clone())
    };
    let first = Sink::Parquet(output()).begin().expect("begins");
    let refused = Sink::Parquet(output()).begin().err().expect("is taken");
    assert!(
        refused.to_string().contains("another run of this job"),
        "{refused}"
    );
    drop(first);
    assert!(
        Sink::Parquet(output()).begin().is_ok(),
        "it was let go of, and is still there"
    );
}
