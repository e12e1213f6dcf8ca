//! A process that has no descriptor left. A test binary of its own: the limit is that of the whole process.

use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aktis_common::ids::{ObjectId, WorkerId};
use aktis_proto::v1 as wire;
use aktis_worker::testing::{PretendedRaylet, RawPeer};
use aktis_worker::{Format, ProcessAddress, Value};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use wire::lane_frame::Kind;

const PATIENCE: Duration = Duration::from_secs(30);

/// The limit is that of all tests here.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

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
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, _raylet) = node.join().expect("joined");
    let caller = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    let path = folder.path().join(runtime.address().worker.to_string());
    let before = limit_descriptors(0);
    let address = SocketAddrUnix::new(&path).expect("a short path");
    connect(&caller, &address).expect("the listener's queue has room");
    let (worked, pause) = (processor_time(), Duration::from_secs(1));
    std::thread::sleep(pause);
    let worked = processor_time() - worked;
    setrlimit(Resource::Nofile, before).expect("as it was");
    // Who looks again and again works as much as the machine has to spare, which may be little.
    assert!(worked < pause / 25, "worked {worked:?} of {pause:?}");
    let mut lane = RawPeer::new(UnixStream::from(caller)).expect("a lane");
    node.say_hello(&mut lane).expect("open");
    let answer = ask(&mut lane);
    assert!(matches!(answer.kind, Some(Kind::ObjectReply(_))));
    runtime.shutdown();
}

/// The next question about an object.
fn next_question(lane: &mut RawPeer) -> wire::ObjectRequest {
    loop {
        let frame = lane.receive::<wire::LaneFrame>().expect("a frame").0;
        if let Some(Kind::ObjectRequest(request)) = frame.kind {
            return request;
        }
    }
}

/// REF-1: an owner that cannot be reached for want of a descriptor is asked later, and not taken for dead.
#[test]
fn owner_that_cannot_be_reached_for_want_of_a_descriptor_is_asked_later() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, _raylet) = node.join().expect("joined");
    let owner = ProcessAddress {
        node: runtime.address().node,
        worker: WorkerId::random(),
    };
    let path = folder.path().join(owner.worker.to_string());
    let listener = UnixListener::bind(path).expect("an owner");
    let before = limit_descriptors(0);
    let id = ObjectId::from_bytes(&[7; ObjectId::LEN]).expect("so many bytes");
    let reference = runtime.adopt_reference(id, owner);
    let getting = std::thread::spawn({
        let runtime = runtime.clone();
        move || runtime.get(&[reference], Some(Instant::now() + PATIENCE))
    });
    // Longer than the news of a death is waited for.
    std::thread::sleep(Duration::from_secs(3));
    let is_over = getting.is_finished();
    setrlimit(Resource::Nofile, before).expect("as it was");
    assert!(!is_over, "{:?}", getting.join());
    let mut lane = RawPeer::new(listener.accept().expect("a lane").0).expect("a lane");
    let asked = next_question(&mut lane);
    let value = Value::inband(Format::Bytes, &b"it lives"[..]);
    let layout = wire::ValueLayout {
        format: Format::Bytes as u32,
        lengths: vec![value.inband.len() as u64],
        ..Default::default()
    };
    let reply = wire::ObjectReply {
        request_id: asked.request_id,
        outcome: Some(wire::object_reply::Outcome::Inline(layout)),
    };
    let kind = Some(Kind::ObjectReply(reply));
    lane.send(&wire::LaneFrame { kind }, &value).expect("open");
    let values = getting.join().expect("no panic").expect("a value");
    assert_eq!(&values[0].inband[..], b"it lives");
    runtime.shutdown();
}
