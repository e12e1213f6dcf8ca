//! Every moment of a worker is counted once, under what it was spent for.

use super::*;
use crate::wire::spec::StepReport;
use crate::wire::time::PullTime;

const WORKER: WorkerKey = WorkerKey(1);
const OTHER: WorkerKey = WorkerKey(2);
const MILLIS: u64 = 1_000_000;

fn ready(held: u64, loading: u64) -> ReadyReport {
    ReadyReport {
        held_nanos: held * MILLIS,
        loading_nanos: loading * MILLIS,
        cpu_nanos: MILLIS,
        ..ReadyReport::default()
    }
}

fn report(work: u64, rows: u64, is_last: bool) -> Report {
    let source = StepReport {
        rows_out: rows,
        ..StepReport::default()
    };
    Report {
        steps: vec![source],
        time: Some(PullTime {
            wall_nanos: work * MILLIS,
            cpu_nanos: MILLIS,
        }),
        is_last,
        ..Report::default()
    }
}

/// Milliseconds of: starting, loading, useful, repeated, idle, lent.
fn of(time: &WorkerTime) -> [u128; 6] {
    [
        time.starting,
        time.loading,
        time.useful,
        time.repeated,
        time.idle,
        time.lent,
    ]
    .map(|one| one.as_millis())
}

#[test]
fn time_is_counted_once_from_its_room_to_its_end() {
    let began = Instant::now();
    let at = |millis| began + Duration::from_millis(millis);
    let mut times = WorkerTimes::new(1);
    times.asked(WORKER, 0, at(0));
    // It has waited for room for a second.
    times.ready(WORKER, &ready(500, 400), at(1500));
    times.begins(WORKER, false, at(1510));
    times.pulled(WORKER, &report(80, 7, false), at(1600));
    // Its consumer takes five seconds; after one of them others have its CPUs.
    times.pull(WORKER, at(6600));
    let so_far = times.so_far(at(6650));
    assert_eq!(of(&so_far[0]), [100, 400, 130, 0, 1020, 4000]);
    times.pulled(WORKER, &report(90, 3, true), at(6700));
    times.ended(WORKER, at(6800));
    let all = &times.so_far(at(9000))[0];
    assert_eq!(of(all), [100, 400, 170, 0, 1130, 4000]);
    assert_eq!(
        of(all).iter().sum::<u128>(),
        5800,
        "since its node had room"
    );
    assert_eq!(
        (all.workers, all.rows_repeated, all.cpu.as_millis()),
        (1, 0, 3)
    );
}

#[test]
fn work_of_the_dead_has_to_be_done_again() {
    let began = Instant::now();
    let at = |millis| began + Duration::from_millis(millis);
    let mut times = WorkerTimes::new(1);
    for worker in [WORKER, OTHER] {
        times.asked(worker, 0, at(0));
        times.ready(worker, &ready(10, 10), at(10));
    }
    times.begins(WORKER, false, at(10));
    times.pulled(WORKER, &report(90, 5, false), at(100));
    times.pull(WORKER, at(100));
    times.died(WORKER, at(150));
    times.begins(OTHER, false, at(150));
    times.pulled(OTHER, &report(200, 9, true), at(350));
    // Blocks of it are lost, and made again.
    times.begins(OTHER, true, at(350));
    times.pulled(OTHER, &report(50, 9, true), at(400));
    // An input whose blocks cannot be read is given back.
    times.begins(OTHER, false, at(400));
    times.gives_back(OTHER, at(430));
    times.ended(OTHER, at(430));
    let all = &times.so_far(at(500))[0];
    assert_eq!(of(all), [0, 20, 200, 140 + 50 + 30, 140, 0]);
    assert_eq!(all.rows_repeated, 14);
}

#[test]
fn worker_that_was_never_ready_counts_if_it_died_and_not_if_nobody_wanted_it() {
    let began = Instant::now();
    let at = |millis| began + Duration::from_millis(millis);
    let mut times = WorkerTimes::new(1);
    times.asked(WORKER, 0, at(0));
    times.asked(OTHER, 0, at(0));
    times.ended(WORKER, at(70));
    times.died(OTHER, at(50));
    let all = &times.so_far(at(100))[0];
    assert_eq!((of(all), all.workers), ([50, 0, 0, 0, 0, 0], 1));
}
