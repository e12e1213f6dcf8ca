//! Claims and leases: who gets, withdraws and returns one.

use super::*;

#[test]
fn grant_that_crosses_the_withdrawal_of_its_claim_is_taken_back() {
    let mut bench = Bench::new(1);
    let owner = Address::of(THERE, owner(7));
    let lease = CallRequest::Lease {
        request: request(1.0),
        owner,
        claim_id: 5,
    };
    bench.happen(Event::Call {
        call: CallId(1),
        request: lease,
    });
    assert_eq!(bench.free_cpus(), 0.0);
    let withdraw = CallRequest::WithdrawClaim { claim_id: 5 };
    bench.happen(Event::Call {
        call: CallId(2),
        request: withdraw,
    });
    assert_eq!(bench.free_cpus(), 1.0);
}

#[test]
fn answer_of_another_node_to_a_withdrawn_claim_is_given_back_there() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    let grant = LeaseGrant {
        lease_id: 77,
        worker: Some(Address::of(THERE, owner(8))),
        ..LeaseGrant::default()
    };
    let outcome = Ok(LeaseReply {
        outcome: Some(lease_reply::Outcome::Grant(grant)),
    });
    let reply_to = ReplyTo::Process {
        connection: driver,
        request_id: 2,
    };
    bench.happen(Event::ForwardEnded {
        reply_to,
        claim_id: 1,
        outcome,
    });
    let is_given_back = bench.effects.iter().any(|effect| {
        matches!(effect, Effect::Tell { node: THERE, message: PeerMessage::ReturnLease(lease) }
            if lease.lease_id == 77)
    });
    assert!(is_given_back);
}

#[test]
fn warm_leases_are_asked_back_when_their_owner_makes_an_actor() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let spec = TaskSpec {
        resources: request(1.0).resources,
        ..TaskSpec::default()
    };
    let create = CreateActorRequest {
        spec: Some(spec),
        ..CreateActorRequest::default()
    };
    let method = "CreateActor".to_owned();
    let body = Bytes::from(create.encode_to_vec());
    bench.frame(driver, 3, Kind::GcsCall(GcsCall { method, body }));
    assert!(bench.is_asked_back(&grant));
}

#[test]
fn lease_whose_worker_goes_on_is_asked_back_for_those_who_wait() {
    let mut bench = Bench::new(1);
    let drivers = [1, 2, 3].map(|number| bench.driver(number));
    bench.ask(drivers[0], 2, 1.0);
    let first = bench.grant(drivers[0], 2).unwrap();
    let worker = bench.workers[&first.pid];
    bench.frame(worker, 0, Kind::Blocked(Blocked {}));
    bench.ask(drivers[1], 2, 1.0);
    let second = bench.grant(drivers[1], 2).unwrap();
    bench.ask(drivers[2], 2, 1.0);
    assert!(bench.is_asked_back(&second));
    assert!(!bench.is_asked_back(&first), "it holds no CPU");
    bench.frame(worker, 0, Kind::Unblocked(Unblocked {}));
    assert!(bench.is_asked_back(&first), "both CPUs are needed for one");
    bench.frame(drivers[1], 0, give_back(&second));
    assert!(bench.grant(drivers[2], 2).is_none());
    bench.frame(drivers[0], 0, give_back(&first));
    assert!(bench.grant(drivers[2], 2).is_some());
}

#[test]
fn lease_that_has_just_got_its_worker_is_asked_back_for_those_who_wait() {
    let mut bench = Bench::new(1);
    let drivers = [1, 2].map(|number| bench.driver(number));
    bench.are_workers_silent = true;
    bench.ask(drivers[0], 2, 0.0);
    bench.ask(drivers[0], 3, 1.0);
    let forked = |effect: &Effect| match effect {
        Effect::Fork { token, worker, .. } => Some((*token, *worker)),
        _ => None,
    };
    let (token, worker) = bench.effects.iter().rev().find_map(forked).unwrap();
    bench.ask(drivers[1], 2, 1.0);
    bench.greet(token, worker);
    let grant = bench.grant(drivers[0], 3).unwrap();
    assert!(bench.is_asked_back(&grant));
}

#[test]
fn only_the_holder_of_a_lease_can_return_it() {
    let mut bench = Bench::new(1);
    let (holder, thief) = (bench.driver(1), bench.driver(2));
    bench.ask(holder, 2, 1.0);
    let grant = bench.grant(holder, 2).unwrap();
    bench.frame(thief, 0, give_back(&grant));
    assert_eq!(bench.free_cpus(), 0.0);
    bench.frame(holder, 0, give_back(&grant));
    assert_eq!(bench.free_cpus(), 1.0);
}

#[test]
fn request_with_impossible_resources_fails_at_once() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    let mut wrong = request(1.0);
    let quantities = &mut wrong
        .resources
        .as_mut()
        .unwrap()
        .resources
        .as_mut()
        .unwrap()
        .quantities;
    quantities.insert("GPU".to_owned(), 15_000);
    bench.frame(driver, 2, Kind::LeaseRequest(wrong));
    let failure = bench.effects.iter().find_map(|effect| match effect {
        Effect::Send {
            kind:
                Kind::LeaseReply(LeaseReply {
                    outcome: Some(lease_reply::Outcome::Failure(failure)),
                }),
            ..
        } => Some(failure),
        _ => None,
    });
    assert_eq!(failure.unwrap().error_code(), ErrorCode::InvalidArgument);
}
