//! Random event sequences against the object table: the invariants hold after every step, every
//! request is answered exactly once, and in the end nothing is left.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use aktis_common::ids::{ObjectId, WorkerId};
use aktis_object_store::core::{
    ClientId, CreateAnswer, GetAnswer, ObjectTable, RestoreFailure, SpillSlot, StoreEffect,
    StoreReply, TableConfig,
};
use proptest::prelude::*;
use proptest::sample::Index;

const KB: u64 = 1024;
const CAPACITY: u64 = 2048 * KB;
const CLIENTS: u64 = 4;
const OBJECTS: u8 = 12;

#[derive(Debug, Clone)]
enum Step {
    Create {
        client: u64,
        object: u8,
        size: u64,
        is_primary: bool,
    },
    Seal {
        object: u8,
    },
    Abort {
        object: u8,
    },
    Get {
        client: u64,
        object: u8,
    },
    CancelGet {
        client: u64,
        object: u8,
    },
    Release {
        held: Index,
    },
    Free {
        object: u8,
    },
    ClientGone {
        client: u64,
    },
    OwnerGone {
        owner: u8,
    },
    Io {
        which: Index,
        succeeds: bool,
    },
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let object = 0..OBJECTS;
    let size = prop_oneof![
        0..200u64,
        60 * KB..70 * KB,
        100 * KB..900 * KB,
        2000 * KB..2100 * KB
    ];
    prop_oneof![
        8 => (client.clone(), object.clone(), size, any::<bool>()).prop_map(
            |(client, object, size, is_primary)| Step::Create { client, object, size, is_primary }
        ),
        8 => object.clone().prop_map(|object| Step::Seal { object }),
        1 => object.clone().prop_map(|object| Step::Abort { object }),
        6 => (client.clone(), object.clone())
            .prop_map(|(client, object)| Step::Get { client, object }),
        1 => (client.clone(), object.clone())
            .prop_map(|(client, object)| Step::CancelGet { client, object }),
        5 => any::<Index>().prop_map(|held| Step::Release { held }),
        2 => object.prop_map(|object| Step::Free { object }),
        1 => client.prop_map(|client| Step::ClientGone { client }),
        1 => (0..3u8).prop_map(|owner| Step::OwnerGone { owner }),
        10 => (any::<Index>(), prop::bool::weighted(0.85))
            .prop_map(|(which, succeeds)| Step::Io { which, succeeds }),
        3 => Just(Step::Tick),
    ]
}

/// The table with a disk that answers when it is told to, and a count of what clients expect.
struct World {
    table: ObjectTable,
    pending_io: Vec<StoreEffect>,
    now: Duration,
    /// Creates that were told to wait.
    pending_creates: BTreeMap<(ClientId, ObjectId), u32>,
    /// Gets that were told to wait.
    pending_gets: BTreeMap<(ClientId, ObjectId), u32>,
    /// Read references that clients hold.
    held: Vec<(ClientId, ObjectId)>,
}

fn oid(object: u8) -> ObjectId {
    ObjectId::new([object; 20])
}

fn take_one(expected: &mut BTreeMap<(ClientId, ObjectId), u32>, key: (ClientId, ObjectId)) {
    let count = expected
        .get_mut(&key)
        .unwrap_or_else(|| panic!("OBJ-8: {key:?} has no request"));
    *count -= 1;
    if *count == 0 {
        expected.remove(&key);
    }
}

impl World {
    fn new(full_grace: Duration, spill_limit_bytes: Option<u64>) -> Self {
        let table = ObjectTable::new(TableConfig {
            capacity_bytes: CAPACITY,
            page_bytes: 4 * KB,
            spill_limit_bytes,
            min_spill_batch_bytes: 256 * KB,
            max_spill_file_bytes: 512 * KB,
            full_grace,
            idle_discard_after: Duration::from_secs(3),
            max_prefault_bytes: 1024 * KB,
        });
        Self {
            table,
            pending_io: Vec::new(),
            now: Duration::ZERO,
            pending_creates: BTreeMap::new(),
            pending_gets: BTreeMap::new(),
            held: Vec::new(),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Create {
                client,
                object,
                size,
                is_primary,
            } => {
                let (client, owner) = (ClientId(client), WorkerId::new([object % 3; 16]));
                let answer = self
                    .table
                    .create(client, oid(object), owner, size, is_primary);
                if answer == Ok(CreateAnswer::Pending) {
                    *self
                        .pending_creates
                        .entry((client, oid(object)))
                        .or_default() += 1;
                }
            }
            Step::Seal { object } => {
                (0..CLIENTS).for_each(|c| drop(self.table.seal(ClientId(c), oid(object))));
            }
            Step::Abort { object } => (0..CLIENTS).for_each(|c| {
                if self.table.abort(ClientId(c), oid(object)).is_ok() {
                    self.pending_creates.remove(&(ClientId(c), oid(object)));
                }
            }),
            Step::Get { client, object } => self.get(ClientId(client), oid(object)),
            Step::CancelGet { client, object } => {
                let key = (ClientId(client), oid(object));
                let is_waiting = self.pending_gets.contains_key(&key);
                assert_eq!(self.table.cancel_get(key.0, key.1), is_waiting);
                if is_waiting {
                    take_one(&mut self.pending_gets, key);
                }
            }
            Step::Release { held } if !self.held.is_empty() => {
                let (client, oid) = self.held.swap_remove(held.index(self.held.len()));
                self.table.release(client, oid).unwrap();
            }
            Step::Release { .. } => {}
            Step::Free { object } => {
                self.table.free(oid(object));
            }
            Step::ClientGone { client } => self.client_gone(ClientId(client)),
            Step::OwnerGone { owner } => {
                self.table.owner_gone(WorkerId::new([owner; 16]));
            }
            Step::Io { which, succeeds } if !self.pending_io.is_empty() => {
                let effect = self
                    .pending_io
                    .swap_remove(which.index(self.pending_io.len()));
                self.complete(effect, succeeds);
            }
            Step::Io { .. } => {}
            Step::Tick => {
                self.now += Duration::from_secs(1);
                self.table.on_tick(self.now);
            }
        }
        self.settle();
    }

    fn get(&mut self, client: ClientId, oid: ObjectId) {
        match self.table.get(client, oid) {
            Ok(GetAnswer::Ready(_)) => self.held.push((client, oid)),
            Ok(GetAnswer::Restoring | GetAnswer::Pending) => {
                *self.pending_gets.entry((client, oid)).or_default() += 1;
            }
            Err(_) => {}
        }
    }

    fn client_gone(&mut self, client: ClientId) {
        self.table.client_gone(client);
        self.held.retain(|(holder, _)| *holder != client);
        self.pending_creates
            .retain(|(asker, _), _| *asker != client);
        self.pending_gets.retain(|(asker, _), _| *asker != client);
    }

    fn complete(&mut self, effect: StoreEffect, succeeds: bool) {
        let reason = "disk".to_owned();
        match effect {
            StoreEffect::WriteSpillFile { file, parts } if succeeds => {
                let slot = |len| SpillSlot {
                    file,
                    file_offset: 0,
                    len,
                    checksum: Some(0),
                };
                let slots = parts.iter().map(|part| slot(part.location.len)).collect();
                self.table.spill_written(file, Ok(slots));
            }
            StoreEffect::WriteSpillFile { file, .. } => {
                self.table.spill_written(file, Err(reason));
            }
            StoreEffect::RestoreObject { oid, .. } => {
                let result = if succeeds {
                    Ok(())
                } else if oid.as_bytes()[0] % 2 == 0 {
                    Err(RestoreFailure::Corrupt(reason))
                } else {
                    Err(RestoreFailure::Unreadable(reason))
                };
                self.table.object_restored(oid, result);
            }
            StoreEffect::CreateFile { file, .. } => {
                let result = if succeeds { Ok(()) } else { Err(reason) };
                self.table.file_created(file, result);
            }
            StoreEffect::CheckObject { oid, checksum, .. } => {
                let result = if succeeds {
                    Ok(checksum.unwrap_or(0))
                } else if oid.as_bytes()[0] % 2 == 0 {
                    Err(RestoreFailure::Corrupt(reason))
                } else {
                    Err(RestoreFailure::Unreadable(reason))
                };
                self.table.object_checked(oid, result);
            }
            StoreEffect::PopulatePages { extent } => self.table.pages_populated(extent),
            StoreEffect::DiscardPages { extent } => self.table.pages_discarded(extent),
            StoreEffect::DeleteSpillFile { .. } | StoreEffect::Reply(_) => {}
        }
    }

    fn settle(&mut self) {
        for effect in self.table.drain_effects() {
            match effect {
                StoreEffect::Reply(reply) => self.on_reply(reply),
                StoreEffect::DeleteSpillFile { .. } => {}
                other => self.pending_io.push(other),
            }
        }
        if let Err(broken) = self.table.check_invariants() {
            panic!("{broken}\n{:#?}", self.table);
        }
    }

    /// OBJ-8 (every-request-answered): an answer belongs to a request.
    fn on_reply(&mut self, reply: StoreReply) {
        match reply {
            StoreReply::Created { client, oid, .. } => {
                take_one(&mut self.pending_creates, (client, oid));
            }
            StoreReply::Got {
                client,
                oid,
                result,
            } => {
                take_one(&mut self.pending_gets, (client, oid));
                if result.is_ok() {
                    self.held.push((client, oid));
                }
            }
            StoreReply::ObjectGone { .. } => {}
        }
    }

    /// Everything ends: what can be answered is, and nothing is left.
    fn wind_down(&mut self) {
        for (client, oid) in std::mem::take(&mut self.held) {
            self.table.release(client, oid).unwrap();
        }
        for object in 0..OBJECTS {
            self.apply(Step::Seal { object });
            self.apply(Step::Free { object });
        }
        for _ in 0..200 {
            for (client, oid) in std::mem::take(&mut self.held) {
                self.table.release(client, oid).unwrap();
            }
            for effect in std::mem::take(&mut self.pending_io) {
                self.complete(effect, true);
            }
            (0..OBJECTS).for_each(|object| self.apply(Step::Seal { object }));
            self.apply(Step::Tick);
        }
        assert_eq!(
            self.pending_creates,
            BTreeMap::new(),
            "OBJ-8: unanswered creates"
        );
        assert_eq!(self.pending_gets, BTreeMap::new(), "OBJ-8: unanswered gets");
        (0..CLIENTS).for_each(|client| self.client_gone(ClientId(client)));
        for owner in 0..3 {
            self.table.owner_gone(WorkerId::new([owner; 16]));
        }
        self.settle();
        for _ in 0..20 {
            for effect in std::mem::take(&mut self.pending_io) {
                self.complete(effect, true);
            }
            self.settle();
        }
        let stats = self.table.stats();
        assert_eq!(
            (stats.objects, stats.used_bytes, stats.spill_file_bytes),
            (0, 0, 0)
        );
        assert_eq!(stats.largest_free_bytes, CAPACITY);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// OBJ-1 to OBJ-10.
    #[test]
    fn invariants_hold_after_every_step_and_nothing_is_left_in_the_end(
        steps in prop::collection::vec(step(), 1..250),
        has_grace in any::<bool>(),
        spill_limit in prop_oneof![Just(None), Just(Some(0)), Just(Some(1500 * KB))],
    ) {
        let grace = if has_grace { Duration::from_secs(2) } else { Duration::ZERO };
        let mut world = World::new(grace, spill_limit);
        for step in steps {
            world.apply(step);
        }
        world.wind_down();
    }
}
