//! An actor is not ended before the head has heard of it: a head that is told to end one that it does not know ends nothing.

use std::thread;

use aktis_common::error::ErrorCode;
use aktis_proto::v1 as wire;
use aktis_worker::testing::{PretendedRaylet, RawPeer};
use aktis_worker::{ActorHandle, ActorOptions, Function, Runtime, Value};
use wire::node_frame::Kind;

/// A process that has asked for an actor, and its raylet, which has not answered.
struct Making {
    runtime: Runtime,
    raylet: RawPeer,
    actor: ActorHandle,
    creation: u64,
    _folder: tempfile::TempDir,
}

impl Making {
    fn begin() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let node = PretendedRaylet::new(folder.path()).expect("a raylet");
        let (runtime, mut raylet) = node.join().expect("joined");
        let class = Function::native("anything");
        let options = ActorOptions::default();
        let actor = runtime.create_actor(&class, Value::default(), Vec::new(), &options);
        let (method, creation) = next_call(&mut raylet);
        assert_eq!(method, "CreateActor");
        Self {
            runtime,
            raylet,
            actor: actor.expect("a handle"),
            creation,
            _folder: folder,
        }
    }

    fn answer(&mut self, request_id: u64, answer: Kind) {
        self.raylet.send_kind(request_id, answer).expect("open");
    }
}

/// The next call to the head, and the number of its request.
fn next_call(raylet: &mut RawPeer) -> (String, u64) {
    loop {
        let frame = raylet.receive::<wire::NodeFrame>().expect("a frame").0;
        if let Some(Kind::GcsCall(call)) = frame.kind {
            return (call.method, frame.request_id);
        }
    }
}

/// What came before a call of another method, which is sent now.
fn calls_before_another(making: &mut Making) -> Vec<String> {
    let runtime = making.runtime.clone();
    let asking = thread::spawn(move || {
        let reply: Result<wire::Empty, _> = runtime.call_gcs("ListJobs", &wire::Empty::default());
        reply
    });
    let mut before = Vec::new();
    loop {
        let (method, request_id) = next_call(&mut making.raylet);
        if method == "ListJobs" {
            let nothing = Kind::GcsReply(wire::GcsReply::default());
            making.answer(request_id, nothing);
            asking.join().expect("no panic").expect("an answer");
            return before;
        }
        before.push(method);
    }
}

#[test]
fn actor_whose_handle_goes_is_ended_when_the_head_has_heard_of_it() {
    let mut making = Making::begin();
    drop(std::mem::replace(
        &mut making.actor,
        unrelated_handle(&making.runtime),
    ));
    assert_eq!(calls_before_another(&mut making), Vec::<String>::new());
    let creation = making.creation;
    making.answer(creation, Kind::GcsReply(wire::GcsReply::default()));
    assert_eq!(next_call(&mut making.raylet).0, "KillActor");
    making.runtime.shutdown();
}

#[test]
fn actor_that_is_killed_at_once_is_killed_when_the_head_has_heard_of_it() {
    let mut making = Making::begin();
    let (runtime, actor) = (making.runtime.clone(), making.actor.clone());
    let killing = thread::spawn(move || runtime.kill_actor(&actor, true));
    assert_eq!(calls_before_another(&mut making), Vec::<String>::new());
    let creation = making.creation;
    // It does not matter what the head has answered.
    let failure = wire::Failure::of(ErrorCode::NotConnected, "the head was away");
    making.answer(creation, Kind::Failure(failure));
    let (method, request_id) = next_call(&mut making.raylet);
    assert_eq!(method, "KillActor");
    making.answer(request_id, Kind::GcsReply(wire::GcsReply::default()));
    killing.join().expect("no panic").expect("killed");
    making.runtime.shutdown();
}

fn unrelated_handle(runtime: &Runtime) -> ActorHandle {
    let actor = aktis_common::ids::ActorId::random();
    runtime
        .adopt_actor(actor, 0, "another", None)
        .expect("open")
}
