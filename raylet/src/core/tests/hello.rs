//! Who is taken for a process of this node.

use aktis_proto::v1::Preload;

use super::*;

#[test]
fn process_of_another_version_is_refused_with_both_named() {
    let mut bench = Bench::new(1);
    let mut hello = Hello {
        worker_id: owner(1).to_wire(),
        job_id: JOB.to_wire(),
        version: "0.0.7".to_owned(),
        ..Hello::default()
    };
    hello.set_kind(ProcessKind::Driver);
    bench.frame(ConnectionId(1), 1, Kind::Hello(hello));
    let refusals: Vec<String> = bench
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send {
                kind: Kind::Failure(failure),
                ..
            } => Some(failure.message.clone()),
            _ => None,
        })
        .collect();
    let [message] = &refusals[..] else {
        panic!("{refusals:?}")
    };
    assert!(message.contains("0.0.7") && message.contains(aktis_proto::VERSION));
}

#[test]
fn modules_that_a_driver_will_use_are_imported_ahead_and_those_of_others_are_not() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).expect("has room");
    let worker = bench.workers[&grant.pid];
    for (connection, name) in [(worker, "b"), (driver, "a")] {
        let modules = vec![name.to_owned()];
        bench.frame(connection, 0, Kind::Preload(Preload { modules }));
    }
    let modules = |effect: &Effect| match effect {
        Effect::Preload { modules } => Some(modules.join(",")),
        _ => None,
    };
    let imported: Vec<String> = bench.effects.iter().filter_map(modules).collect();
    assert_eq!(imported, ["a"]);
}

#[test]
fn frame_before_hello_is_refused() {
    let mut bench = Bench::new(1);
    bench.ask(ConnectionId(5), 2, 1.0);
    let is_closed = |effect: &Effect| {
        matches!(
            effect,
            Effect::Close {
                connection: ConnectionId(5)
            }
        )
    };
    assert!(bench.effects.iter().any(is_closed));
}
