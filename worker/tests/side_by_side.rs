//! Many objects are fetched at the same time (D16): one after the other, each would take the time of a transfer.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId, WorkerId};
use aktis_proto::v1 as wire;
use aktis_worker::testing::{PretendedRaylet, RawPeer};
use aktis_worker::{ProcessAddress, Value};
use wire::lane_frame::Kind as LaneKind;
use wire::node_frame::Kind;

const PATIENCE: Duration = Duration::from_secs(30);
const OBJECTS: u8 = 12;

/// Says of the next object that is asked for that another node has it.
fn point_elsewhere(lane: &mut RawPeer, node: NodeId) {
    let question = loop {
        let frame = lane.receive::<wire::LaneFrame>().expect("a frame").0;
        if let Some(LaneKind::ObjectRequest(request)) = frame.kind {
            break request;
        }
    };
    let stored = wire::StoredObject {
        node_id: node.to_wire(),
        size_bytes: 1 << 20,
        ..Default::default()
    };
    let reply = wire::ObjectReply {
        request_id: question.request_id,
        outcome: Some(wire::object_reply::Outcome::Stored(stored)),
    };
    let kind = Some(LaneKind::ObjectReply(reply));
    lane.send(&wire::LaneFrame { kind }, &Value::default())
        .expect("open");
}

#[test]
fn raylet_is_asked_for_all_objects_of_a_get_before_it_has_answered_for_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, mut raylet) = node.join().expect("joined");
    let owner = ProcessAddress {
        node: runtime.address().node,
        worker: WorkerId::random(),
    };
    let listener = UnixListener::bind(folder.path().join(owner.worker.to_string()));
    let listener = listener.expect("an owner");
    let references: Vec<_> = (0..OBJECTS)
        .map(|number| ObjectId::from_bytes(&[number + 1; ObjectId::LEN]).expect("so many bytes"))
        .map(|id| runtime.adopt_reference(id, owner))
        .collect();
    let getting = std::thread::spawn({
        let runtime = runtime.clone();
        move || runtime.get(&references, Some(Instant::now() + PATIENCE))
    });
    let mut lane = RawPeer::new(listener.accept().expect("a lane").0).expect("a lane");
    (0..OBJECTS).for_each(|_| point_elsewhere(&mut lane, NodeId::random()));
    let mut asked = Vec::new();
    while asked.len() < usize::from(OBJECTS) {
        let frame = raylet.receive::<wire::NodeFrame>().expect("a frame").0;
        if let Some(Kind::StoreGet(_)) = frame.kind {
            asked.push(frame.request_id);
        }
    }
    for request_id in asked {
        let failure = wire::Failure::of(ErrorCode::ObjectLost, "none is there");
        let outcome = Some(wire::store_get_reply::Outcome::Failure(failure));
        raylet
            .send_kind(
                request_id,
                Kind::StoreGetReply(wire::StoreGetReply { outcome }),
            )
            .expect("open");
    }
    let failed = getting
        .join()
        .expect("no panic")
        .expect_err("none is there");
    assert!(failed.to_string().contains("none is there"), "{failed}");
    runtime.shutdown();
}
