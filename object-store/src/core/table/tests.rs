//! Scenarios of single decisions. Random event sequences are in `tests/table_properties.rs`.

use std::time::Duration;

use aktis_common::ids::{ObjectId, WorkerId};

use super::{ObjectTable, TableConfig};
use crate::core::{
    ClientId, CreateAnswer, CreateError, Extent, GetAnswer, GetError, GoneReason, ObjectLocation,
    ObjectState, ReleaseError, RestoreFailure, SealError, SpillFileId, SpillSlot, StoreEffect,
    StoreReply,
};

const KB: u64 = 1024;
const CAPACITY: u64 = 1024 * KB;
const OWNER: WorkerId = WorkerId::new([7; 16]);
const A: ClientId = ClientId(1);
const B: ClientId = ClientId(2);
const GRACE: Duration = Duration::from_secs(5);

fn oid(number: u8) -> ObjectId {
    ObjectId::new([number; 20])
}

/// A table whose replies and disk work are at hand.
struct Fixture {
    table: ObjectTable,
    replies: Vec<StoreReply>,
    io: Vec<StoreEffect>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut TableConfig)) -> Self {
        let mut config = TableConfig {
            capacity_bytes: CAPACITY,
            page_bytes: 4 * KB,
            spill_limit_bytes: None,
            min_spill_batch_bytes: 64 * KB,
            max_spill_file_bytes: 256 * KB,
            full_grace: GRACE,
            idle_discard_after: Duration::from_secs(60),
            max_prefault_bytes: 0,
        };
        change(&mut config);
        Self {
            table: ObjectTable::new(config),
            replies: Vec::new(),
            io: Vec::new(),
        }
    }

    /// Sorts the effects, and checks the invariants.
    fn settle(&mut self) {
        for effect in self.table.drain_effects() {
            match effect {
                StoreEffect::Reply(reply) => self.replies.push(reply),
                other => self.io.push(other),
            }
        }
        self.table.check_invariants().unwrap();
    }

    fn replies(&mut self) -> Vec<StoreReply> {
        self.settle();
        std::mem::take(&mut self.replies)
    }

    fn io(&mut self) -> Vec<StoreEffect> {
        self.settle();
        std::mem::take(&mut self.io)
    }

    /// Does all disk work, until there is none.
    fn do_io(&mut self) {
        loop {
            let work = self.io();
            if work.is_empty() {
                return;
            }
            for effect in work {
                self.complete(effect);
            }
        }
    }

    fn complete(&mut self, effect: StoreEffect) {
        match effect {
            StoreEffect::WriteSpillFile { file, parts } => {
                let slots = parts
                    .iter()
                    .map(|part| slot(file, part.location.len))
                    .collect::<Vec<_>>();
                self.table.spill_written(file, Ok(slots));
            }
            StoreEffect::RestoreObject { oid, .. } => self.table.object_restored(oid, Ok(())),
            StoreEffect::PopulatePages { extent } => self.table.pages_populated(extent),
            StoreEffect::DiscardPages { extent } => self.table.pages_discarded(extent),
            StoreEffect::DeleteSpillFile { .. } | StoreEffect::Reply(_) => {}
        }
    }

    fn create(&mut self, number: u8, size: u64) -> Result<CreateAnswer, CreateError> {
        let answer = self.table.create(A, oid(number), OWNER, size, true);
        self.settle();
        answer
    }

    fn put(&mut self, number: u8, size: u64, is_primary: bool) {
        let answer = self
            .table
            .create(A, oid(number), OWNER, size, is_primary)
            .unwrap();
        assert!(
            matches!(answer, CreateAnswer::Created(_)),
            "room for {number}"
        );
        self.table.seal(A, oid(number)).unwrap();
        self.settle();
    }

    fn get(&mut self, number: u8) -> Result<GetAnswer, GetError> {
        let answer = self.table.get(B, oid(number));
        self.settle();
        answer
    }

    fn read(&mut self, number: u8) -> ObjectLocation {
        match self.get(number).unwrap() {
            GetAnswer::Ready(location) => location,
            answer => panic!("object {number} is not ready: {answer:?}"),
        }
    }

    fn state(&self, number: u8) -> Option<ObjectState> {
        self.table.state(oid(number))
    }
}

fn slot(file: SpillFileId, len: u64) -> SpillSlot {
    SpillSlot {
        file,
        file_offset: 0,
        len,
        checksum: 0,
    }
}

fn created(replies: &[StoreReply]) -> Vec<(ObjectId, bool)> {
    let created = replies.iter().filter_map(|reply| match reply {
        StoreReply::Created { oid, result, .. } => Some((*oid, result.is_ok())),
        _ => None,
    });
    created.collect()
}

#[test]
fn a_sealed_object_is_read_where_it_was_written() {
    let mut fixture = Fixture::new();
    let Ok(CreateAnswer::Created(place)) = fixture.create(1, 100) else {
        panic!("there is room")
    };
    assert_eq!(fixture.state(1), Some(ObjectState::Created));
    fixture.table.seal(A, oid(1)).unwrap();
    assert_eq!(fixture.read(1), place);
    assert_eq!(fixture.state(1), Some(ObjectState::Pinned));
}

#[test]
fn a_get_that_came_first_is_answered_at_seal() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.get(1), Ok(GetAnswer::Pending));
    let Ok(CreateAnswer::Created(place)) = fixture.create(1, 100) else {
        panic!("there is room")
    };
    assert_eq!(fixture.get(1), Ok(GetAnswer::Pending));
    assert_eq!(fixture.replies(), []);
    fixture.table.seal(A, oid(1)).unwrap();
    let answer = StoreReply::Got {
        client: B,
        oid: oid(1),
        result: Ok(place),
    };
    assert_eq!(fixture.replies(), [answer.clone(), answer]);
    assert_eq!(fixture.table.info(oid(1)).unwrap().reader_count, 2);
}

#[test]
fn an_object_is_created_once() {
    let mut fixture = Fixture::new();
    fixture.create(1, 100).unwrap();
    let exists = |is_sealed| {
        Err(CreateError::AlreadyExists {
            oid: oid(1),
            is_sealed,
        })
    };
    assert_eq!(fixture.create(1, 100), exists(false));
    fixture.table.seal(A, oid(1)).unwrap();
    assert_eq!(fixture.create(1, 100), exists(true));
}

/// OBJ-1 (single-writer).
#[test]
fn only_the_creator_may_seal_or_abort() {
    let mut fixture = Fixture::new();
    fixture.create(1, 100).unwrap();
    let refused = SealError::NotWriter {
        oid: oid(1),
        client: B,
        writer: A,
    };
    assert_eq!(fixture.table.seal(B, oid(1)), Err(refused.clone()));
    assert_eq!(fixture.table.abort(B, oid(1)), Err(refused));
    fixture.table.seal(A, oid(1)).unwrap();
    let sealed = Err(SealError::NotCreating { oid: oid(1) });
    assert_eq!(fixture.table.seal(A, oid(1)), sealed);
    assert_eq!(fixture.table.abort(A, oid(1)), sealed);
    assert_eq!(
        fixture.table.seal(A, oid(2)),
        Err(SealError::NotCreating { oid: oid(2) })
    );
}

#[test]
fn an_aborted_object_leaves_nothing_and_tells_the_node() {
    let mut fixture = Fixture::new();
    fixture.get(1).unwrap();
    fixture.create(1, 100).unwrap();
    fixture.table.abort(A, oid(1)).unwrap();
    let gone = StoreReply::ObjectGone {
        oid: oid(1),
        reason: GoneReason::Abandoned,
        waiting_gets: 1,
    };
    assert_eq!(fixture.replies(), [gone]);
    assert_eq!(fixture.table.stats().used_bytes, 0);
    // The get still waits: another attempt may make the object.
    fixture.put(1, 100, true);
    assert_eq!(fixture.replies().len(), 1);
}

#[test]
fn an_object_larger_than_the_store_is_refused_with_both_sizes() {
    let mut fixture = Fixture::new();
    let error = fixture.create(1, CAPACITY + 1).unwrap_err();
    let requested_bytes = CAPACITY + 1;
    let too_large = CreateError::TooLarge {
        oid: oid(1),
        requested_bytes,
        capacity_bytes: CAPACITY,
    };
    assert_eq!(error, too_large);
    assert!(fixture.create(1, u64::MAX).is_err());
    assert!(fixture.create(1, CAPACITY).is_ok());
}

/// OBJ-4 (readers-pin).
#[test]
fn freed_memory_is_used_again_only_after_the_last_reader_let_go() {
    let mut fixture = Fixture::new();
    fixture.put(1, 100 * KB, true);
    fixture.read(1);
    fixture.read(1);
    assert!(fixture.table.free(oid(1)));
    assert_eq!(fixture.get(1), Err(GetError::Freed { oid: oid(1) }));
    fixture.table.release(B, oid(1)).unwrap();
    assert_eq!(fixture.table.stats().used_bytes, 100 * KB);
    fixture.table.release(B, oid(1)).unwrap();
    assert_eq!(fixture.table.stats().used_bytes, 0);
    assert_eq!(fixture.state(1), None);
    let error = ReleaseError {
        oid: oid(1),
        client: B,
    };
    assert_eq!(fixture.table.release(B, oid(1)), Err(error));
}

#[test]
fn an_object_freed_while_it_is_made_is_gone_when_it_is_sealed() {
    let mut fixture = Fixture::new();
    fixture.create(1, 100).unwrap();
    fixture.table.free(oid(1));
    fixture.table.seal(A, oid(1)).unwrap();
    fixture.settle();
    assert_eq!(fixture.state(1), None);
}

#[test]
fn freeing_answers_the_gets_that_wait() {
    let mut fixture = Fixture::new();
    fixture.get(1).unwrap();
    fixture.table.free(oid(1));
    let error = GetError::Freed { oid: oid(1) };
    let freed = StoreReply::Got {
        client: B,
        oid: oid(1),
        result: Err(error),
    };
    assert_eq!(fixture.replies(), [freed]);
}

/// OBJ-7 (gone-client-leaves-nothing).
#[test]
fn a_gone_client_leaves_nothing() {
    let mut fixture = Fixture::new();
    fixture.put(1, 100, true);
    fixture.read(1);
    fixture
        .table
        .create(B, oid(2), OWNER, 300 * KB, true)
        .unwrap();
    fixture.get(3).unwrap();
    fixture.table.free(oid(1));
    fixture.table.client_gone(B);
    fixture.settle();
    let stats = fixture.table.stats();
    assert_eq!(
        (stats.objects, stats.used_bytes, stats.waiting_gets),
        (0, 0, 0)
    );
    assert_eq!(
        fixture.table.seal(B, oid(2)),
        Err(SealError::NotCreating { oid: oid(2) })
    );
}

#[test]
fn a_queued_create_of_a_gone_client_gives_up_its_place() {
    let mut fixture = Fixture::with(|config| config.spill_limit_bytes = Some(0));
    fixture.put(1, 800 * KB, true);
    fixture
        .table
        .create(B, oid(2), OWNER, 500 * KB, true)
        .unwrap();
    assert_eq!(fixture.create(3, 100 * KB), Ok(CreateAnswer::Pending));
    fixture.table.client_gone(B);
    let replies = fixture.replies();
    assert_eq!(created(&replies), [(oid(3), true)]);
}

#[test]
fn a_gone_owner_takes_its_objects_along() {
    let mut fixture = Fixture::new();
    fixture.put(1, 100, true);
    fixture.put(2, 100, false);
    fixture
        .table
        .create(A, oid(3), WorkerId::new([8; 16]), 100, true)
        .unwrap();
    assert_eq!(fixture.table.owner_gone(OWNER), 2);
    fixture.settle();
    assert_eq!(fixture.table.stats().objects, 1);
}

#[test]
fn secondary_copies_are_evicted_least_recently_used_first() {
    let mut fixture = Fixture::new();
    for number in 1..=3 {
        fixture.put(number, 300 * KB, false);
    }
    fixture.read(1);
    fixture.table.release(B, oid(1)).unwrap();
    assert!(matches!(
        fixture.create(4, 300 * KB),
        Ok(CreateAnswer::Created(_))
    ));
    let evicted = StoreReply::ObjectGone {
        oid: oid(2),
        reason: GoneReason::Evicted,
        waiting_gets: 0,
    };
    assert_eq!(fixture.replies(), [evicted]);
    assert_eq!(fixture.io(), []);
}

#[test]
fn nothing_is_evicted_for_a_request_that_cannot_be_served() {
    let mut fixture = Fixture::with(|config| config.spill_limit_bytes = Some(0));
    fixture.put(1, 300 * KB, false);
    fixture.put(2, 300 * KB, true);
    fixture.read(2);
    assert_eq!(fixture.create(3, 900 * KB), Ok(CreateAnswer::Pending));
    assert_eq!(fixture.state(1), Some(ObjectState::Evictable));
}

#[test]
fn primary_copies_are_spilled_and_come_back() {
    let mut fixture = Fixture::new();
    fixture.put(1, 600 * KB, true);
    assert_eq!(fixture.create(2, 600 * KB), Ok(CreateAnswer::Pending));
    assert_eq!(fixture.state(1), Some(ObjectState::Spilling));
    let waiting = fixture.table.stats().waiting;
    assert!(waiting[0].reason.contains("to be spilled"), "{waiting:?}");
    fixture.do_io();
    let replies = fixture.replies();
    assert_eq!(created(&replies), [(oid(2), true)]);
    assert_eq!(fixture.state(1), Some(ObjectState::Spilled));
    assert!(fixture.table.contains(oid(1)));

    fixture.table.seal(A, oid(2)).unwrap();
    assert_eq!(fixture.get(1), Ok(GetAnswer::Restoring));
    fixture.do_io();
    let replies = fixture.replies();
    assert!(matches!(
        replies[..],
        [StoreReply::Got {
            client: B,
            result: Ok(_),
            ..
        }]
    ));
    assert_eq!(fixture.state(2), Some(ObjectState::Spilled));
}

#[test]
fn an_object_that_is_on_disk_already_is_not_written_again() {
    let mut fixture = Fixture::new();
    fixture.put(1, 600 * KB, true);
    fixture.create(2, 600 * KB).unwrap();
    fixture.do_io();
    fixture.table.abort(A, oid(2)).unwrap();
    fixture.get(1).unwrap();
    fixture.do_io();
    fixture.table.release(B, oid(1)).unwrap();
    assert_eq!(fixture.state(1), Some(ObjectState::Evictable));
    assert!(matches!(
        fixture.create(3, 600 * KB),
        Ok(CreateAnswer::Created(_))
    ));
    assert_eq!(fixture.io(), []);
    assert_eq!(fixture.state(1), Some(ObjectState::Spilled));
}

#[test]
fn an_object_can_be_read_while_it_is_spilled_and_then_stays() {
    let mut fixture = Fixture::new();
    fixture.put(1, 600 * KB, true);
    fixture.create(2, 600 * KB).unwrap();
    let place = fixture.read(1);
    fixture.do_io();
    assert_eq!(fixture.read(1), place);
    assert_eq!(fixture.replies(), []);
    fixture.table.release(B, oid(1)).unwrap();
    fixture.table.release(B, oid(1)).unwrap();
    let replies = fixture.replies();
    assert_eq!(created(&replies), [(oid(2), true)]);
}

#[test]
fn small_objects_share_a_file_which_goes_with_the_last_of_them() {
    let mut fixture = Fixture::new();
    for number in 1..=10 {
        fixture.put(number, 100 * KB, true);
    }
    fixture.create(11, 400 * KB).unwrap();
    let work = fixture.io();
    let sizes: Vec<usize> = work
        .iter()
        .map(|effect| match effect {
            StoreEffect::WriteSpillFile { parts, .. } => parts.len(),
            other => panic!("not a spill: {other:?}"),
        })
        .collect();
    assert_eq!(sizes, [2, 2]);
    work.into_iter().for_each(|effect| fixture.complete(effect));
    assert_eq!(fixture.table.stats().spill_files, 2);
    for number in 1..=10 {
        fixture.table.free(oid(number));
    }
    let deleted = fixture.io();
    assert!(
        matches!(deleted[..], [StoreEffect::DeleteSpillFile { .. }, _]),
        "{deleted:?}"
    );
    assert_eq!(fixture.table.stats().spill_file_bytes, 0);
}

#[test]
fn a_full_store_spills_first_and_then_fails_with_sizes() {
    let mut fixture = Fixture::with(|config| config.spill_limit_bytes = Some(500 * KB));
    fixture.put(1, 500 * KB, true);
    fixture.put(2, 500 * KB, true);
    assert_eq!(fixture.create(3, 500 * KB), Ok(CreateAnswer::Pending));
    fixture.do_io();
    fixture.table.seal(A, oid(3)).unwrap();
    assert_eq!(created(&fixture.replies()), [(oid(3), true)]);

    assert_eq!(fixture.create(4, 500 * KB), Ok(CreateAnswer::Pending));
    fixture.table.on_tick(Duration::from_secs(1));
    fixture.table.on_tick(GRACE);
    assert_eq!(fixture.replies(), []);
    fixture.table.on_tick(GRACE + Duration::from_secs(1));
    let replies = fixture.replies();
    let [
        StoreReply::Created {
            result: Err(CreateError::Full(full)),
            ..
        },
    ] = &replies[..]
    else {
        panic!("not refused: {replies:?}");
    };
    assert_eq!(full.requested_bytes, 500 * KB);
    assert_eq!(full.capacity_bytes, CAPACITY);
    assert_eq!(
        (full.used_bytes, full.spillable_bytes),
        (1000 * KB, 1000 * KB)
    );
    assert_eq!(
        (full.spilled_bytes, full.spill_limit_bytes),
        (500 * KB, Some(500 * KB))
    );
    let text = replies_text(&replies);
    assert!(
        text.contains("512000") && text.contains("1048576"),
        "{text}"
    );
}

fn replies_text(replies: &[StoreReply]) -> String {
    let errors = replies.iter().filter_map(|reply| match reply {
        StoreReply::Created {
            result: Err(error), ..
        } => Some(error.to_string()),
        _ => None,
    });
    errors.collect()
}

#[test]
fn without_grace_a_full_store_says_so_at_once() {
    let mut fixture = Fixture::with(|config| {
        config.spill_limit_bytes = Some(0);
        config.full_grace = Duration::ZERO;
    });
    fixture.put(1, 600 * KB, true);
    assert!(matches!(
        fixture.create(2, 600 * KB),
        Err(CreateError::Full(_))
    ));
    assert_eq!(fixture.state(2), None);
    assert_eq!(fixture.replies(), []);
}

#[test]
fn a_failed_spill_is_tried_again_and_named_in_the_error() {
    let mut fixture = Fixture::new();
    fixture.put(1, 600 * KB, true);
    fixture.create(2, 600 * KB).unwrap();
    for second in 1..=8 {
        for effect in fixture.io() {
            let StoreEffect::WriteSpillFile { file, .. } = effect else {
                panic!("{effect:?}")
            };
            fixture
                .table
                .spill_written(file, Err("no space left on device".to_owned()));
        }
        fixture.table.on_tick(Duration::from_secs(second));
    }
    let text = replies_text(&fixture.replies());
    assert!(
        text.contains("spilling failed: no space left on device"),
        "{text}"
    );
    assert_eq!(fixture.read(1).len, 600 * KB);
}

#[test]
fn an_unreadable_spill_file_loses_the_object_and_it_can_be_made_again() {
    let mut fixture = Fixture::new();
    fixture.put(1, 600 * KB, true);
    fixture.create(2, 600 * KB).unwrap();
    fixture.do_io();
    fixture.table.abort(A, oid(2)).unwrap();
    fixture.get(1).unwrap();
    fixture.replies();
    fixture
        .table
        .object_restored(oid(1), Err(RestoreFailure::Corrupt("checksum".to_owned())));
    let replies = fixture.replies();
    let lost = GetError::Lost {
        oid: oid(1),
        reason: "checksum".to_owned(),
    };
    assert!(matches!(
        &replies[..],
        [
            StoreReply::ObjectGone { reason: GoneReason::Lost(_), waiting_gets: 1, .. },
            StoreReply::Got { result: Err(error), .. }
        ] if *error == lost
    ));
    assert_eq!(fixture.get(1), Err(lost));
    assert_eq!(fixture.state(1), Some(ObjectState::Lost));
    fixture.put(1, 600 * KB, true);
    assert_eq!(fixture.read(1).len, 600 * KB);
}

/// OBJ-11 (only-corrupt-is-lost).
#[test]
fn object_whose_file_cannot_be_read_now_stays_on_disk_and_can_be_read_later() {
    let mut fixture = Fixture::new();
    fixture.put(1, 600 * KB, true);
    fixture.create(2, 600 * KB).unwrap();
    fixture.do_io();
    fixture.table.abort(A, oid(2)).unwrap();
    fixture.get(1).unwrap();
    fixture.replies();
    let reason = "open spill file /x: too many open files".to_owned();
    let failure = RestoreFailure::Unreadable(reason.clone());
    assert_eq!(fixture.io().len(), 1, "it is being read");
    fixture.table.object_restored(oid(1), Err(failure));
    let expected = GetError::Unreadable {
        oid: oid(1),
        reason,
    };
    let replies = fixture.replies();
    assert!(matches!(
        &replies[..],
        [StoreReply::Got { result: Err(error), .. }] if *error == expected
    ));
    assert_eq!(fixture.state(1), Some(ObjectState::Spilled));
    assert_eq!(fixture.get(1), Ok(GetAnswer::Restoring));
    fixture.do_io();
    assert!(matches!(
        &fixture.replies()[..],
        [StoreReply::Got { result: Ok(place), .. }] if place.len == 600 * KB
    ));
}

/// OBJ-11 (only-corrupt-is-lost).
#[test]
fn reader_for_whose_object_there_is_no_room_is_told_where_its_file_is() {
    let mut fixture = Fixture::new();
    fixture.put(1, 600 * KB, true);
    fixture.create(2, 600 * KB).unwrap();
    fixture.do_io();
    fixture.replies();
    fixture.get(1).unwrap();
    fixture.table.on_tick(Duration::from_secs(1));
    fixture.table.on_tick(Duration::from_secs(2));
    let replies = fixture.replies();
    assert!(
        matches!(
            &replies[..],
            [StoreReply::Got { result: Err(GetError::Full { slot, .. }), .. }]
                if slot.len == 600 * KB
        ),
        "{replies:?}"
    );
    assert_eq!(fixture.state(1), Some(ObjectState::Spilled));
}

/// OBJ-9 (fifo).
#[test]
fn creates_get_room_in_the_order_in_which_they_came() {
    let mut fixture = Fixture::with(|config| config.spill_limit_bytes = Some(0));
    fixture.put(1, 500 * KB, true);
    fixture.put(2, 500 * KB, true);
    for (number, size) in [(3, 600 * KB), (4, 10 * KB), (5, 300 * KB)] {
        assert_eq!(fixture.create(number, size), Ok(CreateAnswer::Pending));
    }
    fixture.table.free(oid(1));
    assert_eq!(fixture.replies(), []);
    fixture.table.free(oid(2));
    let order: Vec<_> = created(&fixture.replies())
        .into_iter()
        .map(|(oid, _)| oid)
        .collect();
    assert_eq!(order, [oid(3), oid(4), oid(5)]);
}

#[test]
fn a_cancelled_get_is_not_answered_and_frees_its_place() {
    let mut fixture = Fixture::new();
    fixture.get(1).unwrap();
    assert!(fixture.table.cancel_get(B, oid(1)));
    assert!(!fixture.table.cancel_get(B, oid(1)));
    fixture.put(1, 100, true);
    assert_eq!(fixture.replies(), []);
    assert_eq!(fixture.table.info(oid(1)).unwrap().reader_count, 0);
}

#[test]
fn a_restore_that_nobody_waits_for_leaves_the_queue() {
    let mut fixture = Fixture::with(|config| config.spill_limit_bytes = Some(600 * KB));
    fixture.put(1, 600 * KB, true);
    fixture.create(2, 600 * KB).unwrap();
    fixture.do_io();
    assert_eq!(fixture.get(1), Ok(GetAnswer::Restoring));
    assert_eq!(fixture.table.stats().waiting.len(), 1);
    assert!(fixture.table.cancel_get(B, oid(1)));
    fixture.settle();
    assert_eq!(fixture.state(1), Some(ObjectState::Spilled));
    assert!(!fixture.table.has_waiting_requests());
}

#[test]
fn big_objects_make_memory_ready_for_the_next_one() {
    let mut fixture = Fixture::with(|config| {
        config.capacity_bytes = 256 << 20;
        config.max_prefault_bytes = 64 << 20;
    });
    fixture.put(1, 2 << 20, true);
    let work = fixture.io();
    let ready = Extent {
        offset: 2 << 20,
        len: 4 << 20,
    };
    assert_eq!(work, [StoreEffect::PopulatePages { extent: ready }]);
    work.into_iter().for_each(|effect| fixture.complete(effect));
    let Ok(CreateAnswer::Created(place)) = fixture.create(2, 2 << 20) else {
        panic!("room")
    };
    assert_eq!(place.offset, 2 << 20);
    assert_eq!(fixture.io(), []);
}

#[test]
fn small_objects_cost_no_memory_ahead() {
    let mut fixture = Fixture::with(|config| config.max_prefault_bytes = 64 << 20);
    fixture.put(1, 500 * KB, true);
    assert_eq!(fixture.io(), []);
}

#[test]
fn idle_memory_is_given_back() {
    let mut fixture = Fixture::with(|config| config.capacity_bytes = 64 << 20);
    fixture.put(1, 8 << 20, true);
    fixture.table.free(oid(1));
    fixture.table.on_tick(Duration::from_secs(59));
    assert_eq!(fixture.io(), []);
    fixture.table.on_tick(Duration::from_secs(61));
    let idle = Extent {
        offset: 0,
        len: 8 << 20,
    };
    assert_eq!(fixture.io(), [StoreEffect::DiscardPages { extent: idle }]);
    // Meanwhile the range is nobody's.
    let Ok(CreateAnswer::Created(place)) = fixture.create(2, 100) else {
        panic!("room")
    };
    assert_eq!(place.offset, 8 << 20);
    fixture.table.abort(A, oid(2)).unwrap();
    fixture.table.pages_discarded(idle);
    fixture.settle();
    assert_eq!(fixture.table.stats().used_bytes, 0);
}
