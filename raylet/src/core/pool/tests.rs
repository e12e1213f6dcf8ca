use std::time::{Duration, Instant};

use aktis_common::ids::JobId;
use aktis_common::resources::Quantity;
use proptest::prelude::*;

use super::devices::Held;
use super::*;
use crate::core::keys::LeaseId;

pub(super) const JOB: JobId = JobId::new([1; 16]);
const OTHER_JOB: JobId = JobId::new([2; 16]);

/// All of these devices.
pub(super) fn whole(ids: &[u32]) -> Devices {
    let share = if ids.is_empty() {
        Quantity::ZERO
    } else {
        Quantity::ONE
    };
    Devices::new(ids, share)
}

fn limits() -> PoolLimits {
    PoolLimits {
        warm_max: 2,
        start_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        exit_grace: Duration::from_secs(1),
        failure_pause: Duration::from_secs(5),
        max_starting: 4,
    }
}

/// What is wanted of a worker that has no limit.
pub(super) fn wish(job: JobId, devices: &Devices, modules: &[String], guest: Guest) -> Wish {
    Wish {
        job,
        devices: devices.clone(),
        modules: modules.to_vec(),
        guest,
        memory_limit: None,
    }
}

pub(super) fn pool() -> WorkerPool {
    WorkerPool::new(limits(), [7; 8])
}

pub(super) fn connect(pool: &mut WorkerPool, now: Instant) -> WorkerId {
    let starting = pool.begin_start(now);
    let token = starting.token.0;
    let pid = u32::try_from(token).unwrap() + 1000;
    assert!(pool.forked(starting.token, pid));
    assert!(pool.hello(starting.worker, starting.token, pid, ConnectionId(token)));
    pool.lane_open(starting.worker, now);
    starting.worker
}

#[test]
fn one_worker_is_warm_at_first_and_more_once_leases_are_asked() {
    let (mut pool, now) = (pool(), Instant::now());
    assert_eq!(pool.shortage(0, now), 1);
    pool.note_demand();
    assert_eq!(pool.shortage(0, now), 2);
    assert_eq!(pool.shortage(1, now), 3);
    assert_eq!(
        pool.shortage(50, now),
        4,
        "not more than max_starting at once"
    );
    connect(&mut pool, now);
    assert_eq!(pool.shortage(1, now), 2);
}

#[test]
fn worker_serves_one_job_only() {
    let (mut pool, now) = (pool(), Instant::now());
    let worker = connect(&mut pool, now);
    pool.assign(
        worker,
        Duty::Lease(LeaseId(1)),
        &wish(JOB, &whole(&[]), &[], Guest::Actor),
    );
    pool.release(worker, now);
    assert_eq!(
        pool.find_idle(&wish(OTHER_JOB, &whole(&[]), &[], Guest::Actor)),
        None,
        "POOL-2"
    );
    assert_eq!(
        pool.find_idle(&wish(JOB, &whole(&[]), &[], Guest::Actor)),
        Some(worker)
    );
}

#[test]
fn worker_that_saw_gpus_is_only_reused_for_the_same_ones() {
    let (mut pool, now) = (pool(), Instant::now());
    let worker = connect(&mut pool, now);
    pool.assign(
        worker,
        Duty::Lease(LeaseId(1)),
        &wish(JOB, &whole(&[0, 1]), &[], Guest::Actor),
    );
    pool.release(worker, now);
    for other in [&[][..], &[0], &[1, 0]] {
        assert_eq!(
            pool.find_idle(&wish(JOB, &whole(other), &[], Guest::Actor)),
            None,
            "POOL-3"
        );
    }
    assert_eq!(
        pool.find_idle(&wish(JOB, &whole(&[0, 1]), &[], Guest::Actor)),
        Some(worker)
    );
    let half = Devices::new(&[0, 1], Quantity::from_units(5_000));
    assert_eq!(
        pool.find_idle(&wish(JOB, &half, &[], Guest::Actor)),
        None,
        "POOL-3: it may keep more than that"
    );
}

#[test]
fn worker_that_ran_without_gpus_is_not_given_any() {
    let (mut pool, now) = (pool(), Instant::now());
    let worker = connect(&mut pool, now);
    pool.assign(
        worker,
        Duty::Lease(LeaseId(1)),
        &wish(JOB, &whole(&[]), &[], Guest::Actor),
    );
    pool.release(worker, now);
    assert_eq!(
        pool.find_idle(&wish(JOB, &whole(&[0]), &[], Guest::Actor)),
        None,
        "POOL-3"
    );
}

#[test]
fn used_worker_of_the_same_job_is_preferred_to_a_fresh_one() {
    let (mut pool, now) = (pool(), Instant::now());
    let used = connect(&mut pool, now);
    pool.assign(
        used,
        Duty::Lease(LeaseId(1)),
        &wish(JOB, &whole(&[]), &[], Guest::Actor),
    );
    pool.release(used, now);
    connect(&mut pool, now);
    assert_eq!(
        pool.find_idle(&wish(JOB, &whole(&[]), &[], Guest::Actor)),
        Some(used)
    );
}

#[test]
fn stranger_that_names_a_wrong_token_or_pid_is_no_worker() {
    let (mut pool, now) = (pool(), Instant::now());
    let starting = pool.begin_start(now);
    pool.forked(starting.token, 5);
    let mut hello = |id, token, pid| pool.hello(id, token, pid, ConnectionId(1));
    assert!(!hello(starting.worker, StartupToken(99), 5));
    assert!(!hello(starting.worker, starting.token, 6));
    assert!(!hello(WorkerId::random(), starting.token, 5));
    assert!(hello(starting.worker, starting.token, 5));
    assert!(
        !hello(starting.worker, starting.token, 5),
        "a second hello is refused"
    );
}

#[test]
fn worker_without_a_lane_is_given_to_nobody() {
    let (mut pool, now) = (pool(), Instant::now());
    let starting = pool.begin_start(now);
    assert!(pool.hello(starting.worker, starting.token, 5, ConnectionId(1)));
    assert_eq!(
        (
            pool.find_idle(&wish(JOB, &whole(&[]), &[], Guest::Actor)),
            pool.starting_count()
        ),
        (None, 1)
    );
    pool.lane_open(starting.worker, now);
    assert_eq!(
        pool.find_idle(&wish(JOB, &whole(&[]), &[], Guest::Actor)),
        Some(starting.worker)
    );
}

#[test]
fn process_of_a_start_that_was_given_up_is_to_be_killed() {
    let (mut pool, now) = (pool(), Instant::now());
    let starting = pool.begin_start(now);
    pool.remove(starting.worker);
    assert!(!pool.forked(starting.token, 5));
}

#[test]
fn silent_worker_is_overdue_and_fresh_surplus_is_retired_in_time() {
    let (mut pool, now) = (pool(), Instant::now());
    let silent = pool.begin_start(now).worker;
    let idle: Vec<WorkerId> = (0..3).map(|_| connect(&mut pool, now)).collect();
    assert_eq!(pool.chores(now), PoolChores::default());
    let later = now + Duration::from_secs(60);
    let chores = pool.chores(later);
    assert_eq!(
        (chores.overdue, chores.surplus),
        (vec![silent], vec![idle[0]])
    );
    pool.retire(idle[0], later);
    assert_eq!(
        pool.chores(later + Duration::from_secs(1)).stubborn,
        [idle[0]]
    );
}

#[test]
fn idle_worker_that_has_served_ends_in_time_unless_it_lends_what_it_owns() {
    let (mut pool, now) = (pool(), Instant::now());
    let all: Vec<WorkerId> = (1..=3)
        .map(|n| {
            let worker = connect(&mut pool, now);
            pool.assign(
                worker,
                Duty::Lease(LeaseId(n)),
                &wish(JOB, &whole(&[]), &[], Guest::Actor),
            );
            worker
        })
        .collect();
    for worker in &all {
        assert!(pool.release(*worker, now));
        pool.note_lending(*worker, true);
    }
    let later = now + Duration::from_secs(600);
    assert!(pool.chores(later).surplus.is_empty());
    assert_eq!(pool.next_deadline(), None);
    pool.note_lending(all[1], false);
    assert_eq!(pool.chores(later).surplus, [all[1]]);
    assert_eq!(
        pool.next_deadline(),
        Some(now + Duration::from_secs(60)),
        "the core is woken for it"
    );
}

#[test]
fn failed_start_stops_prestarting_but_not_what_is_asked_for() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.note_start_failure(now);
    assert_eq!((pool.shortage(0, now), pool.shortage(1, now)), (0, 1));
    assert_eq!(pool.next_deadline(), Some(now + Duration::from_secs(5)));
    assert_eq!(pool.shortage(0, now + Duration::from_secs(5)), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Start,
    Hello(usize),
    Assign(u8, usize),
    Release(usize),
    Retire(usize),
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Start),
        any::<usize>().prop_map(Step::Hello),
        (1..3u8, 0..3usize).prop_map(|(job, gpus)| Step::Assign(job, gpus)),
        any::<usize>().prop_map(Step::Release),
        any::<usize>().prop_map(Step::Retire),
        any::<usize>().prop_map(Step::Remove),
    ]
}

proptest! {
    #[test]
    fn any_sequence_keeps_the_pool_in_order(steps in prop::collection::vec(step(), 0..80)) {
        let (mut pool, now) = (pool(), Instant::now());
        let mut jobs: std::collections::BTreeMap<WorkerId, JobId> = Default::default();
        for step in steps {
            let mut all: Vec<WorkerId> = pool.iter().map(|worker| worker.id).collect();
            all.sort_unstable();
            let pick = |index: usize| (!all.is_empty()).then(|| all[index % all.len()]);
            match step {
                Step::Start => { pool.begin_start(now); }
                Step::Hello(index) => if let Some(id) = pick(index) {
                    let token = pool.get(id).unwrap().token;
                    let pid = u32::try_from(token.0).unwrap();
                    pool.hello(id, token, pid, ConnectionId(token.0));
                        pool.lane_open(id, now);
                },
                Step::Assign(job, gpus) => {
                    let (job, gpus) = (JobId::new([job; 16]), &[0, 1][..gpus.min(2)]);
                    if let Some(id) = pool.find_idle(&wish(job, &whole(gpus), &[], Guest::Actor)) {
                        pool.assign(id, Duty::Lease(LeaseId(1)), &wish(job, &whole(gpus), &[], Guest::Actor));
                        prop_assert_eq!(*jobs.entry(id).or_insert(job), job, "POOL-2");
                    }
                }
                Step::Release(index) => if let Some(id) = pick(index) { pool.release(id, now); },
                Step::Retire(index) => if let Some(id) = pick(index) { pool.retire(id, now); },
                Step::Remove(index) => if let Some(id) = pick(index) { pool.remove(id); },
            }
            pool.check().unwrap();
        }
    }
}

#[test]
fn worker_forked_before_modules_were_shared_is_not_given_to_those_who_want_them() {
    let (mut pool, now) = (pool(), Instant::now());
    let numpy = ["numpy".to_owned()];
    let before = connect(&mut pool, now);
    assert_eq!(
        pool.find_idle(&wish(JOB, &whole(&[]), &numpy, Guest::Actor)),
        None
    );
    pool.share_modules(&numpy);
    assert_eq!(
        pool.find_idle(&wish(JOB, &whole(&[]), &numpy, Guest::Actor)),
        None,
        "POOL-4"
    );
    let after = connect(&mut pool, now);
    assert_eq!(
        pool.find_idle(&wish(JOB, &whole(&[]), &numpy, Guest::Actor)),
        Some(after),
        "POOL-4"
    );
    pool.assign(
        after,
        Duty::Lease(LeaseId(1)),
        &wish(JOB, &whole(&[]), &[], Guest::Actor),
    );
    assert_eq!(
        pool.find_idle(&wish(JOB, &whole(&[]), &[], Guest::Actor)),
        Some(before)
    );
}

#[test]
fn idle_workers_hold_what_they_were_given_until_they_are_gone() {
    let (mut pool, now) = (pool(), Instant::now());
    let half = Devices::new(&[0], Quantity::from_units(5_000));
    let all: Vec<WorkerId> = (1..=3)
        .map(|n| {
            let worker = connect(&mut pool, now);
            pool.assign(
                worker,
                Duty::Lease(LeaseId(n)),
                &wish(JOB, &half, &[], Guest::Actor),
            );
            worker
        })
        .collect();
    let [leased, first, second] = all[..] else {
        unreachable!("three were made")
    };
    pool.release(first, now);
    pool.release(second, now);
    let held = |pool: &WorkerPool, guest| pool.held_of(0, guest, |worker| worker == leased);
    let rivals = |free| held(&pool, None).too_much(Quantity::from_units(free));
    assert_eq!(rivals(10_000), None, "POOL-5");
    assert_eq!(rivals(9_999), Some(vec![first]), "the longest idle");
    assert_eq!(rivals(0), Some(vec![first, second]));
    assert_eq!(
        held(&pool, Some(second)).too_much(Quantity::from_units(5_000)),
        None,
        "the guest takes its own along"
    );
    assert_eq!(pool.held_of(1, None, |_| false), Held::default());
    pool.retire(first, now);
    assert_eq!(
        held(&pool, None).too_much(Quantity::from_units(5_000)),
        Some(vec![]),
        "what is ending holds it still"
    );
    pool.linger(first, false);
    assert_eq!(held(&pool, None).by_ending, Quantity::ZERO);
    pool.linger(first, true);
    assert_eq!(held(&pool, None).by_ending, Quantity::from_units(5_000));
    pool.remove(first);
    assert_eq!(held(&pool, None).by_ending, Quantity::ZERO);
}

/// What tasks before it have left in a process is not held against whoever has a limit.
#[test]
fn who_has_a_limit_gets_a_process_of_its_own_kind() {
    let (mut pool, now) = (pool(), Instant::now());
    let used = connect(&mut pool, now);
    let limited = |limit| Wish {
        memory_limit: limit,
        ..wish(JOB, &whole(&[]), &[], Guest::Actor)
    };
    pool.assign(used, Duty::Lease(LeaseId(1)), &limited(None));
    assert!(pool.release(used, now));
    assert_eq!(pool.find_idle(&limited(Some(500))), None);
    assert_eq!(pool.find_idle(&limited(None)), Some(used));

    let fresh = connect(&mut pool, now);
    assert_eq!(pool.find_idle(&limited(Some(500))), Some(fresh));
    pool.assign(fresh, Duty::Lease(LeaseId(2)), &limited(Some(500)));
    assert!(pool.release(fresh, now));
    assert_eq!(pool.find_idle(&limited(Some(500))), Some(fresh));
    assert_eq!(pool.find_idle(&limited(Some(400))), None);
}
