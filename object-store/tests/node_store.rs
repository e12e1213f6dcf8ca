//! The store of a node with real files and memory: spilling, restoring, running full, and clients that die.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]

#[cfg(target_os = "linux")]
mod child;
mod ranges;

use std::cell::Cell;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use aktis_common::ids::{ObjectId, WorkerId};
use aktis_object_store::{
    ArenaBackend, ArenaMap, BytesAt, ClientId, CreateAnswer, CreateError, GetAnswer, GetError,
    GoneReason, IoDone, NodeStore, ObjectLocation, ObjectState, SealedRange, StoreConfig,
    StoreReply,
};
use ranges::{creating, sealed, write};

const MIB: u64 = 1 << 20;
const OWNER: WorkerId = WorkerId::new([7; 16]);
const WRITER: ClientId = ClientId(1);
const READER: ClientId = ClientId(2);
const DEADLINE: Duration = Duration::from_secs(30);

/// A store and the loop around it.
struct Node {
    store: NodeStore,
    arena: ArenaMap,
    io: Receiver<IoDone>,
    replies: Receiver<StoreReply>,
    /// The node's clock runs ahead when a test wants it to.
    skipped: Cell<Duration>,
}

impl Node {
    fn new(config: StoreConfig) -> Self {
        let (io_sender, io) = mpsc::channel();
        let (reply_sender, replies) = mpsc::channel();
        let store = NodeStore::new(
            config,
            move |done| drop(io_sender.send(done)),
            move |reply| drop(reply_sender.send(reply)),
        )
        .unwrap();
        let arena = ArenaMap::from_handle(store.arena_handle().unwrap()).unwrap();
        Self {
            store,
            arena,
            io,
            replies,
            skipped: Cell::new(Duration::ZERO),
        }
    }

    /// One round of the loop.
    fn turn(&mut self) {
        if let Ok(done) = self.io.recv_timeout(Duration::from_millis(5)) {
            self.store.on_io(done);
        }
        self.store.on_tick(Instant::now() + self.skipped.get());
        self.store.check_invariants().unwrap();
    }

    fn next_reply(&mut self) -> StoreReply {
        let start = Instant::now();
        loop {
            if let Ok(reply) = self.replies.try_recv() {
                return reply;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "no reply: {:#?}",
                self.store.stats()
            );
            self.turn();
        }
    }

    fn turn_until(&mut self, what: &str, condition: impl Fn(&NodeStore) -> bool) {
        let start = Instant::now();
        while !condition(&self.store) {
            assert!(
                start.elapsed() < DEADLINE,
                "never {what}: {:#?}",
                self.store.stats()
            );
            self.turn();
        }
    }

    fn create(&mut self, oid: ObjectId, len: u64) -> Result<BytesAt, CreateError> {
        match self.store.create(WRITER, oid, OWNER, len, true)? {
            CreateAnswer::Created(place) => Ok(BytesAt::Arena(place)),
            CreateAnswer::Pending => loop {
                match self.next_reply() {
                    StoreReply::Created {
                        oid: answered,
                        result,
                        ..
                    } if answered == oid => {
                        return result;
                    }
                    _ => {}
                }
            },
        }
    }

    fn put(&mut self, value: &[u8]) -> Result<ObjectId, CreateError> {
        let oid = ObjectId::for_put();
        let at = self.create(oid, value.len() as u64)?;
        match at {
            BytesAt::Arena(place) => write(&self.arena, place.offset, &[value]).unwrap(),
            BytesAt::File(_) => {
                let (file, place) = self.store.map_for_writing(at).unwrap();
                write(&file, place.offset, &[value]).unwrap();
            }
        }
        self.store.seal(WRITER, oid).unwrap();
        Ok(oid)
    }

    fn get(&mut self, oid: ObjectId) -> Result<Vec<u8>, GetError> {
        Ok(self.hold(oid)?.to_vec())
    }

    /// The bytes of an object, where they lie. The reference is the test's to release.
    fn hold(&mut self, oid: ObjectId) -> Result<SealedRange<()>, GetError> {
        let at = match self.store.get(READER, oid)? {
            GetAnswer::Ready(at) => at,
            GetAnswer::Pending | GetAnswer::Restoring => loop {
                match self.next_reply() {
                    StoreReply::Got {
                        oid: answered,
                        result,
                        ..
                    } if answered == oid => {
                        break result?;
                    }
                    _ => {}
                }
            },
        };
        let range = match at {
            BytesAt::Arena(place) => sealed(&self.arena, place.offset, place.len),
            BytesAt::File(place) => {
                let file = ArenaMap::of_sealed_file(&self.store.file_of(place)).unwrap();
                sealed(&file, place.offset, place.len)
            }
        };
        let range = range.unwrap();
        range.read_in(0..range.len()).unwrap();
        Ok(range)
    }

    fn read_and_release(&mut self, oid: ObjectId) -> Result<Vec<u8>, GetError> {
        let value = self.get(oid)?;
        self.store.release(READER, oid).unwrap();
        Ok(value)
    }
}

fn config(capacity_bytes: u64, spill_dir: Option<&Path>) -> StoreConfig {
    StoreConfig {
        spill_dir: spill_dir.map(Path::to_owned),
        min_spill_batch_bytes: 2 * MIB,
        max_spill_file_bytes: 4 * MIB,
        full_grace: Duration::from_millis(200),
        min_free_disk_fraction: 0.0,
        ..StoreConfig::new(capacity_bytes)
    }
}

fn value(number: u64, len: u64) -> Vec<u8> {
    let mut state = number;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn spill_files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn spilled_objects_come_back_byte_identical_on_every_backend() {
    let backends = [
        ArenaBackend::default(),
        ArenaBackend::Named,
        ArenaBackend::ProcessLocal,
    ];
    for backend in backends {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::new(StoreConfig {
            backend,
            ..config(16 * MIB, Some(folder.path()))
        });
        // Three times the capacity, in sizes with and without pages of their own.
        let values: Vec<Vec<u8>> = (0..60)
            .map(|n| value(n, 50_001 + n * 4_999 + (n % 3) * 500_000))
            .collect();
        let objects: Vec<ObjectId> = values.iter().map(|v| node.put(v).unwrap()).collect();
        assert!(node.store.stats().spilled_bytes > 0);
        for (oid, expected) in objects.iter().zip(&values).rev() {
            assert!(
                node.read_and_release(*oid).unwrap() == *expected,
                "{backend:?}"
            );
        }
        assert!(node.store.stats().restored_bytes > 0);
        objects
            .iter()
            .for_each(|oid| assert!(node.store.free(*oid)));
        node.turn_until("empty", |store| {
            let stats = store.stats();
            (stats.objects, stats.used_bytes, stats.spill_files) == (0, 0, 0)
        });
        drop(node);
        assert!(
            !folder.path().exists(),
            "the spill folder goes with the store"
        );
    }
}

#[test]
fn a_full_store_spills_to_its_limit_and_then_fails_with_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(StoreConfig {
        spill_limit_bytes: Some(12 * MIB),
        ..config(16 * MIB, Some(folder.path()))
    });
    let mut objects = Vec::new();
    let full = loop {
        match node.put(&value(objects.len() as u64, 3 * MIB)) {
            Ok(oid) => objects.push(oid),
            Err(CreateError::Full(full)) => break full,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(objects.len(), 9, "5 in memory, 4 on disk");
    assert_eq!(full.requested_bytes, 3 * MIB);
    assert_eq!(full.capacity_bytes, 16 * MIB);
    assert_eq!(
        (full.spilled_bytes, full.spill_limit_bytes),
        (12 * MIB, Some(12 * MIB))
    );
    let text = CreateError::Full(full).to_string();
    for part in ["3145728", "16777216", "12582912", "object_store_memory"] {
        assert!(text.contains(part), "{text}");
    }
    // The store is usable as before.
    node.store.free(objects[8]);
    let oid = node.put(&value(99, 3 * MIB)).unwrap();
    assert!(node.read_and_release(oid).unwrap() == value(99, 3 * MIB));
    node.store.free(objects[7]);
    assert!(node.read_and_release(objects[0]).unwrap() == value(0, 3 * MIB));
}

#[test]
fn objects_that_are_read_cannot_be_moved_and_the_error_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(StoreConfig {
        spill_limit_bytes: Some(13 * MIB),
        ..config(16 * MIB, Some(folder.path()))
    });
    let kept = node.put(&value(1, 12 * MIB)).unwrap();
    let bytes = node.get(kept).unwrap();
    let Err(CreateError::Full(full)) = node.put(&value(2, 14 * MIB)) else {
        panic!("no room, neither in memory nor on the disk")
    };
    assert_eq!(full.pinned_by_readers_bytes, 12 * MIB);
    assert!(bytes == value(1, 12 * MIB));
    node.store.release(READER, kept).unwrap();
    node.put(&value(2, 14 * MIB)).unwrap();
}

#[test]
fn objects_are_made_on_the_disk_while_readers_hold_the_store() {
    for backend in [ArenaBackend::default(), ArenaBackend::ProcessLocal] {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::new(StoreConfig {
            backend,
            ..config(16 * MIB, Some(folder.path()))
        });
        let held = node.put(&value(1, 12 * MIB)).unwrap();
        let held_bytes = node.hold(held).unwrap();
        let lengths = [0, 1, 63, 6 * MIB + 7, 8 * MIB];
        let more: Vec<ObjectId> = (0..)
            .zip(lengths)
            .map(|(n, len)| node.put(&value(n, len)).unwrap())
            .collect();
        let views: Vec<_> = more.iter().map(|oid| node.hold(*oid).unwrap()).collect();
        for (((n, len), view), oid) in (0..).zip(lengths).zip(&views).zip(&more) {
            assert!(**view == value(n, len), "{len} bytes");
            let is_on_disk = node.store.state(*oid) == Some(ObjectState::Mapped);
            assert_eq!(is_on_disk, len > MIB, "{len} bytes");
        }
        assert!(*held_bytes == value(1, 12 * MIB));
        let stats = node.store.stats();
        assert_eq!((stats.spill_files, stats.mapped_objects), (2, 2));
        assert_eq!(stats.created_on_disk_bytes, 14 * MIB + 7);
        // They stay readable without their references, and then go with their files.
        for oid in more.iter().chain([&held]) {
            node.store.free(*oid);
            node.store.release(READER, *oid).unwrap();
        }
        assert!(*views[4] == value(4, 8 * MIB));
        node.turn_until("empty", |store| {
            let stats = store.stats();
            (stats.objects, stats.used_bytes, stats.spill_files) == (0, 0, 0)
        });
        let start = Instant::now();
        while spill_files(folder.path()) > 0 {
            assert!(start.elapsed() < DEADLINE, "files stay");
            node.turn();
        }
    }
}

#[test]
fn disk_without_room_for_an_object_is_named_beside_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(StoreConfig {
        min_free_disk_fraction: 1.0,
        min_free_disk_bytes: u64::MAX,
        ..config(16 * MIB, Some(folder.path()))
    });
    let held = node.put(&value(1, 12 * MIB)).unwrap();
    node.hold(held).unwrap();
    let Err(error) = node.put(&value(2, 12 * MIB)) else {
        panic!("no room")
    };
    let text = error.to_string();
    for part in [
        "the object store is full",
        "pinned by readers 12582912",
        "is nearly full",
        "12582912 needed",
        "kept free",
        "spill_dir",
        "object_store_memory",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
    assert_eq!(spill_files(folder.path()), 0);
}

/// OBJ-7 (gone-client-leaves-nothing).
#[test]
fn file_of_a_creator_that_goes_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(config(16 * MIB, Some(folder.path())));
    let held = node.put(&value(1, 12 * MIB)).unwrap();
    node.hold(held).unwrap();
    let at = node.create(ObjectId::for_put(), 8 * MIB).unwrap();
    assert!(matches!(at, BytesAt::File(_)));
    let (file, place) = node.store.map_for_writing(at).unwrap();
    write(&file, place.offset, &[&value(2, 5 * MIB)]).unwrap();
    node.store.client_gone(WRITER);
    let start = Instant::now();
    while spill_files(folder.path()) > 0 {
        assert!(start.elapsed() < DEADLINE, "the file stays");
        node.turn();
    }
    assert_eq!(node.store.stats().spill_file_bytes, 0);
}

#[test]
fn without_a_spill_folder_secondary_copies_still_make_room() {
    let mut node = Node::new(config(16 * MIB, None));
    let copy = ObjectId::for_put();
    node.store
        .create(WRITER, copy, OWNER, 12 * MIB, false)
        .unwrap();
    node.store.seal(WRITER, copy).unwrap();
    node.put(&value(1, 12 * MIB)).unwrap();
    let reply = node.next_reply();
    assert!(matches!(
        reply,
        StoreReply::ObjectGone {
            reason: GoneReason::Evicted,
            ..
        }
    ));
    let Err(CreateError::Full(full)) = node.put(&value(2, 12 * MIB)) else {
        panic!("no room")
    };
    assert!(full.to_string().contains("spilling is off"), "{full}");
}

#[test]
fn a_damaged_spill_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(config(16 * MIB, Some(folder.path())));
    let first = node.put(&value(1, 12 * MIB)).unwrap();
    let second = node.put(&value(2, 12 * MIB)).unwrap();
    assert_eq!(node.store.state(first), Some(ObjectState::Spilled));
    let file = std::fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[5_000_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let Err(GetError::Lost { reason, .. }) = node.get(first) else {
        panic!("it is damaged")
    };
    assert!(reason.contains("corrupt"), "{reason}");

    let third = node.put(&value(3, 12 * MIB)).unwrap();
    node.turn_until("spilled", |store| {
        store.state(second) == Some(ObjectState::Spilled)
    });
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let Err(GetError::Unreadable { reason, .. }) = node.get(second) else {
        panic!("its file is gone")
    };
    assert!(reason.contains("open spill file"), "{reason}");
    assert!(node.read_and_release(third).unwrap() == value(3, 12 * MIB));
}

#[test]
fn a_disk_without_room_is_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(StoreConfig {
        min_free_disk_fraction: 1.0,
        min_free_disk_bytes: u64::MAX,
        ..config(16 * MIB, Some(folder.path()))
    });
    let kept = node.put(&value(1, 12 * MIB)).unwrap();
    let Err(error) = node.put(&value(2, 12 * MIB)) else {
        panic!("no room")
    };
    assert!(error.to_string().contains("is nearly full"), "{error}");
    assert_eq!(spill_files(folder.path()), 0);
    assert!(node.read_and_release(kept).unwrap() == value(1, 12 * MIB));
}

/// A twentieth of a large disk may be more than is free on it, and nothing else would ever need so much.
#[test]
fn a_large_disk_is_not_kept_free_beyond_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(StoreConfig {
        min_free_disk_fraction: 1.0,
        min_free_disk_bytes: 1,
        ..config(16 * MIB, Some(folder.path()))
    });
    let kept = node.put(&value(1, 12 * MIB)).unwrap();
    node.put(&value(2, 12 * MIB)).unwrap();
    assert!(spill_files(folder.path()) > 0);
    assert!(node.read_and_release(kept).unwrap() == value(1, 12 * MIB));
}

/// OBJ-11 (only-corrupt-is-lost), with a real file.
#[test]
fn object_whose_spill_file_is_away_for_a_while_is_readable_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(config(16 * MIB, Some(folder.path())));
    let kept = node.put(&value(1, 12 * MIB)).unwrap();
    let other = node.put(&value(2, 12 * MIB)).unwrap();
    assert!(spill_files(folder.path()) > 0);
    node.store.free(other);
    let away = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::rename(&path, away.path().join(path.file_name().unwrap())).unwrap();
    }
    let error = node.get(kept).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, GetError::Unreadable { .. }), "{text}");
    assert!(
        text.contains("spill-") && text.contains("kept"),
        "it names the file: {text}"
    );
    for entry in std::fs::read_dir(away.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::rename(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    assert!(node.read_and_release(kept).unwrap() == value(1, 12 * MIB));
}

/// OBJ-11 (only-corrupt-is-lost): what is stored stays readable when there is no room for it.
#[test]
fn spilled_object_can_be_read_past_a_full_store() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(config(16 * MIB, Some(folder.path())));
    let kept = node.put(&value(1, 12 * MIB)).unwrap();
    let held = node.put(&value(2, 12 * MIB)).unwrap();
    node.hold(held).unwrap();
    let view = node.hold(kept).unwrap();
    assert!(*view == value(1, 12 * MIB));
    assert_eq!(node.store.state(kept), Some(ObjectState::Mapped));
    assert!(
        view.read_in(0..view.len() + 1).is_err(),
        "no more than it has"
    );
    // Nobody maps what the file does not have.
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap();
    let file = ArenaMap::of_sealed_file(&path.unwrap().path()).unwrap();
    for (offset, len) in [(64, 12 * MIB), (u64::MAX, 2), (0, u64::MAX)] {
        assert!(sealed(&file, offset, len).is_err(), "{len} at {offset}");
    }
}

/// OBJ-11 (only-corrupt-is-lost), where the file would be mapped.
#[test]
fn damaged_file_is_noticed_before_it_is_mapped() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(config(16 * MIB, Some(folder.path())));
    let held = node.put(&value(1, 12 * MIB)).unwrap();
    node.hold(held).unwrap();
    let oid = node.put(&value(2, 8 * MIB)).unwrap();
    node.turn_until("written", |store| {
        store.state(oid) == Some(ObjectState::Spilled)
    });
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap();
    let path = path.unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5_000_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let Err(GetError::Lost { reason, .. }) = node.hold(oid) else {
        panic!("it is damaged")
    };
    assert!(reason.contains("corrupt"), "{reason}");
}

#[test]
fn spill_files_of_an_earlier_store_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("spill-00000007.bin"), "left behind").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not ours").unwrap();
    drop(Node::new(config(16 * MIB, Some(folder.path()))));
    assert!(folder.path().join("notes.txt").exists());
    assert_eq!(spill_files(folder.path()), 1);
}

#[test]
fn memory_is_made_ready_ahead_and_given_back_when_idle() {
    let mut node = Node::new(config(256 * MIB, None));
    let oid = node.put(&value(1, 4 * MIB)).unwrap();
    node.turn_until("ready", |store| store.stats().high_water_bytes == 12 * MIB);
    node.turn_until("usable", |store| store.stats().used_bytes == 4 * MIB);
    node.store.free(oid);
    node.turn();
    node.skipped.set(Duration::from_secs(31));
    node.turn_until("given back", |store| store.stats().high_water_bytes == 0);
    let again = node.put(&value(2, 4 * MIB)).unwrap();
    assert!(node.read_and_release(again).unwrap() == value(2, 4 * MIB));
}

/// OBJ-7 (gone-client-leaves-nothing), with a process that is killed while it writes.
#[cfg(target_os = "linux")]
#[test]
fn a_process_killed_in_the_middle_of_a_create_leaves_nothing() {
    let mut node = Node::new(config(64 * MIB, None));
    let oid = ObjectId::for_put();
    assert_eq!(node.store.get(READER, oid), Ok(GetAnswer::Pending));
    let place = in_arena(node.create(oid, 32 * MIB).unwrap());
    kill_while_writing(&node.arena, place);
    // What the raylet does when the connection closes.
    node.store.client_gone(WRITER);
    node.store.check_invariants().unwrap();
    let stats = node.store.stats();
    assert_eq!((stats.objects, stats.used_bytes), (0, 0));
    let gone = StoreReply::ObjectGone {
        oid,
        reason: GoneReason::Abandoned,
        waiting_gets: 1,
    };
    assert_eq!(node.next_reply(), gone);
    // The memory is whole again, and another attempt reaches the reader that still waits.
    let place = in_arena(node.create(oid, 64 * MIB).unwrap());
    write(&node.arena, place.offset, &[&value(5, 64 * MIB)]).unwrap();
    node.store.seal(WRITER, oid).unwrap();
    let StoreReply::Got { result: Ok(at), .. } = node.next_reply() else {
        panic!("no answer")
    };
    let place = in_arena(at);
    let read = sealed(&node.arena, place.offset, place.len).unwrap();
    assert!(*read == value(5, 64 * MIB));
}

fn in_arena(at: BytesAt) -> ObjectLocation {
    match at {
        BytesAt::Arena(place) => place,
        BytesAt::File(place) => panic!("there is room in memory: {place:?}"),
    }
}

/// A child process writes into `place` over and over, and is killed once it has begun.
#[cfg(target_os = "linux")]
fn kill_while_writing(arena: &ArenaMap, place: ObjectLocation) {
    let bytes = vec![0xEE_u8; place.len as usize];
    // Made before the fork: the child must not allocate.
    let range = creating(arena, place.offset, place.len).unwrap();
    let mut range = range.in_place().unwrap();
    let child = child::Child::fork(|| {
        loop {
            range.copy_from_slice(&bytes);
        }
    });
    let start = Instant::now();
    // Its first byte changes once, while nobody holds a slice of it.
    while sealed(arena, place.offset, 1).unwrap()[0] != 0xEE {
        assert!(start.elapsed() < DEADLINE, "the child writes");
        std::thread::yield_now();
    }
    child.kill();
}
