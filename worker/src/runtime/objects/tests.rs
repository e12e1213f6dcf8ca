use aktis_object_store::arena::NamedArena;

use std::time::Instant;

use wire::node_frame::Kind;

use super::*;
use crate::runtime::GetError;
use crate::runtime::at_work::Subject;
use crate::runtime::waiting::Waiting;
use crate::store::client::{ObjectPlace, ReadError};
use crate::testing::{PretendedRaylet, RawPeer};

fn receive(raylet: &mut RawPeer) -> (u64, Kind) {
    let (frame, _) = raylet.receive::<wire::NodeFrame>().expect("a frame comes");
    (frame.request_id, frame.kind.expect("of a known kind"))
}

fn read(
    runtime: &Runtime,
    place: ObjectPlace,
    waiting: &mut Waiting<'_>,
) -> Result<Bytes, Result<ReadError, GetError>> {
    let subject = Subject::object(place.object);
    let begun = runtime.0.store.begin_read(place);
    begun.finish(|waiter| waiting.wait_for(waiter, subject))
}

#[test]
fn object_that_was_pinned_when_nobody_waited_any_more_is_let_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, mut raylet) = node.join().expect("joined");
    let object = ObjectId::for_put();
    let place = place_of(object, &runtime);
    let mut waiting = Waiting::new(&runtime, Some(Instant::now()), &|| false);
    let outcome = read(&runtime, place, &mut waiting);
    assert!(matches!(outcome, Err(Err(GetError::TimedOut { .. }))));
    let (get, question) = receive(&mut raylet);
    assert!(matches!(question, Kind::StoreGet(_)));
    assert!(matches!(
        receive(&mut raylet),
        (0, Kind::StoreGetCancel(cancel)) if cancel.request_id == get
    ));
    // It was answered before the raylet read that.
    let view = wire::store_get_reply::Outcome::View(wire::StoreView::default());
    let outcome = Some(view);
    let reply = Kind::StoreGetReply(wire::StoreGetReply { outcome });
    raylet.send_kind(get, reply).expect("open");
    assert!(matches!(
        receive(&mut raylet),
        (0, Kind::StoreRelease(release)) if release.object_id == object.to_wire()
    ));
    runtime.shutdown();
}

fn place_of(object: ObjectId, runtime: &Runtime) -> ObjectPlace {
    ObjectPlace {
        object,
        owner: runtime.address(),
        nodes: Vec::new(),
        size_bytes: 2,
        making: 1,
    }
}

fn joined(arena: &NamedArena) -> (tempfile::TempDir, Runtime, RawPeer) {
    let folder = tempfile::tempdir().expect("a folder");
    let node = PretendedRaylet::new(folder.path()).expect("a raylet");
    let (runtime, raylet) = node.sharing(arena).join().expect("joined");
    (folder, runtime, raylet)
}

#[test]
fn object_said_to_lie_outside_the_arena_is_not_read_and_let_go() {
    let arena = NamedArena::create(1 << 20).expect("an arena");
    let (_folder, runtime, mut raylet) = joined(&arena);
    let object = ObjectId::for_put();
    let place = place_of(object, &runtime);
    let reader = runtime.clone();
    let reading = std::thread::spawn(move || {
        let mut waiting = Waiting::new(&reader, None, &|| false);
        read(&reader, place, &mut waiting)
    });
    let (get, question) = receive(&mut raylet);
    assert!(matches!(question, Kind::StoreGet(_)));
    let view = wire::StoreView {
        offset: u64::MAX,
        size_bytes: 2,
    };
    let outcome = Some(wire::store_get_reply::Outcome::View(view));
    let reply = Kind::StoreGetReply(wire::StoreGetReply { outcome });
    raylet.send_kind(get, reply).expect("open");
    let read = reading.join().expect("no panic");
    assert!(
        matches!(&read, Err(Ok(ReadError::Failed(failure))) if failure.message.contains("bad range")),
        "{read:?}"
    );
    assert!(matches!(
        receive(&mut raylet),
        (0, Kind::StoreRelease(release)) if release.object_id == object.to_wire()
    ));
    runtime.shutdown();
}

#[test]
fn object_for_which_there_is_no_place_in_the_arena_is_given_up() {
    let arena = NamedArena::create(1 << 20).expect("an arena");
    let (_folder, runtime, mut raylet) = joined(&arena);
    let object = ObjectId::for_put();
    let writer = runtime.clone();
    let writing = std::thread::spawn(move || {
        let value = Value::native(vec![1; 1000]);
        writer.0.store.write(object, writer.address(), &value)
    });
    let (create, question) = receive(&mut raylet);
    assert!(matches!(question, Kind::StoreCreate(_)));
    let reply = Kind::StoreCreateReply(wire::StoreCreateReply {
        offset: (1 << 20) - 64,
        ..Default::default()
    });
    raylet.send_kind(create, reply).expect("open");
    let written = writing.join().expect("no panic");
    assert!(written.is_err_and(|failure| failure.message.contains("not within")));
    assert!(matches!(
        receive(&mut raylet),
        (0, Kind::StoreAbort(abort)) if abort.object_id == object.to_wire()
    ));
    runtime.shutdown();
}
