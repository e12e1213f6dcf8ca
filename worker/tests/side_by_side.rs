//! Many objects are fetched at the same time (D16): one after the other, each would take the time of a transfer.

use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId, WorkerId};
use aktis_proto::v1 as wire;
use aktis_worker::testing::{PretendedRaylet, RawPeer};
use aktis_worker::{ProcessAddress, Runtime, TaskFailure, Value, Work};
use wire::lane_frame::Kind as LaneKind;
use wire::node_frame::Kind;
use wire::object_reply::Outcome;

const PATIENCE: Duration = Duration::from_secs(30);
const OBJECTS: u8 = 12;

/// A process that gets [`OBJECTS`] objects of one owner; owner and raylet are what the test makes of them.
struct Getting {
    runtime: Runtime,
    raylet: RawPeer,
    owner: RawPeer,
    outcome: JoinHandle<Result<Vec<Value>, TaskFailure>>,
    _folder: tempfile::TempDir,
}

impl Getting {
    fn begin() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let node = PretendedRaylet::new(folder.path()).expect("a raylet");
        let (runtime, raylet) = node.join().expect("joined");
        let owner = ProcessAddress {
            node: runtime.address().node,
            worker: WorkerId::random(),
        };
        let listener = UnixListener::bind(folder.path().join(owner.worker.to_string()));
        let references: Vec<_> = (0..OBJECTS)
            .map(|number| {
                let id = ObjectId::from_bytes(&[number + 1; ObjectId::LEN]);
                runtime.adopt_reference(id.expect("so many bytes"), owner)
            })
            .collect();
        let outcome = std::thread::spawn({
            let runtime = runtime.clone();
            move || runtime.get(&references, Some(Instant::now() + PATIENCE))
        });
        let lane = listener.expect("an owner").accept().expect("a lane").0;
        Self {
            runtime,
            raylet,
            owner: RawPeer::new(lane).expect("a lane"),
            outcome,
            _folder: folder,
        }
    }

    /// The next question to the owner.
    fn question(&mut self) -> u64 {
        loop {
            let frame = self.owner.receive::<wire::LaneFrame>().expect("a frame").0;
            if let Some(LaneKind::ObjectRequest(request)) = frame.kind {
                return request.request_id;
            }
        }
    }

    fn answer(&mut self, request_id: u64, outcome: Outcome) {
        let outcome = Some(outcome);
        let reply = wire::ObjectReply {
            request_id,
            outcome,
        };
        let kind = Some(LaneKind::ObjectReply(reply));
        let sent = self
            .owner
            .send(&wire::LaneFrame { kind }, &Value::default());
        sent.expect("open");
    }

    /// The next object that the raylet is asked for.
    fn fetch(&mut self) -> u64 {
        fetch_of(&mut self.raylet)
    }

    fn fail_fetch(&mut self, request_id: u64) {
        let failure = wire::Failure::of(ErrorCode::ObjectLost, "none is there");
        let outcome = Some(wire::store_get_reply::Outcome::Failure(failure));
        let reply = Kind::StoreGetReply(wire::StoreGetReply { outcome });
        self.raylet.send_kind(request_id, reply).expect("open");
    }

    /// Why the get fails.
    fn failure(self) -> String {
        let outcome = self.outcome.join().expect("no panic");
        self.runtime.shutdown();
        outcome.expect_err("nothing is there").to_string()
    }
}

fn fetch_of(raylet: &mut RawPeer) -> u64 {
    loop {
        let frame = raylet.receive::<wire::NodeFrame>().expect("a frame").0;
        if let Some(Kind::StoreGet(_)) = frame.kind {
            return frame.request_id;
        }
    }
}

fn elsewhere() -> Outcome {
    Outcome::Stored(wire::StoredObject {
        node_id: NodeId::random().to_wire(),
        size_bytes: 1 << 20,
        ..Default::default()
    })
}

#[test]
fn raylet_is_asked_for_all_objects_of_a_get_before_it_has_answered_for_one() {
    let mut getting = Getting::begin();
    let questions: Vec<_> = (0..OBJECTS).map(|_| getting.question()).collect();
    for question in questions {
        getting.answer(question, elsewhere());
    }
    let fetches: Vec<_> = (0..OBJECTS).map(|_| getting.fetch()).collect();
    for fetch in fetches {
        getting.fail_fetch(fetch);
    }
    let failure = getting.failure();
    assert!(failure.contains("none is there"), "{failure}");
}

#[test]
fn object_that_becomes_ready_while_another_is_fetched_is_asked_for_at_once() {
    let mut getting = Getting::begin();
    let questions: Vec<_> = (0..OBJECTS).map(|_| getting.question()).collect();
    let mut fetches = Vec::new();
    for question in questions {
        getting.answer(question, elsewhere());
        // None of those before is answered.
        fetches.push(getting.fetch());
    }
    getting.fail_fetch(fetches[0]);
    let failure = getting.failure();
    assert!(failure.contains("none is there"), "{failure}");
}

#[test]
fn object_that_fails_while_another_is_fetched_fails_the_get_at_once() {
    let mut getting = Getting::begin();
    let questions: Vec<_> = (0..OBJECTS).map(|_| getting.question()).collect();
    getting.answer(questions[0], elsewhere());
    getting.fetch();
    let failure = wire::Failure::of(ErrorCode::ActorDied, "the last one failed");
    getting.answer(questions[11], Outcome::Failure(failure));
    let failure = getting.failure();
    assert!(failure.contains("the last one failed"), "{failure}");
}

/// A task that takes [`OBJECTS`] objects of another node.
fn task_of_many() -> wire::PushTask {
    let owner = wire::Address {
        node_id: NodeId::random().to_wire(),
        worker_id: WorkerId::random().to_wire(),
    };
    let dependency = |number: u8| wire::ObjectRef {
        object_id: vec![number + 1; ObjectId::LEN].into(),
        owner: Some(owner.clone()),
    };
    let location = |number: u8| wire::DependencyLocation {
        position: u32::from(number),
        node_ids: vec![owner.node_id.clone()],
        size_bytes: 1 << 20,
        ..Default::default()
    };
    wire::PushTask {
        dependencies: (0..OBJECTS).map(dependency).collect(),
        locations: (0..OBJECTS).map(location).collect(),
        ..Default::default()
    }
}

#[test]
fn raylet_is_asked_for_all_arguments_of_a_task_before_it_has_answered_for_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, mut raylet) = node.join().expect("joined");
    let mut lane = node.lane_to(&runtime).expect("a lane");
    for kind in [
        LaneKind::CallTemplate(Box::default()),
        LaneKind::PushTask(task_of_many()),
    ] {
        let frame = wire::LaneFrame { kind: Some(kind) };
        lane.send(&frame, &Value::default()).expect("open");
    }
    let Some(Work::Call(mut call)) = runtime.next_work(Some(PATIENCE)) else {
        panic!("the task has come");
    };
    let taking = std::thread::spawn(move || call.take_inputs().map(drop));
    let fetches: Vec<_> = (0..OBJECTS).map(|_| fetch_of(&mut raylet)).collect();
    let failure = wire::Failure::of(ErrorCode::ObjectStoreFull, "there is no room");
    let outcome = Some(wire::store_get_reply::Outcome::Failure(failure));
    let reply = Kind::StoreGetReply(wire::StoreGetReply { outcome });
    raylet.send_kind(fetches[0], reply).expect("open");
    let failure = taking.join().expect("no panic").expect_err("no room");
    assert!(
        failure.to_string().contains("there is no room"),
        "{failure}"
    );
    runtime.shutdown();
}
