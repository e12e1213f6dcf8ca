//! Workers that stay for what they own.

use aktis_proto::v1::{JobFinished, Lending, Lingering};

use super::*;

fn lingering(holds_devices: bool) -> Kind {
    Kind::Lingering(Lingering { holds_devices })
}

fn start_of(actor: ActorId) -> CallRequest {
    CallRequest::StartActor(Box::new(start_request(actor, 1)))
}

/// The one death that was reported.
fn the_death(bench: &Bench) -> ReportWorkerDeathRequest {
    let mut reports = bench.deaths().into_iter();
    let report = reports.next().expect("a report");
    assert!(reports.next().is_none(), "one report");
    report
}

/// The worker that was ordered to become an actor last.
fn seated(bench: &Bench) -> Option<ConnectionId> {
    let mut effects = bench.effects.iter().rev();
    effects.find_map(|effect| match effect {
        Effect::Send {
            connection,
            kind: Kind::StartActor(_),
            ..
        } => Some(*connection),
        _ => None,
    })
}

#[test]
fn worker_that_lingers_holds_no_cpu_and_runs_nothing_more() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let worker = bench.workers[&grant.pid];
    bench.frame(worker, 0, lingering(false));
    assert_eq!(bench.free_cpus(), 1.0);
    bench.ask(driver, 3, 1.0);
    let next = bench
        .grant(driver, 3)
        .expect("another worker takes the CPU");
    assert_ne!(next.pid, grant.pid);
    // Its lease is given back late, and its time to end is over: nothing happens to it.
    let unusable = LeaseReturn {
        lease_id: grant.lease_id,
        node_id: HERE.to_wire(),
        is_worker_unusable: true,
    };
    bench.frame(driver, 0, Kind::LeaseReturn(unusable));
    bench.now += Duration::from_secs(100);
    bench.happen(Event::Tick);
    assert!(!bench.killed.contains(&grant.pid));
}

#[test]
fn actor_whose_process_lingers_has_ended_and_its_process_has_not_died() {
    let mut bench = Bench::new(1);
    let actor = ActorId::random();
    bench.call(1, start_of(actor));
    let worker = seated(&bench).expect("an actor is started");
    bench.frame(worker, 0, Kind::Goodbye(Default::default()));
    bench.frame(worker, 0, lingering(false));
    let report = the_death(&bench);
    assert!(report.is_lingering && report.is_intended);
    assert_eq!(report.actor_id, actor.to_wire());
    let is_told = |effect: &Effect| {
        matches!(
            effect,
            Effect::Send {
                kind: Kind::WorkerDied(_),
                ..
            }
        )
    };
    assert!(!bench.effects.iter().any(is_told));
    assert_eq!(bench.free_cpus(), 1.0);
}

#[test]
fn actor_that_took_its_leave_has_ended_itself_and_not_lost_its_connection() {
    let mut bench = Bench::new(1);
    bench.call(1, start_of(ActorId::random()));
    let connection = seated(&bench).expect("an actor is started");
    bench.frame(connection, 0, Kind::Goodbye(Default::default()));
    let pids = bench.workers.iter();
    let pid = pids
        .filter(|(_, of)| **of == connection)
        .map(|(pid, _)| *pid)
        .next();
    bench.end(pid.unwrap());
    let report = the_death(&bench);
    assert!(report.is_intended);
    let cause = report.death.expect("a death").cause;
    assert_eq!(cause, "it ended itself (exit_actor())");
}

#[test]
fn worker_that_lends_something_becomes_no_actor() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let worker = bench.workers[&grant.pid];
    let lending = |is_lending| Kind::Lending(Lending { is_lending });
    bench.frame(worker, 0, lending(true));
    bench.frame(driver, 0, give_back(&grant));
    bench.call(1, start_of(ActorId::random()));
    let other = seated(&bench).expect("an actor is started");
    assert_ne!(other, worker);
    // Tasks may come to it all the same.
    bench.ask(driver, 3, 0.0);
    assert_eq!(
        bench.grant(driver, 3).map(|again| again.pid),
        Some(grant.pid)
    );
}

#[test]
fn tasks_of_a_worker_do_not_come_to_itself() {
    let mut bench = Bench::new(2);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let worker = bench.workers[&grant.pid];
    bench.frame(driver, 0, give_back(&grant));
    bench.ask(worker, 3, 1.0);
    let child = bench.grant(worker, 3).expect("a worker is found");
    assert_ne!(child.pid, grant.pid);
}

#[test]
fn nobody_lingers_when_the_job_is_over() {
    let mut bench = Bench::new(2);
    let driver = bench.driver(1);
    let grants = [2, 3].map(|request| {
        bench.ask(driver, request, 1.0);
        bench.grant(driver, request).unwrap()
    });
    let workers = grants.each_ref().map(|grant| bench.workers[&grant.pid]);
    bench.frame(workers[0], 0, lingering(false));
    bench.frame(driver, 0, give_back(&grants[1]));
    let finished = JobFinished {
        job_id: JOB.to_wire(),
    };
    bench.happen(Event::Published(Publication {
        kind: Some(publication::Kind::JobFinished(finished)),
    }));
    bench.frame(workers[1], 0, lingering(false));
    bench.now += Duration::from_secs(2);
    bench.happen(Event::Tick);
    for grant in &grants {
        assert!(bench.killed.contains(&grant.pid));
    }
}

#[test]
fn worker_that_its_owner_cannot_use_and_that_does_not_end_is_killed() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let unusable = LeaseReturn {
        lease_id: grant.lease_id,
        node_id: HERE.to_wire(),
        is_worker_unusable: true,
    };
    bench.frame(driver, 0, Kind::LeaseReturn(unusable.clone()));
    assert!(!bench.killed.contains(&grant.pid));
    bench.frame(driver, 0, Kind::LeaseReturn(unusable));
    assert!(bench.killed.contains(&grant.pid));
}
