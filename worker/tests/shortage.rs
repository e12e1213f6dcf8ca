//! A process that has no descriptor left. A test binary of its own: the limit is that of the whole process.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use aktis_proto::v1 as wire;
use aktis_worker::Value;
use aktis_worker::testing::{PretendedRaylet, RawPeer};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use wire::lane_frame::Kind;

/// What processors have worked for this process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("it only grows")
}

fn limit_descriptors(current: u64) -> Rlimit {
    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: Some(current),
        ..before
    };
    setrlimit(Resource::Nofile, limit).expect("lower than the maximum");
    before
}

/// Asks for an object that does not exist, which is answered at once.
fn ask(lane: &mut RawPeer) -> wire::LaneFrame {
    let request = wire::ObjectRequest {
        request_id: 1,
        object_id: vec![7; 20].into(),
        wants_readiness_only: false,
    };
    let kind = Some(Kind::ObjectRequest(request));
    let frame = wire::LaneFrame { kind };
    lane.send(&frame, &Value::default()).expect("open");
    lane.receive().expect("an answer").0
}

#[test]
fn lane_that_cannot_be_accepted_is_accepted_later_and_costs_nothing_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, _raylet) = node.join().expect("joined");
    let caller = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    let path = folder.path().join(runtime.address().worker.to_string());
    let before = limit_descriptors(0);
    let address = SocketAddrUnix::new(&path).expect("a short path");
    connect(&caller, &address).expect("the listener's queue has room");
    let (worked, pause) = (processor_time(), Duration::from_millis(500));
    std::thread::sleep(pause);
    let worked = processor_time() - worked;
    setrlimit(Resource::Nofile, before).expect("as it was");
    assert!(worked < pause / 4, "worked {worked:?} of {pause:?}");
    let mut lane = RawPeer::new(UnixStream::from(caller)).expect("a lane");
    node.say_hello(&mut lane).expect("open");
    let answer = ask(&mut lane);
    assert!(matches!(answer.kind, Some(Kind::ObjectReply(_))));
    runtime.shutdown();
}
