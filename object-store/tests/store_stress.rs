//! Several clients at once on a store that is much too small, with pages made and given back all
//! the time: every byte that is read is the byte that was written.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ranges;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use aktis_common::ids::{ObjectId, WorkerId};
use aktis_object_store::{
    ArenaMap, BytesAt, ClientId, CreateAnswer, GetAnswer, IoDone, NodeStore, ObjectLocation,
    StoreConfig, StoreReply, StoreStats,
};
use ranges::{creating, sealed};

const MIB: u64 = 1 << 20;
const CLIENTS: u64 = 3;

/// Where a client reads or writes: in the arena, or in the file that is named.
type Place = (Option<PathBuf>, ObjectLocation);

enum Message {
    Create {
        client: ClientId,
        oid: ObjectId,
        len: u64,
        answer: Sender<Place>,
    },
    Seal {
        client: ClientId,
        oid: ObjectId,
    },
    Get {
        client: ClientId,
        oid: ObjectId,
        answer: Sender<Place>,
    },
    Release {
        client: ClientId,
        oid: ObjectId,
    },
    Free {
        oid: ObjectId,
    },
    Io(IoDone),
    End,
}

type Waiting = HashMap<(ClientId, ObjectId), Vec<Sender<Place>>>;

/// The one thread that owns the store.
struct Loop {
    store: NodeStore,
    late: Receiver<StoreReply>,
    creating: Waiting,
    getting: Waiting,
}

impl Loop {
    fn run(mut self, messages: &Receiver<Message>) -> NodeStore {
        loop {
            match messages.recv_timeout(Duration::from_millis(2)) {
                Ok(Message::End) => return self.store,
                Ok(message) => self.handle(message),
                Err(_) => {}
            }
            self.store.on_tick(Instant::now());
            self.store.check_invariants().unwrap();
            while let Ok(reply) = self.late.try_recv() {
                self.answer_late(reply);
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Create {
                client,
                oid,
                len,
                answer,
            } => {
                match self
                    .store
                    .create(client, oid, WorkerId::NIL, len, true)
                    .unwrap()
                {
                    CreateAnswer::Created(place) => answer.send((None, place)).unwrap(),
                    CreateAnswer::Pending => {
                        self.creating.entry((client, oid)).or_default().push(answer);
                    }
                }
            }
            Message::Seal { client, oid } => self.store.seal(client, oid).unwrap(),
            Message::Get {
                client,
                oid,
                answer,
            } => match self.store.get(client, oid).unwrap() {
                GetAnswer::Ready(at) => answer.send(self.place_of(at)).unwrap(),
                GetAnswer::Pending | GetAnswer::Restoring => {
                    self.getting.entry((client, oid)).or_default().push(answer);
                }
            },
            Message::Release { client, oid } => self.store.release(client, oid).unwrap(),
            Message::Free { oid } => assert!(self.store.free(oid)),
            Message::Io(done) => self.store.on_io(done),
            Message::End => {}
        }
    }

    fn place_of(&self, at: BytesAt) -> Place {
        match at {
            BytesAt::Arena(place) => (None, place),
            BytesAt::File(place) => {
                let at = ObjectLocation {
                    offset: place.offset,
                    len: place.len,
                };
                (Some(self.store.file_of(place)), at)
            }
        }
    }

    fn answer_late(&mut self, reply: StoreReply) {
        let (waiting, key, at) = match reply {
            StoreReply::Created {
                client,
                oid,
                result,
            } => (&mut self.creating, (client, oid), result.unwrap()),
            StoreReply::Got {
                client,
                oid,
                result,
            } => (&mut self.getting, (client, oid), result.unwrap()),
            StoreReply::ObjectGone { oid, reason, .. } => panic!("{oid} is gone: {reason:?}"),
        };
        let answer = waiting
            .get_mut(&key)
            .and_then(Vec::pop)
            .expect("a request waits");
        answer.send(self.place_of(at)).unwrap();
    }
}

/// An object that is freed when nobody refers to it any more.
struct Object {
    oid: ObjectId,
    len: u64,
    node: Sender<Message>,
}

impl Drop for Object {
    fn drop(&mut self) {
        let _ = self.node.send(Message::Free { oid: self.oid });
    }
}

struct Client {
    id: ClientId,
    arena: ArenaMap,
    node: Sender<Message>,
    objects: Arc<Mutex<Vec<Arc<Object>>>>,
    random: u64,
    rounds: u64,
}

impl Client {
    fn run(mut self) {
        for _ in 0..self.rounds {
            match self.next_random(10) {
                0..=3 => self.put(),
                4..=7 => self.read(),
                _ => self.forget(),
            }
        }
    }

    fn next_random(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % below
    }

    fn put(&mut self) {
        let len = match self.next_random(3) {
            0 => self.next_random(1000),
            1 => self.next_random(300_000),
            _ => self.next_random(6 * MIB),
        };
        let (oid, (answer, place)) = (ObjectId::for_put(), mpsc::channel());
        self.node
            .send(Message::Create {
                client: self.id,
                oid,
                len,
                answer,
            })
            .unwrap();
        let (file, place) = place.recv().unwrap();
        assert_eq!(place.len, len);
        let value = value_of(oid, len);
        let file = file.map(|path| ArenaMap::of_new_file(&path).unwrap());
        let arena = file.as_ref().unwrap_or(&self.arena);
        let range = creating(arena, place.offset, len).unwrap();
        if self.next_random(3) == 0 {
            let mut range = range.in_place().unwrap();
            range.copy_from_slice(&value);
            range.commit().unwrap();
        } else {
            let (head, tail) = value.split_at(value.len() / 2);
            range.write(&[head, tail]).unwrap();
        }
        self.node
            .send(Message::Seal {
                client: self.id,
                oid,
            })
            .unwrap();
        let object = Object {
            oid,
            len,
            node: self.node.clone(),
        };
        self.objects.lock().unwrap().push(Arc::new(object));
    }

    fn read(&mut self) {
        let count = self.objects.lock().unwrap().len() as u64;
        let at = self.next_random(count.max(1)) as usize;
        let Some(object) = self.objects.lock().unwrap().get(at).cloned() else {
            return;
        };
        let (answer, place) = mpsc::channel();
        let (client, oid) = (self.id, object.oid);
        self.node
            .send(Message::Get {
                client,
                oid,
                answer,
            })
            .unwrap();
        let (file, place) = place.recv().unwrap();
        let file = file.map(|path| ArenaMap::of_sealed_file(&path).unwrap());
        let arena = file.as_ref().unwrap_or(&self.arena);
        let bytes = sealed(arena, place.offset, place.len).unwrap();
        assert!(*bytes == value_of(oid, object.len), "{oid} has other bytes");
        // The others make, spill and evict objects meanwhile.
        std::thread::yield_now();
        let is_same = *bytes == value_of(oid, object.len);
        assert!(is_same, "RANGE-2: {oid} has changed under its reader");
        drop(bytes);
        self.node.send(Message::Release { client, oid }).unwrap();
    }

    fn forget(&mut self) {
        let count = self.objects.lock().unwrap().len() as u64;
        let at = self.next_random(count.max(1)) as usize;
        let mut objects = self.objects.lock().unwrap();
        if at < objects.len() {
            drop(objects.swap_remove(at));
        }
    }
}

/// Bytes that only this object has.
fn value_of(oid: ObjectId, len: u64) -> Vec<u8> {
    let id = oid.as_bytes();
    let mut state = id.iter().fold(1u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()
    };
    let words = len.div_ceil(8);
    let mut value: Vec<u8> = (0..words).flat_map(|_| next()).collect();
    value.truncate(len as usize);
    value
}

/// OBJ-3 (sealed-is-immutable), OBJ-4 (readers-pin), OBJ-5 (no-leak), RANGE-2 (unchanged-while-read).
#[test]
fn concurrent_clients_of_a_small_store_read_what_was_written() {
    let stats = stats_after(500, 40 * MIB, Duration::from_secs(60));
    assert!(
        stats.spilled_bytes > 0 && stats.restored_bytes > 0,
        "{stats:#?}"
    );
}

/// The same, where nobody waits for the others to let go.
#[test]
fn concurrent_clients_of_a_tiny_store_read_what_was_written_into_files() {
    let stats = stats_after(150, 12 * MIB, Duration::ZERO);
    assert!(stats.created_on_disk_bytes > 0, "{stats:#?}");
}

fn stats_after(rounds: u64, capacity_bytes: u64, full_grace: Duration) -> StoreStats {
    let folder = tempfile::tempdir().unwrap();
    let (node, messages) = mpsc::channel();
    let (late_sender, late) = mpsc::channel();
    let forward = Mutex::new(node.clone());
    let config = StoreConfig {
        spill_dir: Some(folder.path().to_owned()),
        min_spill_batch_bytes: 2 * MIB,
        max_spill_file_bytes: 4 * MIB,
        min_free_disk_fraction: 0.0,
        full_grace,
        idle_discard_after: Duration::from_millis(10),
        ..StoreConfig::new(capacity_bytes)
    };
    let store = NodeStore::new(
        config,
        move |done| drop(forward.lock().unwrap().send(Message::Io(done))),
        move |reply| drop(late_sender.send(reply)),
    )
    .unwrap();
    let handles: Vec<_> = (0..CLIENTS)
        .map(|_| store.arena_handle().unwrap())
        .collect();
    let event_loop = Loop {
        store,
        late,
        creating: Waiting::default(),
        getting: Waiting::default(),
    };
    let event_loop = thread::spawn(move || event_loop.run(&messages));

    let objects = Arc::new(Mutex::new(Vec::new()));
    let clients: Vec<_> = handles
        .into_iter()
        .zip(1..)
        .map(|(handle, number)| Client {
            id: ClientId(number),
            arena: ArenaMap::from_handle(handle).unwrap(),
            node: node.clone(),
            objects: Arc::clone(&objects),
            random: number,
            rounds,
        })
        .map(|client| thread::spawn(move || client.run()))
        .collect();
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    objects.lock().unwrap().clear();
    node.send(Message::End).unwrap();

    let store = event_loop.join().unwrap();
    store.stats()
}
