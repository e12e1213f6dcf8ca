//! Lanes that say nothing. A test binary of its own: it counts the descriptors of the whole process.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use aktis_proto::v1 as wire;
use aktis_worker::Value;
use aktis_worker::testing::{PretendedRaylet, RawPeer};
use wire::lane_frame::Kind;

/// More than are kept.
const SILENT: usize = 400;
/// What is kept of them (`LANE-6`).
const KEPT: usize = 256;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("of this process")
        .count()
}

/// LANE-6: silent lanes cost little, and whoever comes after them is served once there is room.
#[test]
fn lanes_that_say_nothing_are_few_and_the_caller_after_them_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, _raylet) = node.join().expect("joined");
    let path = folder.path().join(runtime.address().worker.to_string());
    let before = descriptors();
    let connect = || UnixStream::connect(&path).expect("the listener's queue has room");
    let silent: Vec<UnixStream> = (0..SILENT).map(|_| connect()).collect();
    // Those that were accepted have a second end in this process.
    let kept = || descriptors() - before - SILENT;
    let deadline = Instant::now() + Duration::from_secs(30);
    while kept() < KEPT {
        assert!(Instant::now() < deadline, "{} are accepted", kept());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(kept(), KEPT);
    let mut caller = RawPeer::new(connect()).expect("a lane");
    node.say_hello(&mut caller).expect("open");
    drop(silent);
    let request = wire::ObjectRequest {
        request_id: 1,
        object_id: vec![7; 20].into(),
        wants_readiness_only: false,
    };
    let kind = Some(Kind::ObjectRequest(request));
    let frame = wire::LaneFrame { kind };
    caller.send(&frame, &Value::default()).expect("open");
    let (answer, _) = caller.receive::<wire::LaneFrame>().expect("an answer");
    assert!(matches!(answer.kind, Some(Kind::ObjectReply(_))));
    runtime.shutdown();
}
