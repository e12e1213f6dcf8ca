//! Jobs of several outputs that are taken up: whatever is left of them, each output has the rows of a clean run.

use std::fs;
use std::path::{Path, PathBuf};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::datatypes::SchemaRef;

use super::durable::{self, power};
use super::record::{LEDGERS, Told};
use super::resume_tests::{check_rows, copy_into, traits};
use super::*;
use crate::executor::pool::InProcessPool;
use crate::executor::{Execution, ExecutionOptions};
use crate::graph::{JobOutput, KeptFunctions};
use crate::plan::{Dataset, MapSpec};
use crate::sinks::{ParquetOutput, Sink};
use crate::testing::test_map;
use crate::wire::spec::WrittenFile;

const ROWS: i64 = 120;
const FOLDERS: [&str; 3] = ["a", "b", "c"];

fn step(name: &str) -> MapSpec {
    MapSpec {
        batch_rows: Some(2),
        ..test_map(name)
    }
}

/// Looks at the folder as who runs the job does: `None` if there is nothing to go on with.
fn prepare(folder: &Path, identity: &[Trait], resume: Resume) -> PreparedFolder {
    let prepared = prepare_folder(Request {
        operation: "write_parquet",
        folder: &folder.display().to_string(),
        mode: SaveMode::Append,
        identity,
        resume,
    });
    prepared.expect("may write").expect("shall write")
}

/// All rows into `a`, the small ones into `b`, and what the function makes of all into `c`. Returns how many inputs were done before.
fn run(parent: &Path, function: &str, resume: Resume) -> (u64, Result<(), TaskFailure>) {
    run_parts(parent, function, resume, 12)
}

/// The same, whose input has so many parts; where these are few, each is one block.
fn run_parts(
    parent: &Path,
    function: &str,
    resume: Resume,
    parts: u64,
) -> (u64, Result<(), TaskFailure>) {
    let folders = FOLDERS.map(|name| parent.join(name));
    let taken = prepare(&folders[0], &traits(), resume).takes_up;
    let (prefix, done) = match taken {
        Some(job) => (Some(job.prefix), job.done),
        None => {
            for folder in &folders[1..] {
                prepare(folder, &[], Resume::Never);
            }
            (None, 0)
        }
    };
    let all = Dataset::range(ROWS as u64).and_then(|all| all.map(step("same")));
    let all = all.expect("plans");
    let small = all.filter("id < 30").expect("plans");
    let made = all.map(step(function)).expect("plans");
    let output = |(place, rows): (usize, Dataset)| {
        let identity = JobIdentity {
            traits: traits(),
            takes_up: prefix.is_some(),
            together: Some(OneOfSeveral {
                place,
                folders: folders.to_vec(),
            }),
            kept: KeptFunctions::default(),
        };
        let prefix = prefix.clone();
        let prefix = prefix.unwrap_or_else(|| format!("job{}", function.replace(' ', "")));
        let folder = folders[place].display().to_string();
        let output = ParquetOutput {
            identity: Some(identity),
            ..ParquetOutput::new(folder, prefix)
        };
        JobOutput {
            parts: Some(parts),
            ..JobOutput::new(rows, Sink::Parquet(output))
        }
    };
    let outputs: Vec<JobOutput> = [all, small, made]
        .into_iter()
        .enumerate()
        .map(output)
        .collect();
    let options = ExecutionOptions {
        keep_order: false,
        // Several of them for each input.
        block_bytes: (parts > 4).then_some(4 * 8),
        ..ExecutionOptions::default()
    };
    let pool = Box::new(InProcessPool::of_cpus(4));
    let execution = Execution::start_all(&outputs, pool, &options);
    (done, execution.expect("starts").wait())
}

fn check_whole(parent: &Path) {
    check_rows(&parent.join("a"), (0..ROWS).collect());
    check_rows(&parent.join("b"), (0..30).collect());
    check_rows(&parent.join("c"), (0..ROWS).collect());
}

fn ledger_of(parent: &Path, name: &str) -> PathBuf {
    let ledger = fs::read_dir(parent.join(name).join(LEDGERS))
        .expect("lists")
        .next();
    ledger.expect("one").expect("reads").path()
}

fn told(parent: &Path) -> Told {
    Told::read(&ledger_of(parent, "a")).expect("reads")
}

/// Folders with a job that failed over the row 107, when others were done.
fn unfinished() -> tempfile::TempDir {
    for _ in 0..100 {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let (_, outcome) = run(parent.path(), "fail at 107", Resume::Auto);
        outcome.expect_err("fails");
        // It may have failed before anything else was done.
        if parent.path().join("a").join(LEDGERS).is_dir() && told(parent.path()).inputs_done() > 0 {
            return parent;
        }
    }
    panic!("nothing is ever kept")
}

fn copy(parent: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    copy_into(parent, copy.path());
    copy
}

#[test]
fn failed_job_of_several_outputs_is_taken_up_in_all_of_them() {
    let parent = unfinished();
    let told = told(parent.path());
    let outputs: Vec<u64> = told.files.keys().map(|(output, _)| *output).collect();
    assert!(outputs.contains(&0) && outputs.contains(&2), "{outputs:?}");
    for name in FOLDERS {
        let shown = fs::read_dir(parent.path().join(name))
            .expect("lists")
            .flatten();
        let mut names = shown.map(|entry| entry.file_name().to_string_lossy().into_owned());
        assert!(names.all(|name| name.starts_with(['.', '_'])));
    }
    let (done, outcome) = run(parent.path(), "same", Resume::Demanded);
    outcome.expect("runs");
    assert!(done > 0);
    check_whole(parent.path());
}

/// LED-2 (all-or-made-again): the first ledger says what is done in all outputs.
#[test]
fn first_ledger_that_is_cut_off_anywhere_gives_the_rows_of_a_clean_run_in_all_outputs() {
    let parent = unfinished();
    let length = fs::metadata(ledger_of(parent.path(), "a"))
        .expect("is there")
        .len();
    let mut most_done = 0;
    for cut in (0..length).step_by(length as usize / 40).chain([length]) {
        let copy = copy(parent.path());
        let ledger = fs::File::options()
            .write(true)
            .open(ledger_of(copy.path(), "a"));
        ledger.expect("opens").set_len(cut).expect("cuts");
        let (done, outcome) = run(copy.path(), "same", Resume::Auto);
        outcome.expect("runs");
        assert!(done >= most_done, "more of the ledger tells no less");
        most_done = done;
        check_whole(copy.path());
    }
    assert!(most_done > 0);
}

#[test]
fn ledger_of_another_output_that_is_cut_off_anywhere_loses_no_row() {
    let parent = unfinished();
    let length = fs::metadata(ledger_of(parent.path(), "b"))
        .expect("is there")
        .len();
    for cut in (0..length).step_by(length as usize / 12).chain([length]) {
        let copy = copy(parent.path());
        let ledger = fs::File::options()
            .write(true)
            .open(ledger_of(copy.path(), "b"));
        ledger.expect("opens").set_len(cut).expect("cuts");
        let (done, outcome) = run(copy.path(), "same", Resume::Demanded);
        outcome.expect("runs");
        assert!(done > 0);
        check_whole(copy.path());
    }
}

/// What another job has swept, or somebody has removed, is made again, with what belongs to it elsewhere.
#[test]
fn output_that_is_gone_is_made_again() {
    let parent = unfinished();
    let c = parent.path().join("c");
    let prepared = prepare(&c, &[Trait::new("another", "1")], Resume::Auto);
    assert!(
        prepared.warnings[0].contains("writes several together"),
        "{prepared:?}"
    );
    assert!(prepared.takes_up.is_none());
    assert!(!c.exists() || fs::read_dir(&c).expect("lists").next().is_none());
    let (_, outcome) = run(parent.path(), "same", Resume::Demanded);
    outcome.expect("runs");
    check_whole(parent.path());
}

/// Gives no files.
struct NoFiles;

impl FileFormat for NoFiles {
    fn operation(&self) -> &str {
        "write()"
    }

    fn empty_files(&self, _schema: &SchemaRef) -> Result<Vec<WrittenFile>, TaskFailure> {
        Ok(Vec::new())
    }

    fn make_alike(&self, _files: &mut [WrittenFile]) -> Result<(), TaskFailure> {
        Ok(())
    }

    fn makes_alike(&self) -> bool {
        false
    }
}

/// Whether a job of two outputs that fails leaves something in them, when this was told of its source: outputs, and rows from and to.
fn is_left(outputs: &[u64], rows: (u64, u64)) -> bool {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let folders: Vec<PathBuf> = ["a", "b"].map(|name| parent.path().join(name)).into();
    let begin = |place: usize| {
        let plan = OutputPlan {
            folder: &folders[place].display().to_string(),
            prefix: "job",
            mode: SaveMode::Append,
            names: None,
            identity: Some(JobIdentity {
                traits: traits(),
                takes_up: false,
                together: Some(OneOfSeveral {
                    place,
                    folders: folders.clone(),
                }),
                kept: KeptFunctions::default(),
            }),
        };
        FolderOutput::begin(plan, Box::new(NoFiles)).expect("begins")
    };
    let mut both = [begin(0), begin(1)];
    for output in &mut both {
        output.keep(1, 3).expect("begins to keep");
    }
    let (from, to) = rows;
    let range = SourceRange { input: 1, from, to };
    let part = DonePart {
        outputs: outputs.to_vec(),
        ranges: vec![range],
    };
    both[0].add_part(part, &[], Vec::new(), Vec::new());
    let failed = Err(TaskFailure::new(ErrorCode::Application, "no"));
    let both = both.map(|output| (output, None));
    close_together(both.into(), failed).expect_err("has failed");
    let left: Vec<bool> = folders.iter().map(|folder| folder.exists()).collect();
    assert_eq!(left[0], left[1]);
    left[0]
}

/// As one of one output.
#[test]
fn failed_job_of_several_outputs_that_has_done_nothing_leaves_nothing() {
    assert!(!is_left(&[], (64, END)), "its input has ended, and no more");
    assert!(is_left(&[7], (64, END)), "what became of them is written");
    assert!(is_left(&[], (0, 64)), "nothing becomes of them");
    assert!(is_left(&[], (0, END)), "nothing becomes of the input");
}

/// LED-1 (synced-before-it-counts), SINK-1 (all-or-nothing): at every moment at which the disk took something, also amid the commit.
#[test]
fn power_cut_at_any_moment_gives_the_rows_of_a_clean_run_in_all_outputs() {
    let (parent, copies) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let parent = parent.path().join("outputs");
    for folder in FOLDERS {
        fs::create_dir_all(parent.join(folder)).expect("makes a folder");
    }
    power::watch(&parent, copies.path());
    durable::sync_folder(&parent).expect("syncs");
    let run = |folder: &Path, function: &str| run_parts(folder, function, Resume::Auto, 4);
    run(&parent, "fail at 107").1.expect_err("fails");
    run(&parent, "same").1.expect("runs");
    let copies = power::stop_watching(&parent);
    check_whole(&parent);
    assert!(copies.len() > 20, "{copies:?}");
    let (mut taken_up, mut finished) = (0, 0);
    for copy in copies {
        let ledgers = fs::read_dir(copy.join("a").join(LEDGERS));
        let is_finished = ledgers.is_ok_and(|ledgers| {
            let mut told = ledgers.flatten().map(|ledger| Told::read(&ledger.path()));
            told.any(|told| told.expect("reads").is_finished)
        });
        let has_rows = ["a", "b", "c"].map(|name| {
            let entries = fs::read_dir(copy.join(name))
                .into_iter()
                .flatten()
                .flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.filter(|name| !name.starts_with(['.', '_'])).count() > 0
        });
        let is_left = ["a", "b", "c"].map(|name| {
            let (_, is_left) =
                has_unfinished(&copy.join(name).display().to_string()).expect("lists");
            is_left
        });
        if is_finished || has_rows == [true; 3] && is_left == [false; 3] {
            finished += 1;
            for name in FOLDERS {
                prepare(&copy.join(name), &[], Resume::Auto);
            }
        } else {
            let (done, outcome) = run(&copy, "same");
            outcome.expect("runs");
            taken_up += u64::from(done > 0);
        }
        check_whole(&copy);
    }
    assert!(taken_up > 3 && finished > 1, "{taken_up} {finished}");
}

/// The disk takes everything but the last word: all outputs are hidden again, and taken up.
#[test]
fn job_whose_decision_the_disk_does_not_take_is_taken_up() {
    let parent = tempfile::tempdir().expect("a folder");
    let ledger = record::path_of(&parent.path().join("a"), "jobsame");
    // Once for the names that change.
    power::refuse(&ledger, 1);
    run(parent.path(), "same", Resume::Auto)
        .1
        .expect_err("fails");
    power::refuse(&ledger, usize::MAX);
    let (done, outcome) = run(parent.path(), "same", Resume::Demanded);
    outcome.expect("runs");
    assert_eq!(done, 12);
    check_whole(parent.path());
}
