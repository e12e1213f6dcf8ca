//! What holds between tables is seen when it does not.

use super::*;
use crate::core::out::Out;
use aktis_common::scheduling::NodeView;

/// A core with a driver that leases a worker.
fn bench() -> (Bench, LeaseGrant) {
    let mut bench = Bench::new(2);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    (bench, grant)
}

fn broken(bench: &Bench) -> &'static str {
    bench.core.check().unwrap_err().label
}

/// A verb of one table, of which the others do not hear.
fn alone(bench: &mut Bench, verb: impl FnOnce(&mut RayletCore, &mut Out)) {
    let mut effects = Vec::new();
    verb(&mut bench.core, &mut Out::new(bench.now, &mut effects));
}

#[test]
fn lease_whose_worker_does_something_else_is_seen() {
    let (mut bench, grant) = bench();
    let worker = grant.worker.as_ref().unwrap().worker().unwrap();
    alone(&mut bench, |core, out| {
        core.pool.take_back(worker, false, out);
    });
    assert_eq!(broken(&bench), "LEASE-5");
    let (mut bench, grant) = self::bench();
    bench.core.claims.end(LeaseId(grant.lease_id));
    assert_eq!(broken(&bench), "LEASE-5");
}

#[test]
fn what_outlives_its_owner_is_seen() {
    let (mut bench, _) = bench();
    alone(&mut bench, |core, out| {
        core.processes.connection_ended(ConnectionId(1), out);
    });
    assert_eq!(broken(&bench), "NODE-1");
}

#[test]
fn actor_that_outlives_its_worker_is_seen() {
    let mut bench = Bench::new(2);
    let actor = ActorId::new([5; 16]);
    let request = Box::new(start_request(actor, 1));
    bench.call(1, CallRequest::StartActor(request));
    let (pid, connection) = bench.detach(bench.hosted(0));
    alone(&mut bench, |core, out| {
        core.processes.connection_ended(connection, out);
        let process = match out.next_event() {
            Some(crate::core::out::TableEvent::Process(
                crate::core::processes::ProcessEvent::Gone(process),
            )) => process,
            other => panic!("{other:?}"),
        };
        core.pool.connection_ended(&process, out);
        core.pool.process_ended(pid, Exit::of("gone"), out);
        let worker = process.worker;
        core.claims.worker_ended(worker);
    });
    assert_eq!(broken(&bench), "HOST-1");
}

#[test]
fn start_without_a_claim_is_seen() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let request = Box::new(start_request(ActorId::new([5; 16]), 1));
    bench.call(1, CallRequest::StartActor(request));
    alone(&mut bench, |core, out| {
        core.claims.cancel(ReplyTo::Call(CallId(1)), out);
    });
    assert_eq!(broken(&bench), "HOST-3");
}

#[test]
fn connection_of_a_worker_that_nobody_knows_is_seen() {
    let (mut bench, grant) = bench();
    let connection = bench.workers[&grant.pid];
    alone(&mut bench, |core, out| {
        core.processes.connection_ended(connection, out);
    });
    assert_eq!(broken(&bench), "POOL-1");
}

#[test]
fn node_that_is_not_listed_is_seen() {
    let mut bench = Bench::new(1);
    let view = NodeView {
        id: THERE,
        resources: bench.core.claims.resources().clone(),
    };
    bench.core.claims.set_other_nodes(vec![view], bench.now);
    assert_eq!(broken(&bench), "NODE-5");
}
