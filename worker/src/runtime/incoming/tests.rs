use std::io::ErrorKind;
use std::mem::ManuallyDrop;

use super::*;
use crate::testing::PretendedRaylet;

#[test]
fn lane_that_does_not_begin_with_a_hello_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, _raylet) = node.join().expect("joined");
    let path = folder.path().join(runtime.address().worker.to_string());
    let stream = std::os::unix::net::UnixStream::connect(path).expect("a lane");
    let mut lane = crate::testing::RawPeer::new(stream).expect("an end");
    let steal = LaneKind::StealTasks(wire::StealTasks { max_tasks: 1 });
    lane.send(&wire::LaneFrame { kind: Some(steal) }, &Value::default())
        .expect("open");
    let end = lane.receive::<wire::LaneFrame>();
    assert_eq!(end.expect_err("closed").kind(), ErrorKind::UnexpectedEof);
    runtime.shutdown();
}

#[test]
fn lane_on_which_a_task_fails_with_results_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, _raylet) = node.join().expect("joined");
    let mut lane = node.lane_to(&runtime).expect("a lane");
    // Not dropped: if the core stays locked, the failure is to be heard of.
    let kept = ManuallyDrop::new(runtime.put(Value::default()).expect("an object"));
    // The result holds a reference, which locks the core when it is dropped.
    let stored = wire::StoredObject {
        node_id: runtime.address().node.to_wire(),
        contained_refs: vec![kept.to_wire()],
        ..Default::default()
    };
    let done = wire::TaskDone {
        results: vec![wire::TaskResult {
            place: Some(wire::task_result::Place::Stored(stored)),
        }],
        failure: Some(wire::Failure::default()),
        ..Default::default()
    };
    let kind = Some(LaneKind::TaskDone(done));
    lane.send(&wire::LaneFrame { kind }, &Value::default())
        .expect("open");
    let end = lane.receive::<wire::LaneFrame>();
    assert_eq!(end.expect_err("closed").kind(), ErrorKind::UnexpectedEof);
    runtime.shutdown();
}
