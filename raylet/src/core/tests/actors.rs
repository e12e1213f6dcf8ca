//! Starts of actors.

use super::*;

#[test]
fn start_that_is_asked_for_twice_makes_one_actor() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let held = bench.grant(driver, 2).unwrap();
    let request = start_request(ActorId::new([4; 16]), 1);
    for call in 1..=2 {
        bench.call(call, CallRequest::StartActor(Box::new(request.clone())));
    }
    bench.frame(driver, 0, give_back(&held));
    bench.call(3, CallRequest::StartActor(Box::new(request)));
    let answers = bench.start_answers();
    assert_eq!(answers[0], start_actor_reply::Outcome::NoRoom(true));
    assert!(matches!(answers[1], start_actor_reply::Outcome::Address(_)));
    assert_eq!(answers[2], answers[1], "HOST-1");
}

#[test]
fn start_that_this_node_can_never_serve_is_to_be_placed_anew() {
    let mut bench = Bench::new(0);
    bench.now += Duration::from_secs(1);
    let request = Box::new(start_request(ActorId::new([5; 16]), 1));
    bench.call(1, CallRequest::StartActor(request));
    assert_eq!(
        bench.start_answers(),
        [start_actor_reply::Outcome::NoRoom(true)]
    );
}

#[test]
fn start_waits_as_long_as_it_may_for_tasks_and_no_longer() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let _held = bench.grant(driver, 2).unwrap();
    let mut request = start_request(ActorId::new([4; 16]), 1);
    request.patience_ms = 2_500;
    bench.call(1, CallRequest::StartActor(Box::new(request)));
    for _ in 0..2 {
        bench.now += Duration::from_secs(1);
        bench.happen(Event::Tick);
        assert_eq!(bench.start_answers(), []);
    }
    bench.now += Duration::from_millis(500);
    bench.happen(Event::Tick);
    assert_eq!(
        bench.start_answers(),
        [start_actor_reply::Outcome::NoRoom(true)]
    );
}

#[test]
fn start_of_an_actor_that_is_not_to_be_waits_no_longer() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let held = bench.grant(driver, 2).unwrap();
    let actor = ActorId::new([4; 16]);
    let request = Box::new(start_request(actor, 1));
    bench.call(1, CallRequest::StartActor(request));
    let withdraw = KillWorkerRequest {
        actor_id: actor.to_wire(),
        ..KillWorkerRequest::default()
    };
    bench.call(2, CallRequest::KillWorker(withdraw));
    assert_eq!(
        bench.start_answers(),
        [start_actor_reply::Outcome::NoRoom(true)]
    );
    bench.frame(driver, 0, give_back(&held));
    assert_eq!(bench.free_cpus(), 1.0);
}

/// An owner need not return what its own claims of that class wait for.
#[test]
fn leases_are_asked_back_for_an_actor_that_comes_while_their_owner_waits_for_more_of_them() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let held = bench.grant(driver, 2).unwrap();
    bench.ask(driver, 3, 1.0);
    assert!(!bench.is_asked_back(&held));
    let request = Box::new(start_request(ActorId::new([4; 16]), 1));
    bench.call(1, CallRequest::StartActor(request));
    assert!(bench.is_asked_back(&held));
    bench.frame(driver, 0, give_back(&held));
    assert_eq!(bench.start_answers().len(), 1);
    assert!(bench.grant(driver, 3).is_none());
}
