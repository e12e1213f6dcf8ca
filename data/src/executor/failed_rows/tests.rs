//! Rows are counted once, and blamed for what they did, whatever workers do.

use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::resources::ResourceRequest;

use super::*;
use crate::graph::{Fragment, MapCall, PlannedStep, StageTask};
use crate::plan::{MapSpec, OnError, OtherWorkers, PoolSpec};
use crate::sources::blocks::{BlockPart, handed_on, position_of};
use crate::stage_worker::StageWorker;
use crate::testing::{self, ids, test_map};
use crate::wire::encode_task;
use crate::wire::failing::{NotedCall, ToldRows};
use crate::wire::spec::{InputSpec, StepReport};

const WORKER: WorkerKey = WorkerKey(1);
const OTHER: WorkerKey = WorkerKey(2);
const INPUT: InputKey = (0, 7);

/// A stage of one step with this policy.
fn table(policy: FailurePolicy) -> FailedRows {
    table_of(&[policy])
}

/// A stage of steps with these policies, over a thousand rows.
fn table_of(policies: &[FailurePolicy]) -> FailedRows {
    FailedRows::new(&[stage_of(policies)], Some(1000), "notes".to_owned())
}

fn stage_of(policies: &[FailurePolicy]) -> StagePlan {
    let mut stage = StagePlan::new(None);
    for &failures in policies {
        let spec = MapSpec {
            failures,
            ..test_map("Map(f)")
        };
        stage.steps.push(PlannedStep {
            name: spec.name.clone(),
            operator: Operator::Map(MapCall::of(&spec)),
            captured: None,
        });
    }
    stage
}

fn dead_letters() -> FailurePolicy {
    FailurePolicy {
        on_error: Some(OnError::DeadLetter),
        ..FailurePolicy::default()
    }
}

fn report(rows_in: u64, failed: &[u64], is_last: bool) -> Report {
    let step = |rows_in| StepReport {
        rows_in,
        ..StepReport::default()
    };
    let told = ToldRows {
        step: 0,
        rows: failed.to_vec(),
        batches: u64::from(!failed.is_empty()),
        letters: Bytes::from_static(b"letters"),
        last: "ValueError: no".to_owned(),
    };
    Report {
        steps: vec![step(0), step(rows_in)],
        failed: if failed.is_empty() {
            Vec::new()
        } else {
            vec![told]
        },
        is_last,
        ..Report::default()
    }
}

fn counted(rows: &FailedRows) -> u64 {
    rows.counted().flatten().sum()
}

fn crash() -> TaskFailure {
    TaskFailure::new(ErrorCode::ActorDied, "the process exited with code 3")
}

fn call(first: u64, last: u64) -> Option<NotedCall> {
    Some(NotedCall {
        first,
        last,
        rows: last - first + 1,
        worker: "process 1".to_owned(),
        ..NotedCall::default()
    })
}

#[test]
fn what_an_attempt_has_told_counts_once_and_is_left_out_by_the_next() {
    let mut rows = table(dead_letters());
    let spec = rows
        .begin(WORKER, INPUT, Attempt::Anew, 1)
        .expect("is guarded");
    assert!(spec.told.is_empty() && !spec.is_careful);
    rows.report(WORKER, &report(100, &[3, 5], false))
        .expect("few");
    assert_eq!(rows.died(WORKER, None, &crash()), Death::Unexplained);
    assert_eq!((counted(&rows), rows.take_letters().len()), (0, 0));

    let spec = rows
        .begin(OTHER, INPUT, Attempt::Anew, 2)
        .expect("is guarded");
    let told: Vec<u64> = spec.told.iter().map(|row| row.row).collect();
    assert_eq!(told, [3, 5]);
    assert!(spec.is_careful, "a worker has died over it");
    rows.report(OTHER, &report(200, &[150], true)).expect("few");
    assert_eq!((counted(&rows), rows.take_letters().len()), (3, 2));

    // A block of it is lost, and made again.
    let spec = rows
        .begin(WORKER, INPUT, Attempt::Rerun, 3)
        .expect("is guarded");
    assert_eq!(spec.told.len(), 3);
    rows.report(WORKER, &report(200, &[9], true)).expect("few");
    assert_eq!((counted(&rows), rows.take_letters().len()), (3, 0));
}

/// What the first of two steps loses is named by numbers of the input. Those of the second hang on what the first one lost.
#[test]
fn rows_told_behind_a_step_that_loses_rows_are_forgotten_unless_blocks_were_handed_on() {
    let mut rows = table_of(&[FailurePolicy::default(), dead_letters(), dead_letters()]);
    let told = |step, row| ToldRows {
        step,
        rows: vec![row],
        batches: 1,
        letters: Bytes::from_static(b"letters"),
        last: String::new(),
    };
    let report = |is_last, failed| Report {
        failed,
        is_last,
        ..Report::default()
    };
    rows.begin(WORKER, INPUT, Attempt::Anew, 1);
    let first = report(false, vec![told(1, 4), told(2, 900)]);
    rows.report(WORKER, &first).expect("few");
    rows.died(WORKER, None, &crash());
    let known = |spec: FailingSpec| -> Vec<(u32, u64)> {
        spec.told.iter().map(|row| (row.step, row.row)).collect()
    };
    let spec = rows.begin(WORKER, INPUT, Attempt::GoingOn, 2);
    let spec = spec.expect("is guarded");
    assert!(spec.is_repeat);
    assert_eq!(known(spec), [(1, 4), (2, 900)]);
    rows.died(WORKER, None, &crash());
    let spec = rows.begin(WORKER, INPUT, Attempt::Anew, 3);
    assert_eq!(known(spec.expect("is guarded")), [(1, 4)]);
    let again = report(true, vec![told(2, 899)]);
    rows.report(WORKER, &again).expect("few");
    assert_eq!((counted(&rows), rows.take_letters().len()), (2, 2));
}

/// The ids that come out of a stage of two steps over fifty rows.
fn run_two(functions: [&str; 2], rows: &mut FailedRows, attempt: u64) -> Vec<i64> {
    let step = |name: &&str| {
        Operator::Map(MapCall::of(&MapSpec {
            batch_rows: Some(10),
            failures: dead_letters(),
            ..test_map(name)
        }))
    };
    let task = StageTask {
        name: "Read->Map".to_owned(),
        source: handed_on(),
        steps: functions.iter().map(step).collect(),
        sink: None,
        block_bytes: 1 << 20,
        growing_inputs: 0,
        row_limit: None,
        memory_bytes: 1 << 20,
        even_rows: 0,
        prefetch_batches: 0,
        partitioner: None,
        group: None,
    };
    let spec = encode_task(&task).expect("travels");
    let mut worker = StageWorker::new(spec, Vec::new()).expect("makes");
    let batch = testing::rows(0, 50);
    let part = BlockPart {
        first_row: 0,
        rows: 50,
    };
    let input = InputSpec {
        position: position_of([part]),
        feed_blocks: vec![1],
        failing: rows.begin(WORKER, INPUT, Attempt::Anew, attempt),
        ..InputSpec::default()
    };
    let stream = crate::block::encode(&batch.schema(), &[batch]).expect("encodes");
    worker.start(input, vec![stream.into()]).expect("begins");
    let (mut report, block) = worker.pull().expect("goes on");
    assert!(report.is_last, "it is one block");
    // The first one dies before it could say that this was all.
    report.is_last = attempt > 1;
    rows.report(WORKER, &report).expect("few");
    let (_, batches) = crate::block::decode(block.expect("has rows")).expect("is a block");
    ids(&batches)
}

#[test]
fn no_good_row_is_lost_when_a_step_before_fails_for_another_row_after_a_death() {
    let mut rows = table_of(&[dead_letters(), dead_letters()]);
    run_two(["same", "fail at 7"], &mut rows, 1);
    rows.died(WORKER, None, &crash());
    let left = run_two(["fail at 3", "fail at 7"], &mut rows, 2);
    let expected: Vec<i64> = (0..50).filter(|id| ![3, 7].contains(id)).collect();
    assert_eq!(left, expected);
    assert_eq!((counted(&rows), rows.take_letters().len()), (2, 2));
}

#[test]
fn rows_blamed_behind_other_lost_rows_than_now_are_called() {
    let mut rows = table_of(&[dead_letters(), dead_letters()]);
    let of_second = |row, lost_before| {
        call(row, row).map(|call| NotedCall {
            step: 1,
            lost_before,
            ..call
        })
    };
    for death in [(4, 0), (4, 0)] {
        rows.begin(WORKER, INPUT, Attempt::Anew, 1);
        let call = of_second(death.0, death.1);
        assert_eq!(rows.died(WORKER, call, &crash()), Death::OfRows);
    }
    // The row is 7 without the row that was lost before it, and "panic at 7" would end this test if it were called.
    let blamed = rows.begin(WORKER, INPUT, Attempt::Anew, 2);
    assert_eq!(blamed.expect("is guarded").blamed.len(), 1);
    rows.begin(WORKER, INPUT, Attempt::Anew, 3);
    assert_eq!(rows.died(WORKER, of_second(7, 0), &crash()), Death::OfRows);
    rows.begin(WORKER, INPUT, Attempt::Anew, 4);
    assert_eq!(rows.died(WORKER, of_second(7, 0), &crash()), Death::OfRows);
    let left = run_two(["same", "panic at 7"], &mut rows, 5);
    let expected: Vec<i64> = (0..50).filter(|id| ![4, 7].contains(id)).collect();
    assert_eq!(left, expected);

    // Behind row 3, number 7 is row 8, which nobody has died of.
    let mut rows = table_of(&[dead_letters(), dead_letters()]);
    for attempt in 1..3 {
        rows.begin(WORKER, INPUT, Attempt::Anew, attempt);
        rows.died(WORKER, of_second(7, 0), &crash());
    }
    let left = run_two(["fail at 3", "same"], &mut rows, 3);
    let expected: Vec<i64> = (0..50).filter(|&id| id != 3).collect();
    assert_eq!(left, expected);
}

#[test]
fn deaths_of_rows_with_changing_numbers_count_as_any_other() {
    let mut rows = table_of(&[dead_letters(), dead_letters()]);
    let mut die = |lost_before| {
        rows.begin(WORKER, INPUT, Attempt::Anew, 1);
        let call = call(4, 4).map(|call| NotedCall {
            step: 1,
            lost_before,
            ..call
        });
        rows.died(WORKER, call, &crash())
    };
    assert_eq!(die(1), Death::OfRows);
    assert_eq!(die(2), Death::Unexplained);
    assert_eq!(die(3), Death::Unexplained);
    assert_eq!(die(3), Death::OfRows);
    let spec = rows.begin(WORKER, INPUT, Attempt::Anew, 2);
    let blamed = spec.expect("is guarded").blamed;
    let signs: Vec<u64> = blamed.iter().map(|row| row.lost_before).collect();
    assert_eq!(signs, [3]);
}

#[test]
fn deaths_halve_the_suspects_until_one_row_is_blamed() {
    let mut rows = table(dead_letters());
    let culprit = 700;
    let (mut first, mut last) = (512, 1023);
    let mut deaths = 0;
    loop {
        let spec = rows
            .begin(WORKER, INPUT, Attempt::Anew, deaths)
            .expect("is guarded");
        if let Some(blamed) = spec.blamed.first() {
            assert_eq!(
                (blamed.row.row, blamed.error.as_str()),
                (culprit, "WorkerCrashedError")
            );
            assert_eq!(blamed.attempts, 10, "512 rows, 256, ... 1");
            break;
        }
        // The worker cuts its batch before these rows, and dies in the piece with the culprit.
        let cuts: Vec<u64> = spec.cuts.iter().map(|cut| cut.row).collect();
        let within = cuts
            .iter()
            .copied()
            .filter(|&cut| (512..=culprit).contains(&cut));
        first = within.max().unwrap_or(first);
        let beyond = cuts.iter().copied().filter(|&cut| cut > culprit);
        last = beyond.min().map_or(last, |cut| last.min(cut - 1));
        assert_eq!(
            rows.died(WORKER, call(first, last), &crash()),
            Death::OfRows
        );
        deaths += 1;
        assert!(deaths < 20, "the suspects do not become fewer");
    }
    assert_eq!(deaths, 10);
}

#[test]
fn row_that_is_alone_from_the_beginning_is_not_blamed_for_one_death() {
    let mut rows = table(dead_letters());
    rows.begin(WORKER, INPUT, Attempt::Anew, 1);
    assert_eq!(rows.died(WORKER, call(4, 4), &crash()), Death::OfRows);
    let spec = rows
        .begin(WORKER, INPUT, Attempt::Anew, 2)
        .expect("is guarded");
    assert!(
        spec.blamed.is_empty(),
        "somebody may have killed the process"
    );
    assert_eq!(rows.died(WORKER, call(4, 4), &crash()), Death::OfRows);
    let spec = rows
        .begin(WORKER, INPUT, Attempt::Anew, 3)
        .expect("is guarded");
    assert_eq!(spec.blamed.len(), 1);
}

#[test]
fn a_node_that_is_lost_is_nobodys_fault_and_neither_is_a_death_between_calls() {
    let mut rows = table(dead_letters());
    rows.begin(WORKER, INPUT, Attempt::Anew, 1);
    let lost = TaskFailure::new(ErrorCode::NodeDied, "the node is gone");
    assert_eq!(rows.died(WORKER, call(4, 4), &lost), Death::Unexplained);
    rows.begin(WORKER, INPUT, Attempt::Anew, 2);
    let none = Some(NotedCall::default());
    assert_eq!(rows.died(WORKER, none, &crash()), Death::Unexplained);
}

#[test]
fn late_call_of_a_step_that_leaves_no_row_out_ends_the_job() {
    let mut rows = table(FailurePolicy {
        timeout: Some(Duration::from_secs(2)),
        ..FailurePolicy::default()
    });
    rows.begin(WORKER, INPUT, Attempt::Anew, 1);
    let late = call(0, 9).map(|call| NotedCall {
        is_late: true,
        ..call
    });
    let Death::Ends(failure) = rows.died(WORKER, late, &crash()) else {
        panic!("it was late");
    };
    assert!(
        failure
            .message
            .contains("Map(f): the call took longer than timeout_s=2, for a batch of 10 rows")
    );
}

#[test]
fn calls_of_a_step_that_leaves_no_row_out_are_halved_where_memory_ran_out() {
    let no_memory = TaskFailure::new(ErrorCode::OutOfMemory, "it held too much");
    let mut rows = table(FailurePolicy::default());
    let begin = |rows: &mut FailedRows, worker, input, number| {
        let spec = rows.begin(worker, input, Attempt::Anew, number);
        let spec = spec.expect("calls a function");
        (spec.is_careful, spec.most_rows_of(0))
    };
    assert_eq!(begin(&mut rows, WORKER, INPUT, 1), (false, None));
    assert_eq!(rows.died(WORKER, None, &no_memory), Death::Unexplained);
    assert_eq!(begin(&mut rows, WORKER, INPUT, 2), (true, None));
    assert_eq!(rows.died(WORKER, call(0, 8), &no_memory), Death::OfRows);
    assert_eq!(begin(&mut rows, WORKER, INPUT, 3), (true, Some(5)));
    // Others need not die first.
    assert_eq!(begin(&mut rows, OTHER, (0, 8), 4), (false, Some(5)));
    // A crash says nothing of memory.
    assert_eq!(rows.died(WORKER, call(0, 4), &crash()), Death::Unexplained);
    for (last, most) in [(4, 3), (2, 2), (1, 1)] {
        begin(&mut rows, WORKER, INPUT, 5);
        assert_eq!(rows.died(WORKER, call(0, last), &no_memory), Death::OfRows);
        assert_eq!(begin(&mut rows, WORKER, INPUT, 6), (true, Some(most)));
    }
    assert_eq!(rows.most_rows(0).collect::<Vec<_>>(), [(0, 0, 1)]);
    // It died of what the call has given.
    let ended = NotedCall {
        ended_rows: 2,
        ..NotedCall::default()
    };
    assert_eq!(rows.died(WORKER, Some(ended), &no_memory), Death::OfRows);
    begin(&mut rows, WORKER, INPUT, 6);
    assert_eq!(rows.died(WORKER, call(1, 1), &no_memory), Death::OfRows);
    begin(&mut rows, WORKER, INPUT, 7);
    let Death::Ends(failure) = rows.died(WORKER, call(1, 1), &no_memory) else {
        panic!("the row has no room alone");
    };
    assert_eq!(failure.code, ErrorCode::OutOfMemory);
    assert!(failure.message.contains("Map(f): a call with a row alone"));
    assert!(failure.message.contains("number 1 of input 7"));
}

/// What sorts and joins hold is not the fault of the function that is called meanwhile, nor of its rows.
#[test]
fn no_call_is_blamed_for_memory_that_relational_work_had() {
    let no_memory = TaskFailure::new(ErrorCode::OutOfMemory, "it held too much");
    let held = |call: Option<NotedCall>, relational_bytes, process_bytes| {
        call.map(|call| NotedCall {
            relational_bytes,
            process_bytes,
            ..call
        })
    };
    let mut rows = table(FailurePolicy::default());
    rows.begin(WORKER, INPUT, Attempt::Anew, 1);
    let of_sort = held(call(0, 8), 50, 100);
    assert_eq!(rows.died(WORKER, of_sort, &no_memory), Death::Unexplained);
    let spec = rows.begin(WORKER, INPUT, Attempt::Anew, 2).expect("calls");
    assert!(spec.is_careful && spec.most_rows.is_empty(), "{spec:?}");
    let of_call = held(call(0, 8), 49, 100);
    assert_eq!(rows.died(WORKER, of_call, &no_memory), Death::OfRows);

    // One that leaves rows out would leave out good ones.
    let mut rows = table(dead_letters());
    rows.begin(WORKER, INPUT, Attempt::Anew, 1);
    let of_sort = held(call(0, 8), 50, 100);
    assert_eq!(
        rows.died(WORKER, of_sort.clone(), &no_memory),
        Death::Unexplained
    );
    rows.begin(WORKER, INPUT, Attempt::Anew, 2);
    // Not of memory.
    assert_eq!(rows.died(WORKER, of_sort, &crash()), Death::OfRows);
}

#[test]
fn call_that_had_ended_is_blamed_only_where_nothing_works_on_with_what_it_gave() {
    let no_memory = TaskFailure::new(ErrorCode::OutOfMemory, "it held too much");
    let mut stage = StagePlan::new(None);
    let map = MapCall::of(&test_map("Map(f)"));
    for operator in [
        Operator::Relational(Fragment::Shuffle(1)),
        Operator::Map(map.clone()),
        Operator::Relational(Fragment::Shuffle(2)),
        Operator::Map(map),
    ] {
        stage.steps.push(PlannedStep {
            name: "step".to_owned(),
            operator,
            captured: None,
        });
    }
    let mut rows = FailedRows::new(&[stage], None, "notes".to_owned());
    let mut died = |step, process_bytes_before, process_bytes| {
        rows.begin(WORKER, INPUT, Attempt::Anew, 1);
        let ended = NotedCall {
            step,
            ended_rows: 8,
            process_bytes_before,
            process_bytes,
            ..NotedCall::default()
        };
        rows.died(WORKER, Some(ended), &no_memory)
    };
    assert_eq!(died(1, 60, 100), Death::Unexplained, "the shuffle works on");
    assert_eq!(died(1, 0, 0), Death::Unexplained, "nobody knows");
    assert_eq!(died(1, 40, 100), Death::OfRows, "it has given the most");
    assert_eq!(died(3, 60, 100), Death::OfRows, "nothing is behind it");
}

/// A function that returns several outputs makes others of other batches.
#[test]
fn blocks_that_were_handed_on_are_made_again_with_the_batches_that_they_were_made_of() {
    let no_memory = TaskFailure::new(ErrorCode::OutOfMemory, "it held too much");
    let mut rows = table(FailurePolicy::default());
    let most_rows = |rows: &mut FailedRows, input, attempt| {
        let spec = rows.begin(WORKER, input, attempt, 1);
        spec.expect("calls a function").most_rows_of(0)
    };
    assert_eq!(most_rows(&mut rows, (0, 1), Attempt::Anew), None);
    rows.report(WORKER, &report(100, &[], true)).expect("ends");
    assert_eq!(most_rows(&mut rows, (0, 2), Attempt::Anew), None);
    assert_eq!(rows.died(WORKER, call(0, 8), &no_memory), Death::OfRows);
    assert_eq!(most_rows(&mut rows, (0, 3), Attempt::Anew), Some(5));
    assert_eq!(most_rows(&mut rows, (0, 2), Attempt::GoingOn), Some(5));
    assert_eq!(rows.died(WORKER, call(0, 4), &no_memory), Death::OfRows);
    assert_eq!(most_rows(&mut rows, (0, 1), Attempt::Rerun), None);
    assert_eq!(most_rows(&mut rows, (0, 3), Attempt::Rerun), Some(5));
    assert_eq!(most_rows(&mut rows, (0, 2), Attempt::Rerun), Some(3));
    // It has no room any more.
    assert_eq!(rows.died(WORKER, call(0, 4), &no_memory), Death::OfRows);
    assert_eq!(most_rows(&mut rows, (0, 2), Attempt::Rerun), Some(3));
    assert_eq!(most_rows(&mut rows, (0, 1), Attempt::Rerun), None);
    assert_eq!(rows.died(WORKER, call(0, 8), &no_memory), Death::OfRows);
    assert_eq!(most_rows(&mut rows, (0, 1), Attempt::Rerun), Some(3));
    assert_eq!(most_rows(&mut rows, (0, 4), Attempt::Anew), Some(3));
}

/// Each has the memory that it has: batches of a large worker stay large when a small one dies.
#[test]
fn each_kind_of_worker_has_limits_of_its_own() {
    let no_memory = TaskFailure::new(ErrorCode::OutOfMemory, "it held too much");
    let mut stage = stage_of(&[FailurePolicy::default()]);
    stage.compute.others = vec![OtherWorkers {
        pool: stage.compute.pools().remove(0),
        batch_rows: None,
        function: None,
    }];
    let mut rows = FailedRows::new(&[stage], None, "notes".to_owned());
    rows.is_of(OTHER, 1);
    let most_rows = |rows: &mut FailedRows, worker, attempt| {
        let spec = rows.begin(worker, INPUT, attempt, 1);
        spec.expect("calls a function").most_rows_of(0)
    };
    assert_eq!(most_rows(&mut rows, OTHER, Attempt::Anew), None);
    assert_eq!(rows.died(OTHER, call(0, 8), &no_memory), Death::OfRows);
    assert_eq!(rows.most_rows(0).collect::<Vec<_>>(), [(1, 0, 5)]);
    let third = WorkerKey(3);
    rows.is_of(third, 1);
    for attempt in [Attempt::Anew, Attempt::GoingOn, Attempt::Rerun] {
        assert_eq!(most_rows(&mut rows, WORKER, attempt), None);
        assert_eq!(most_rows(&mut rows, third, attempt), Some(5));
    }
}

/// A stage whose workers have 1, 4 and any number of megabytes.
fn table_of_kinds(policy: FailurePolicy) -> FailedRows {
    let mut stage = stage_of(&[policy]);
    let with_memory = |megabytes: u32| {
        let numbers = [("CPU", 1.0), ("memory", f64::from(megabytes << 20))];
        ResourceRequest::from_numbers(numbers, 0).expect("makes sense")
    };
    let other = |resources| OtherWorkers {
        pool: PoolSpec {
            resources,
            ..stage.compute.pools().remove(0)
        },
        batch_rows: None,
        function: None,
    };
    let any = stage.compute.resources.clone();
    stage.compute.others = vec![other(with_memory(4)), other(any)];
    stage.compute.resources = with_memory(1);
    FailedRows::new(&[stage], None, "notes".to_owned())
}

#[test]
fn row_that_has_no_room_in_a_kind_of_worker_is_tried_where_there_is_more() {
    let no_memory = TaskFailure::new(ErrorCode::OutOfMemory, "it held too much");
    for policy in [FailurePolicy::default(), dead_letters()] {
        let mut rows = table_of_kinds(policy);
        let mut workers = 1..;
        let mut dies = |rows: &mut FailedRows, kind| {
            let worker = WorkerKey(workers.next().expect("enough"));
            rows.is_of(worker, kind);
            rows.begin(worker, INPUT, Attempt::Anew, worker.0);
            rows.died(worker, call(5, 5), &no_memory)
        };
        assert_eq!(dies(&mut rows, 0), Death::OfRows);
        assert_eq!(dies(&mut rows, 0), Death::NeedsMemory(vec![1, 2]));
        assert_eq!(dies(&mut rows, 1), Death::NeedsMemory(vec![2]));
        // Where nobody limits it there is no more anywhere.
        let last = dies(&mut rows, 2);
        if policy == FailurePolicy::default() {
            assert!(matches!(last, Death::Ends(_)), "{last:?}");
        } else {
            assert_eq!(last, Death::OfRows);
            let spec = rows.begin(WorkerKey(9), INPUT, Attempt::Anew, 9);
            assert_eq!(spec.expect("calls a function").blamed.len(), 1);
        }
    }
}

/// There may be none of those that would have more: then it is the same kind again.
#[test]
fn row_that_comes_back_to_a_kind_that_has_no_room_for_it_counts_as_failed() {
    let no_memory = TaskFailure::new(ErrorCode::OutOfMemory, "it held too much");
    let mut rows = table_of_kinds(FailurePolicy::default());
    let died: Vec<Death> = (1..4)
        .map(|worker| {
            rows.begin(WorkerKey(worker), INPUT, Attempt::Anew, worker);
            rows.died(WorkerKey(worker), call(5, 5), &no_memory)
        })
        .collect();
    assert_eq!(died[..2], [Death::OfRows, Death::NeedsMemory(vec![1, 2])]);
    let Death::Ends(failure) = &died[2] else {
        panic!("{died:?}");
    };
    let said = "held too much; no worker of a kind with more memory could be started. Let it";
    assert!(failure.message.contains(said), "{failure}");
}

/// A block of the input was lost, and is made again by a second worker, before it was known that a row has no room there.
#[test]
fn worker_that_had_begun_before_a_row_was_to_go_elsewhere_says_nothing_new() {
    let no_memory = TaskFailure::new(ErrorCode::OutOfMemory, "it held too much");
    let mut rows = table_of_kinds(FailurePolicy::default());
    for (worker, attempt) in [(1, Attempt::Anew), (2, Attempt::Rerun), (3, Attempt::Anew)] {
        rows.begin(WorkerKey(worker), INPUT, attempt, worker);
    }
    let mut dies = |worker| rows.died(WorkerKey(worker), call(5, 5), &no_memory);
    assert_eq!(dies(1), Death::OfRows);
    assert_eq!(dies(2), Death::NeedsMemory(vec![1, 2]));
    assert_eq!(dies(3), Death::NeedsMemory(vec![1, 2]));
}

#[test]
fn limits_count_rows_of_inputs_that_are_under_way() {
    let mut rows = table(FailurePolicy {
        max_errors: Some(2),
        ..dead_letters()
    });
    rows.begin(WORKER, INPUT, Attempt::Anew, 1);
    rows.begin(OTHER, (0, 8), Attempt::Anew, 2);
    rows.report(WORKER, &report(10, &[1], false)).expect("one");
    rows.report(OTHER, &report(10, &[1], true)).expect("two");
    let failure = rows
        .report(WORKER, &report(5, &[12], false))
        .expect_err("three");
    assert!(
        failure
            .message
            .contains("3 rows have failed of the 25 that came so far, more than max_errors=2"),
        "{failure}"
    );
    assert_eq!(
        rows.take_letters().len() + rows.take_unfinished_letters().len(),
        3
    );
}

/// Rows that failed stay counted when their worker is gone, and so do those that they were among.
#[test]
fn share_of_failed_rows_is_of_all_rows_that_came_whoever_is_gone() {
    let limited = FailurePolicy {
        max_error_ratio: Some(0.1f64.to_bits()),
        ..dead_letters()
    };
    let mut rows = table(limited);
    rows.source_rows = None;
    rows.begin(WORKER, INPUT, Attempt::Anew, 1);
    let first = report(2000, &(0..190).collect::<Vec<_>>(), false);
    rows.report(WORKER, &first).expect("190 of 2000");
    rows.died(WORKER, None, &crash());
    rows.begin(WORKER, INPUT, Attempt::GoingOn, 2);
    let again = report(1100, &[1050], false);
    rows.report(WORKER, &again).expect("191 of 2000");
    rows.begin(OTHER, (0, 8), Attempt::Anew, 3);
    rows.report(OTHER, &report(1000, &[1], false))
        .expect("192 of 3000");
    // Enough rows have come: a limit of rows ends both.
    rows.forget(WORKER);
    rows.forget(OTHER);
    rows.check(true).expect("192 of 3000");

    let mut rows = table(limited);
    rows.begin(WORKER, INPUT, Attempt::Anew, 1);
    rows.report(WORKER, &report(60, &[1, 2], false))
        .expect("few");
    rows.died(WORKER, None, &crash());
    rows.begin(WORKER, INPUT, Attempt::Anew, 2);
    rows.report(WORKER, &report(100, &[], true)).expect("few");
    rows.check(true).expect("2 of 100");
    assert_eq!(rows.counts(0, 0).rows_in, 100, "each row came once");
}

/// A share is held against all rows of the source: it fails as soon as it cannot hold any more.
#[test]
fn share_of_failed_rows_fails_when_it_cannot_hold_any_more() {
    let limited = FailurePolicy {
        max_error_ratio: Some(0.002f64.to_bits()),
        ..dead_letters()
    };
    let mut rows = table(limited);
    rows.begin(WORKER, INPUT, Attempt::Anew, 1);
    rows.report(WORKER, &report(10, &[1, 2], false))
        .expect("two of a thousand");
    rows.report(WORKER, &report(10, &[3], false))
        .expect_err("three of a thousand");
    let mut rows = table(limited);
    rows.begin(WORKER, INPUT, Attempt::Anew, 1);
    rows.report(WORKER, &report(500, &[1, 2], true))
        .expect("the others may be well");
    rows.check(false).expect("the others may be well");
    rows.check(true).expect_err("two of five hundred");
}
