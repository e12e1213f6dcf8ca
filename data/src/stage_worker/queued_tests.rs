//! Inputs that follow one another in a worker whose calls overlap.

use super::failing_tests::{begin, failing, input_of, worker_of};
use super::*;
use crate::plan::MapSpec;
use crate::sources::Asked;
use crate::testing::{ids, test_map};

/// Gives, for each of its rows, how many calls are under way when that of the row ends: four at most.
fn overlapping() -> MapSpec {
    MapSpec {
        batch_rows: Some(5),
        ..test_map("calls under way")
    }
}

/// Pulls to the end of the first input, adding one that follows when one is asked for. Calls of each row, of both inputs.
fn run(worker: &mut StageWorker, mut following: Option<i64>) -> Vec<Vec<i64>> {
    begin(worker, InputSpec::default());
    let mut inputs = vec![Vec::new()];
    let mut left = 1 + usize::from(following.is_some());
    let mut wants = false;
    while left > 0 {
        let pulled = match following.take_if(|_| wants) {
            Some(first) => {
                let (input, blocks) = input_of(first, InputSpec::default());
                worker.queue(input, blocks)
            }
            None => worker.pull(),
        };
        let (report, block) = pulled.expect("goes on");
        wants = report.wants_input;
        if let Some(block) = block {
            let (_, batches) = crate::block::decode(block).expect("is a block");
            inputs
                .last_mut()
                .expect("there is one")
                .extend(ids(&batches));
        }
        if report.is_last {
            left -= 1;
            inputs.push(Vec::new());
        }
    }
    inputs.pop();
    inputs
}

fn calls(of: &[i64]) -> Vec<i64> {
    of.iter().flat_map(|&calls| [calls; 5]).collect()
}

/// Ten calls with five rows each.
const ALONE: [i64; 10] = [4, 4, 4, 4, 4, 4, 4, 3, 2, 1];

#[test]
fn calls_of_the_next_input_begin_while_the_last_ones_of_the_first_are_under_way() {
    let mut worker = worker_of(&[overlapping()]);
    assert_eq!(run(&mut worker, None), [calls(&ALONE)]);
    assert_eq!(
        run(&mut worker, Some(50)),
        [calls(&[4; 10]), calls(&ALONE)],
        "none ends with fewer but the last ones of the second"
    );
}

#[test]
fn steps_behind_the_function_make_no_difference() {
    let filter = Operator::Filter("id >= 0".into());
    let map = Operator::Map(MapCall::of(&overlapping()));
    let mut worker = super::failing_tests::worker_with(vec![map, filter]);
    assert_eq!(run(&mut worker, Some(50)), [calls(&[4; 10]), calls(&ALONE)]);
}

#[test]
fn no_input_follows_where_rows_may_be_left_out() {
    let mut worker = worker_of(&[failing("calls under way", 5)]);
    begin(&mut worker, InputSpec::default());
    loop {
        let (report, _) = worker.pull().expect("goes on");
        assert!(!report.wants_input);
        if report.is_last {
            return;
        }
    }
}

/// Its answers come while rows of the first are at work.
#[test]
fn input_follows_where_all_of_a_far_one_is_asked_for_and_most_of_it_is_there() {
    let mut worker = worker_of(&[test_map("as it is")]);
    let mut wants = |under_way: Option<u64>| {
        begin(&mut worker, InputSpec::default());
        let asked = Asked::new(64 << 20);
        asked.say(under_way);
        worker.running[0].reading = Some(asked);
        worker.pull().expect("goes on").0.wants_input
    };
    assert!(wants(Some(1 << 20)));
    assert!(!wants(Some(1 << 30)), "enough is under way");
    assert!(!wants(None), "there is more of it to be asked for");
}

/// A worker gives both back when it is given another.
#[test]
fn input_that_is_started_anew_forgets_both() {
    let mut worker = worker_of(&[overlapping()]);
    begin(&mut worker, InputSpec::default());
    while !worker.pull().expect("goes on").0.wants_input {}
    let (input, blocks) = input_of(50, InputSpec::default());
    worker.queue(input, blocks).expect("goes on");
    assert_eq!(run(&mut worker, None), [calls(&ALONE)]);
}

/// Calls that do not overlap: the second input is there before anybody knows how often the first is to be pulled.
#[test]
fn input_that_nobody_asked_for_begins_when_the_one_before_it_is_used_up() {
    let mut worker = worker_of(&[MapSpec {
        batch_rows: Some(16),
        ..test_map("same")
    }]);
    begin(&mut worker, InputSpec::default());
    let (input, blocks) = input_of(50, InputSpec::default());
    let mut pulled = vec![worker.queue(input, blocks).expect("goes on")];
    while pulled.iter().filter(|(report, _)| report.is_last).count() < 2 {
        pulled.push(worker.pull().expect("goes on"));
    }
    let ends = pulled.iter().map(|(report, _)| report.is_last);
    assert_eq!(
        ends.collect::<Vec<_>>(),
        [false, false, true, false, false, true]
    );
    let blocks = pulled.into_iter().filter_map(|(_, block)| block);
    let rows = blocks.flat_map(|block| ids(&crate::block::decode(block).expect("is a block").1));
    assert_eq!(rows.collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    assert!(worker.pull().is_err(), "nothing follows");
}
