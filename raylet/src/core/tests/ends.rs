//! Ends of processes and of connections, and what is free when.

use super::*;

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
        let deaths = bench.deaths().into_iter();
        deaths.map(|report| report.death.unwrap().cause).collect()
    };
    assert!(causes(&bench).is_empty());
    bench.exit(grant.pid, "killed by signal 9");
    bench.now += Duration::from_secs(5);
    bench.happen(Event::Tick);
    assert_eq!(causes(&bench), ["killed by signal 9"]);
}

#[test]
fn worker_that_holds_more_memory_than_it_may_is_ended_and_its_death_says_so() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let worker = bench.core.pool().by_pid(grant.pid).unwrap().id;
    let overgrown = |worker| {
        Event::Overgrown(Overgrown {
            worker,
            held_bytes: 3 << 30,
            limit_bytes: 1 << 30,
        })
    };
    bench.happen(overgrown(worker));
    assert!(bench.killed.contains(&grant.pid));
    bench.now += Duration::from_secs(5);
    bench.happen(Event::Tick);
    let death = bench.deaths().remove(0).death.unwrap();
    assert!(death.is_out_of_memory);
    assert_eq!(
        death.cause,
        "held 3 GiB, and memory=1 GiB is what it may hold"
    );
    // The news was under way when it ended.
    let killed = bench.killed.len();
    bench.happen(overgrown(worker));
    assert_eq!(bench.killed.len(), killed);
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
    let death = bench.deaths()[0].death.clone().unwrap();
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

/// The last descriptor of this process went for the connection, and none is left to share the arena.
#[test]
fn worker_that_is_not_given_the_arena_fails_its_start_with_what_is_missing() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.are_workers_silent = true;
    // The first one gets the worker that is there.
    bench.ask(driver, 2, 1.0);
    bench.ask(driver, 3, 0.0);
    let forked = bench.effects.iter().rev().find_map(|effect| match effect {
        Effect::Fork { token, worker, .. } => Some((*token, *worker)),
        _ => None,
    });
    let (token, worker) = forked.unwrap();
    let connection = bench.say_hello(token, worker);
    let cause = "Too many open files".to_owned();
    bench.happen(Event::NotWelcomed { connection, cause });
    bench.happen(Event::Disconnected { connection });
    let told = bench.effects.iter().find_map(|effect| match effect {
        Effect::FailWithLog { cause, .. } => Some(cause),
        _ => None,
    });
    assert!(told.unwrap().contains("Too many open files"), "{told:?}");
    assert!(bench.has_left_the_store(connection));
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

/// A process in the hands of a device driver may take minutes.
#[test]
fn actor_whose_process_takes_long_to_end_is_told_of_as_ending_and_then_as_ended() {
    for is_killed in [false, true] {
        let mut bench = Bench::new(2);
        let actor = ActorId::new([4; 16]);
        let start = || CallRequest::StartActor(Box::new(start_request(actor, 1)));
        bench.call(1, start());
        let worker = bench.hosted(0);
        let (pid, connection) = bench.detach(worker);
        if is_killed {
            let kill = KillWorkerRequest {
                worker_id: worker.to_wire(),
                cause: "was killed".to_owned(),
                ..KillWorkerRequest::default()
            };
            bench.call(2, CallRequest::KillWorker(kill));
        }
        bench.happen(Event::Disconnected { connection });
        assert!(bench.deaths().is_empty(), "it may end at any moment");
        bench.now += Duration::from_millis(300);
        bench.happen(Event::Tick);
        let told = |bench: &Bench| -> Vec<bool> {
            let deaths = bench.deaths().into_iter();
            let deaths = deaths.inspect(|report| assert_eq!(report.actor_id, actor.to_wire()));
            deaths.map(|report| report.is_ending).collect()
        };
        assert_eq!(told(&bench), [true], "callers are told that nobody answers");
        bench.call(3, start());
        assert_eq!(bench.start_answers().len(), 1, "HOST-1: it may run still");
        bench.exit(pid, "killed by signal 9");
        assert_eq!(told(&bench), [true, false]);
        assert_ne!(bench.hosted(1), worker);
    }
}

/// The zygote is stopped, or the machine has no time for it.
#[test]
fn death_of_a_process_that_has_ended_waits_for_what_the_zygote_says() {
    let mut bench = Bench::new(2);
    bench.leaves_dead_unreaped = true;
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let worker = bench.core.pool().by_pid(grant.pid).unwrap().id;
    let (pid, connection) = bench.detach(worker);
    bench.happen(Event::Disconnected { connection });
    for _ in 0..10 {
        bench.now += Duration::from_secs(1);
        bench.happen(Event::Tick);
        assert!(bench.deaths().is_empty(), "its cause is about to be known");
    }
    bench.exit(pid, "killed by signal 9");
    let deaths = bench.deaths();
    let causes: Vec<&str> = deaths
        .iter()
        .map(|report| report.death.as_ref().unwrap().cause.as_str())
        .collect();
    assert_eq!(causes, ["killed by signal 9"]);
}

#[test]
fn worker_that_has_ended_is_given_to_nobody_while_its_connection_lasts() {
    let mut bench = Bench::new(2);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let idle = bench.grant(driver, 2).unwrap();
    bench.frame(driver, 3, give_back(&idle));
    let worker = bench.core.pool().by_pid(idle.pid).unwrap().id;
    bench.detach(worker);
    bench.exit(idle.pid, "killed by signal 9");
    bench.ask(driver, 4, 1.0);
    let next = bench
        .grant(driver, 4)
        .expect("another worker takes its place");
    assert_ne!(next.pid, idle.pid);
    // The same for one whose lease comes back in between.
    let worker = bench.core.pool().by_pid(next.pid).unwrap().id;
    bench.detach(worker);
    bench.exit(next.pid, "killed by signal 9");
    bench.frame(driver, 5, give_back(&next));
    bench.ask(driver, 6, 1.0);
    assert_ne!(bench.grant(driver, 6).unwrap().pid, next.pid);
}

#[test]
fn worker_that_kills_itself_says_why() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let cause = "killed itself".to_owned();
    let worker = bench.workers[&grant.pid];
    bench.frame(worker, 0, Kind::Goodbye(Goodbye { cause }));
    bench.end(grant.pid);
    let deaths = bench.deaths();
    let [report] = &deaths[..] else {
        panic!("one report: {deaths:?}");
    };
    assert!(!report.is_intended);
    assert_eq!(report.death.as_ref().unwrap().cause, "killed itself");
}

/// The worker that was forked last is killed before it takes lanes. Returns what the claims that fail with it are told.
fn kill_at_start(bench: &mut Bench, says_hello: bool) -> Vec<String> {
    let (&pid, _) = bench.workers.last_key_value().expect("one is forked");
    let worker = bench.core.pool().by_pid(pid).expect("is starting").clone();
    if says_hello {
        bench.say_hello(worker.token, worker.id);
    }
    let connection = bench.workers.remove(&pid).expect("is one of them");
    if says_hello {
        bench.happen(Event::Disconnected { connection });
    }
    let exit = Exit {
        is_killed: true,
        ..Exit::of("was killed by signal 9")
    };
    bench.happen(Event::Zygote(ZygoteEvent::Exited { pid, exit }));
    let failures = bench.effects.iter().filter_map(|effect| match effect {
        Effect::FailWithLog { cause, .. } => Some(cause.clone()),
        _ => None,
    });
    failures.collect()
}

#[test]
fn workers_that_are_killed_as_they_start_are_replaced() {
    let mut bench = Bench::new(1);
    bench.are_workers_silent = true;
    let driver = bench.driver(1);
    // The first one gets the worker that is there.
    bench.ask(driver, 2, 1.0);
    bench.ask(driver, 3, 0.0);
    for round in 0..6 {
        let failures = kill_at_start(&mut bench, round % 2 == 1);
        assert_eq!(failures, Vec::<String>::new(), "{round}");
    }
    assert!(bench.grant(driver, 3).is_none());
    let (&pid, _) = bench.workers.last_key_value().expect("one is forked");
    let worker = bench.core.pool().by_pid(pid).expect("is starting").clone();
    bench.greet(worker.token, worker.id);
    assert!(bench.grant(driver, 3).is_some());
    // It came up, so the next are patient again.
    bench.ask(driver, 4, 0.0);
    for round in 0..6 {
        let failures = kill_at_start(&mut bench, round % 2 == 0);
        assert_eq!(failures, Vec::<String>::new(), "{round}");
    }
}

#[test]
fn claim_whose_workers_are_all_killed_as_they_start_fails_and_says_so() {
    let mut bench = Bench::new(1);
    bench.are_workers_silent = true;
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    bench.ask(driver, 3, 0.0);
    let failures: Vec<String> = (0..9)
        .flat_map(|_| kill_at_start(&mut bench, false))
        .collect();
    assert_eq!(
        failures,
        ["a worker process could not start: it was killed by signal 9"]
    );
}
