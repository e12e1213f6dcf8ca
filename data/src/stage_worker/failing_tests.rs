//! Rows that functions fail for, in a stage worker: found, left out, told.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::*;
use crate::Execution;
use crate::executor::ExecutionOptions;
use crate::executor::pool::InProcessPool;
use crate::graph::{MapCall, StageTask};
use crate::plan::{
    Dataset, Expectation, Expression, FailurePolicy, MapSpec, MostViolations, OnError,
};
use crate::sinks::Sink;
use crate::sources::blocks::{BlockPart, handed_on, position_of};
use crate::testing::{ids, rows, test_map};
use crate::wire::encode_task;
use crate::wire::failing::{BlamedRow, FailingSpec, MostRows, StepRow};

pub(super) fn failing(name: &str, batch_rows: usize) -> MapSpec {
    MapSpec {
        batch_rows: Some(batch_rows),
        failures: FailurePolicy {
            on_error: Some(OnError::DeadLetter),
            ..FailurePolicy::default()
        },
        ..test_map(name)
    }
}

/// A block is two batches of 16 rows.
const BLOCK_BYTES: u64 = 17_000;

/// A worker that calls the function over batches of sixteen.
fn worker(name: &str) -> StageWorker {
    worker_of(&[failing(name, 16)])
}

pub(super) fn worker_of(maps: &[MapSpec]) -> StageWorker {
    let map = |spec| Operator::Map(MapCall::of(spec));
    worker_with(maps.iter().map(map).collect())
}

pub(super) fn worker_with(steps: Vec<Operator>) -> StageWorker {
    evened_worker(steps, 0)
}

/// What comes out goes on in so many rows at once.
pub(super) fn evened_worker(steps: Vec<Operator>, even_rows: u64) -> StageWorker {
    let task = StageTask {
        name: "Read->Map".to_owned(),
        source: handed_on(),
        steps,
        sink: None,
        block_bytes: BLOCK_BYTES,
        growing_inputs: 0,
        row_limit: None,
        memory_bytes: 1 << 20,
        even_rows,
        prefetch_batches: 0,
        partitioner: None,
        group: None,
    };
    StageWorker::new(encode_task(&task).expect("travels"), Vec::new()).expect("makes")
}

/// Ids of each block of fifty rows, and the numbers of rows that were told to have failed.
fn run(name: &str, known: FailingSpec) -> (Vec<Vec<i64>>, Vec<u64>) {
    let input = InputSpec {
        failing: Some(known),
        ..InputSpec::default()
    };
    run_in(worker(name), input).expect("goes on")
}

pub(super) fn run_in(
    mut worker: StageWorker,
    input: InputSpec,
) -> Result<(Vec<Vec<i64>>, Vec<u64>), TaskFailure> {
    begin(&mut worker, input);
    let (mut blocks, mut failed) = (Vec::new(), Vec::new());
    loop {
        let (report, block) = worker.pull()?;
        failed.extend(told(&report));
        if let Some(block) = block {
            let (_, batches) = crate::block::decode(block).expect("is a block");
            blocks.push(ids(&batches));
        }
        if report.is_last {
            return Ok((blocks, failed));
        }
    }
}

fn told(report: &Report) -> Vec<u64> {
    let failed = report.failed.iter();
    failed.flat_map(|told| told.rows.clone()).collect()
}

/// The worker is given fifty rows.
pub(super) fn begin(worker: &mut StageWorker, input: InputSpec) {
    let (input, blocks) = input_of(0, input);
    worker.start(input, blocks).expect("begins");
}

/// Fifty rows from this one on.
pub(super) fn input_of(first: i64, input: InputSpec) -> (InputSpec, Vec<InputBlock>) {
    let batch = rows(first, 50);
    let part = BlockPart {
        first_row: 0,
        rows: 50,
    };
    let input = InputSpec {
        position: position_of([part]),
        feed_blocks: vec![1],
        ..input
    };
    let stream = crate::block::encode(&batch.schema(), &[batch]).expect("encodes");
    (input, vec![stream.into()])
}

#[test]
fn row_that_fails_is_found_among_others_and_told() {
    let (blocks, failed) = run("fail at 7", FailingSpec::default());
    assert_eq!(failed, [7]);
    let expected: Vec<i64> = (0..50).filter(|&id| id != 7).collect();
    assert_eq!(blocks.concat(), expected);
}

/// STG-2 (same-cut-every-time): with batches that are cut for want of memory, too.
#[test]
fn calls_have_no_more_rows_than_have_room() {
    let run = |name: &str, most: Option<u64>| {
        let step = MapSpec {
            batch_rows: Some(16),
            ..test_map(name)
        };
        let most_rows = most.map(|rows| MostRows { step: 0, rows });
        let known = FailingSpec {
            most_rows: most_rows.into_iter().collect(),
            ..FailingSpec::default()
        };
        let input = InputSpec {
            failing: Some(known),
            ..InputSpec::default()
        };
        run_in(worker_of(&[step]), input)
    };
    let whole = run("same", None).expect("goes on");
    let cut = run("fail above 5 rows", Some(5)).expect("goes on");
    assert_eq!(cut, whole);
    for most in [None, Some(6)] {
        assert!(run("fail above 5 rows", most).is_err());
    }
}

/// STG-2 (same-cut-every-time): whether a row is found to fail now or was by an earlier attempt.
#[test]
fn blocks_are_the_same_whoever_has_found_the_row() {
    let (first, failed) = run("fail at 7", FailingSpec::default());
    assert_eq!(failed, [7]);
    let known = FailingSpec {
        told: vec![StepRow { step: 0, row: 7 }],
        ..FailingSpec::default()
    };
    let (second, failed) = run("fail at 7", known);
    assert_eq!((failed, second), (Vec::new(), first));
}

#[test]
fn blamed_row_is_told_without_a_call_and_cuts_keep_blocks_as_they_are() {
    let row = StepRow { step: 0, row: 7 };
    let known = FailingSpec {
        blamed: vec![BlamedRow {
            row,
            error: "WorkerCrashedError".to_owned(),
            message: "exited".to_owned(),
            attempts: 5,
            worker: "process 1".to_owned(),
            time_micros: 1,
            lost_before: 0,
        }],
        cuts: [4, 7, 8].map(|row| StepRow { step: 0, row }).to_vec(),
        is_careful: true,
        ..FailingSpec::default()
    };
    // It would panic if it were called with the row.
    let (blocks, failed) = run("panic at 7", known);
    assert_eq!(failed, [7]);
    let expected: Vec<i64> = (0..32).filter(|&id| id != 7).collect();
    assert_eq!(blocks[0], expected);
}

/// The second step makes up its batches from the next rows: the block that is not sent again would have as many as it had.
#[test]
fn row_that_was_handed_on_and_fails_now_ends_the_job_and_says_why() {
    let steps = |name| worker_of(&[failing(name, 10), failing("same", 16)]);
    let (first, failed) = run_in(steps("same"), InputSpec::default()).expect("goes on");
    assert!(failed.is_empty());
    let again = |skip_blocks| InputSpec {
        skip_blocks,
        skip_rows: first[..skip_blocks as usize].concat().len() as u64,
        failing: Some(FailingSpec {
            is_repeat: true,
            ..FailingSpec::default()
        }),
        ..InputSpec::default()
    };
    let failure = run_in(steps("fail at 7"), again(1)).expect_err("row 7 was handed on");
    let expected = "fail at 7: an input was run again after its worker or its blocks had been lost, and the function failed for a row \
                    that it had done the first time";
    assert!(failure.message.starts_with(expected), "{failure}");
    assert!(
        failure
            .message
            .ends_with("It failed with ValueError: seven")
    );

    let wanted = InputSpec {
        wanted_blocks: vec![1],
        ..again(0)
    };
    let failure = run_in(steps("fail at 7"), wanted).expect_err("row 7 was handed on");
    assert!(failure.message.starts_with(expected), "{failure}");

    let (second, failed) = run_in(steps("same"), again(1)).expect("goes on");
    assert_eq!((second, failed), (first[1..].to_vec(), Vec::new()));
}

#[test]
fn row_that_fails_by_chance_after_a_death_is_called_a_few_times_more() {
    // Among 16 rows, 8, 4, 2, and twice alone.
    let flaky = "fail six times at 7";
    let (_, failed) = run(flaky, FailingSpec::default());
    assert_eq!(failed, [7], "nothing was handed on: it may be left out");
    let repeat = FailingSpec {
        is_repeat: true,
        ..FailingSpec::default()
    };
    let (blocks, failed) = run(flaky, repeat);
    assert_eq!((blocks.concat(), failed), ((0..50).collect(), Vec::new()));
}

/// Whatever is under way when the worker dies is the call that it has noted.
#[test]
fn calls_of_all_steps_are_one_at_a_time_when_a_worker_has_died_over_the_input() {
    let most_calls = |is_careful, steps: &[MapSpec]| {
        let failing = FailingSpec {
            is_careful,
            ..FailingSpec::default()
        };
        let input = InputSpec {
            failing: Some(failing),
            ..InputSpec::default()
        };
        let (counts, _) = run_in(worker_of(steps), input).expect("goes on");
        counts.concat().into_iter().max()
    };
    let overlapping = MapSpec {
        batch_rows: Some(5),
        ..test_map("calls under way")
    };
    let timed = MapSpec {
        failures: FailurePolicy {
            timeout: Some(std::time::Duration::from_secs(600)),
            ..FailurePolicy::default()
        },
        ..overlapping.clone()
    };
    for first in [overlapping, timed, failing("calls under way", 5)] {
        let steps = [first, failing("same", 16)];
        assert_eq!(most_calls(false, &steps), Some(4));
        assert_eq!(most_calls(true, &steps), Some(1));
    }
}

#[test]
fn wrong_numbers_of_rows_are_failures_of_their_rows() {
    let spec = MapSpec {
        keeps_rows: true,
        ..failing("drop one", 8)
    };
    let dataset = Dataset::range(20)
        .and_then(|all| all.map(spec))
        .expect("maps");
    let options = ExecutionOptions::default();
    let pool = Box::new(InProcessPool::of_cpus(2));
    let execution = Execution::start(&dataset, &Sink::Consumer, pool, &options).expect("starts");
    assert!(execution.collect().expect("goes on").is_empty());
    let letters: Vec<RecordBatch> = execution
        .dead_letters(0)
        .iter()
        .flat_map(|block| {
            let stream = block
                .handle
                .get::<Bytes>()
                .cloned()
                .expect("in this process");
            crate::block::decode(stream).expect("is a block").1
        })
        .collect();
    let mut dead: Vec<i64> = letters
        .iter()
        .flat_map(|batch| {
            let rows = batch.column_by_name("row").expect("has rows").as_struct();
            rows.column(0).as_primitive::<Int64Type>().values().to_vec()
        })
        .collect();
    dead.sort_unstable();
    assert_eq!(dead, (0..20).collect::<Vec<_>>());
    let stats = execution.stats();
    assert_eq!(stats.stages[0].operators[1].rows_failed, 20);
    assert!(
        letters
            .iter()
            .all(|batch| batch.column(0).null_count() == 0)
    );
}

#[test]
fn a_failure_that_is_not_of_rows_still_ends_the_job() {
    let spec = MapSpec {
        reads: Some(vec!["nothing".to_owned()]),
        ..failing("same", 8)
    };
    let known = test_map("same");
    let dataset = Dataset::range(20)
        .and_then(|all| all.map(known))
        .and_then(|all| all.map(spec));
    let options = ExecutionOptions::default();
    let pool = Box::new(InProcessPool::of_cpus(2));
    let execution =
        Execution::start(&dataset.expect("maps"), &Sink::Consumer, pool, &options).expect("starts");
    let failure = execution.collect().expect_err("there is no such column");
    assert!(failure.message.contains("nothing"), "{failure}");
}

#[test]
fn rows_that_failed_are_told_while_no_other_row_comes() {
    let steps = vec![
        Operator::Map(MapCall::of(&failing("fail slowly", 16))),
        Operator::Drop(vec!["data".to_owned()]),
    ];
    let mut worker = worker_with(steps);
    begin(&mut worker, InputSpec::default());
    let mut all = Vec::new();
    let mut pulls = 0;
    loop {
        let (report, block) = worker.pull().expect("goes on");
        assert!(block.is_none());
        all.extend(told(&report));
        pulls += 1;
        if report.is_last {
            break;
        }
        assert!(!report.failed.is_empty(), "why else does it end");
    }
    assert_eq!(all, (0..50).collect::<Vec<u64>>());
    // There are a hundred calls of 25 ms.
    assert!(pulls > 2, "{pulls}");
}

#[test]
fn more_rows_than_may_fail_are_told_at_once() {
    let with_limit = |max_errors, max_errored_batches| {
        let mut spec = failing("fail", 16);
        spec.failures.max_errors = max_errors;
        spec.failures.max_errored_batches = max_errored_batches;
        let mut worker = worker_of(&[spec]);
        begin(&mut worker, InputSpec::default());
        let (report, block) = worker.pull().expect("tells the rows");
        assert!(block.is_none() && !report.is_last);
        worker.pull().expect_err("nothing comes behind them");
        told(&report)
    };
    assert_eq!(with_limit(Some(2), None), [0, 1, 2]);
    assert_eq!(with_limit(None, Some(1)), (0..17).collect::<Vec<u64>>());
}

#[test]
fn job_over_its_limit_ends_with_what_failed_until_then() {
    let mut spec = failing("fail", 16);
    spec.failures.max_errors = Some(2);
    let dataset = Dataset::range(1000).and_then(|all| all.map(spec));
    let options = ExecutionOptions::default();
    let pool = Box::new(InProcessPool::of_cpus(1));
    let execution =
        Execution::start(&dataset.expect("maps"), &Sink::Consumer, pool, &options).expect("starts");
    let failure = execution.collect().expect_err("too many");
    let text = "3 rows have failed of the 256 that came so far, more than max_errors=2";
    assert!(failure.message.contains(text), "{failure}");
    let letters = execution.dead_letters(0);
    assert_eq!(letters.iter().map(|block| block.rows).sum::<u64>(), 3);
}

/// Threads of stages that run together may find too many before anybody pulls.
#[test]
fn what_ends_an_input_while_nobody_pulls_is_told_before_it_fails() {
    let expectation = Expectation {
        name: "few".to_owned(),
        expression: Expression::from("id < 20"),
        most: MostViolations::Rows(3),
        only_warns: false,
    };
    let mut worker = worker_with(vec![Operator::Expect(expectation)]);
    begin(&mut worker, InputSpec::default());
    let running = worker.running.front_mut().expect("begun");
    let failing = running.failing.clone().expect("rows are judged");
    assert!(running.stream.next().is_err() && failing.over_limit().is_some());
    let (report, _) = worker.pull().expect("tells");
    assert!(!report.is_last);
    assert_eq!(report.judged[0].violations, 30);
    assert!(!report.judged[0].examples.is_empty());
    assert!(worker.pull().is_err(), "nothing more comes");
}
