//! Lanes that say nothing, and those of strangers. A test binary of its own: it counts the descriptors of the whole process.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use aktis_proto::v1 as wire;
use aktis_worker::Value;
use aktis_worker::testing::{PretendedRaylet, RawPeer};
use wire::lane_frame::Kind;

/// More than are kept.
const SILENT: usize = 400;
/// What is kept of them (`LANE-6`).
const KEPT: usize = 256;

/// The tests count what all of the process has.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("of this process")
        .count()
}

/// LANE-6: silent lanes cost little, and whoever comes after them is served once there is room.
#[test]
fn lanes_that_say_nothing_are_few_and_the_caller_after_them_is_served() {
    let _alone = ONE_AT_A_TIME.lock();
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

/// A connection of a thread that is another user. Other threads stay who they are.
fn connect_as_nobody(path: &Path) -> std::io::Result<UnixStream> {
    let path = path.to_owned();
    let connect = move || {
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody)?;
        UnixStream::connect(path)
    };
    std::thread::spawn(connect).join().expect("no panic")
}

/// The folder keeps others out; when its modes were opened by hand, the process does.
#[test]
fn lane_of_another_user_is_hung_up() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    let _alone = ONE_AT_A_TIME.lock();
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, _raylet) = node.join().expect("joined");
    let path = folder.path().join(runtime.address().worker.to_string());
    for open in [folder.path(), &path] {
        let all = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(open, all).expect("it is ours");
    }
    let mut lane = connect_as_nobody(&path).expect("the file lets everybody in");
    lane.set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a time");
    let mut nothing = [0; 1];
    match lane.read(&mut nothing) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("it was let in: {other:?}"),
    }
    let mut own = RawPeer::new(UnixStream::connect(&path).expect("open")).expect("a lane");
    node.say_hello(&mut own).expect("open");
    runtime.shutdown();
}
