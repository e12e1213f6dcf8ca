//! Who is taken for a process of this node.

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
