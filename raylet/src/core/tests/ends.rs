//! Ends of processes and of connections, and what is free when.

use super::*;

fn gpu_request(gpus: f64) -> LeaseRequest {
    let wanted = ResourceRequest::from_numbers([(GPU, gpus)], 0).unwrap();
    LeaseRequest {
        resources: Some((&wanted).into()),
        ..request(0.0)
    }
}

#[test]
fn killed_worker_releases_its_lease() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    bench.ask(driver, 3, 1.0);
    let connection = bench.workers.remove(&grant.pid).unwrap();
    bench.happen(Event::Disconnected { connection });
    assert!(
        bench.grant(driver, 3).is_none(),
        "NODE-2: its process may live"
    );
    assert!(
        !bench.has_left_the_store(connection),
        "NODE-2: it may be writing"
    );
    bench.exit(grant.pid, "killed by signal 9");
    assert!(bench.has_left_the_store(connection));
    let next = bench.grant(driver, 3).expect("the CPU is free again");
    assert_ne!(next.worker, grant.worker);
    bench.check();
}

#[test]
fn death_is_announced_once_with_the_cause_that_comes_a_little_later() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let connection = bench.workers.remove(&grant.pid).unwrap();
    bench.happen(Event::Disconnected { connection });
    let causes = |bench: &Bench| -> Vec<String> {
        let reports = bench.effects.iter().filter_map(|effect| match effect {
            Effect::Report(GcsReport::WorkerDeath(report)) => report.death.clone(),
            _ => None,
        });
        reports.map(|death| death.cause).collect()
    };
    assert!(causes(&bench).is_empty());
    bench.exit(grant.pid, "killed by signal 9");
    bench.now += Duration::from_secs(5);
    bench.happen(Event::Tick);
    assert_eq!(causes(&bench), ["killed by signal 9"]);
}

#[test]
fn end_of_an_owner_withdraws_its_claims_and_kills_its_workers() {
    let mut bench = Bench::new(1);
    let (first, second) = (bench.driver(1), bench.driver(2));
    bench.ask(first, 2, 1.0);
    let grant = bench.grant(first, 2).unwrap();
    bench.ask(first, 3, 1.0);
    bench.ask(second, 2, 1.0);
    bench.happen(Event::Disconnected { connection: first });
    assert!(bench.killed.contains(&grant.pid), "NODE-1");
    assert!(bench.grant(second, 2).is_some());
    assert!(
        bench.core.leases().claims_where(|_, _| true).is_empty(),
        "NODE-1"
    );
    bench.check();
}

#[test]
fn lease_of_a_remote_owner_ends_when_its_death_is_published() {
    let mut bench = Bench::new(1);
    let owner = Address::of(THERE, owner(7));
    let lease = CallRequest::Lease {
        request: request(1.0),
        owner: owner.clone(),
        claim_id: 5,
    };
    bench.happen(Event::Call {
        call: CallId(1),
        request: lease,
    });
    assert_eq!(bench.free_cpus(), 0.0);
    let died = WorkerDied {
        worker: Some(owner),
        cause: "gone".to_owned(),
        ..WorkerDied::default()
    };
    let kind = Some(publication::Kind::WorkerDied(died));
    bench.happen(Event::Published(Publication { kind }));
    assert_eq!(bench.free_cpus(), 1.0, "NODE-1");
    bench.check();
}

#[test]
fn process_that_ends_before_its_connection_is_gone_when_both_are() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    bench.last_words = "last lines of x:\noh".to_owned();
    let connection = bench.workers.remove(&grant.pid).unwrap();
    bench.exit(grant.pid, "exited with code 1");
    assert!(
        !bench.has_left_the_store(connection),
        "what it sealed last may still be in its connection"
    );
    bench.happen(Event::Disconnected { connection });
    assert!(bench.has_left_the_store(connection));
    let death = bench.effects.iter().find_map(|effect| match effect {
        Effect::Report(GcsReport::WorkerDeath(report)) => report.death.clone(),
        _ => None,
    });
    let death = death.expect("it is told");
    assert_eq!(death.cause, "exited with code 1");
    assert_eq!(death.last_words, "last lines of x:\noh");
    assert_eq!(bench.free_cpus(), 1.0);
}

#[test]
fn driver_that_is_cut_off_keeps_what_it_writes_until_it_ends() {
    let mut bench = Bench::new(1);
    let cut_off = bench.driver(1);
    bench.happen(Event::Disconnected {
        connection: cut_off,
    });
    assert!(!bench.has_left_the_store(cut_off), "NODE-2");
    bench.happen(Event::ClientEnded {
        connection: cut_off,
    });
    assert!(bench.has_left_the_store(cut_off));
    let leaving = bench.driver(2);
    bench.frame(leaving, 3, Kind::Goodbye(Default::default()));
    bench.happen(Event::Disconnected {
        connection: leaving,
    });
    assert!(bench.has_left_the_store(leaving));
}

#[test]
fn worker_is_shown_its_gpus_by_the_names_of_the_nodes_environment() {
    let mut bench = Bench::with_gpus(1, 2);
    let driver = bench.driver(1);
    bench.frame(driver, 2, Kind::LeaseRequest(gpu_request(2.0)));
    let held = bench.grant(driver, 2).unwrap().accelerators.unwrap();
    assert_eq!(held.gpu_ids, [0, 1]);
    assert_eq!(held.visible_devices, "2,3");
}

#[test]
fn gpu_of_an_idle_worker_is_given_away_when_its_process_is_gone() {
    let mut bench = Bench::with_gpus(1, 2);
    let driver = bench.driver(1);
    bench.frame(driver, 2, Kind::LeaseRequest(gpu_request(1.0)));
    let first = bench.grant(driver, 2).unwrap();
    bench.frame(driver, 3, give_back(&first));
    bench.frame(driver, 4, Kind::LeaseRequest(gpu_request(2.0)));
    assert!(
        bench.grant(driver, 4).is_none(),
        "NODE-2: the idle worker may hold memory of one of them"
    );
    let connection = bench.workers.remove(&first.pid).unwrap();
    bench.happen(Event::Disconnected { connection });
    assert!(bench.grant(driver, 4).is_none(), "NODE-2");
    bench.exit(first.pid, "exited with code 0");
    assert!(bench.grant(driver, 4).is_some());
}

#[test]
fn shortage_of_descriptors_is_told_to_whoever_waits_for_a_worker() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.are_workers_silent = true;
    bench.ask(driver, 2, 1.0);
    bench.ask(driver, 3, 0.0);
    bench.now += Duration::from_secs(3);
    let cause = "Too many open files".to_owned();
    bench.happen(Event::OutOfDescriptors { cause });
    let told = bench.effects.iter().any(|effect| {
        matches!(effect, Effect::FailWithLog { cause, .. } if cause.contains("Too many open files"))
    });
    assert!(told);
}

#[test]
fn lease_that_is_returned_while_its_worker_dies_is_free_when_the_process_is_gone() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let connection = bench.workers.remove(&grant.pid).unwrap();
    bench.happen(Event::Disconnected { connection });
    bench.frame(driver, 3, give_back(&grant));
    assert_eq!(bench.free_cpus(), 0.0, "NODE-2");
    bench.exit(grant.pid, "killed by signal 9");
    assert_eq!(bench.free_cpus(), 1.0);
}
