//! Objects that are made and read in files, since readers hold the arena.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

impl Fixture {
    /// A table whose arena a reader holds, but for some 400 KB.
    fn held(change: impl FnOnce(&mut TableConfig)) -> Self {
        let mut fixture = Self::with(change);
        fixture.put(1, 600 * KB, true);
        fixture.read(1);
        fixture
    }

    /// Creates an object for which there is no room, up to the answer.
    fn create_on_disk(&mut self, number: u8, size: u64) -> FileLocation {
        assert_eq!(self.create(number, size), Ok(CreateAnswer::Pending));
        self.table.on_tick(self.table.now);
        self.table.on_tick(self.table.now + SECOND);
        self.do_io();
        match &self.replies()[..] {
            [
                StoreReply::Created {
                    result: Ok(BytesAt::File(place)),
                    ..
                },
            ] => *place,
            replies => panic!("not created in a file: {replies:?}"),
        }
    }

    /// Reads an object in its file, up to the answer.
    fn map(&mut self, number: u8) -> FileLocation {
        match self.get(number).unwrap() {
            GetAnswer::Ready(BytesAt::File(place)) => return place,
            answer => assert_eq!(answer, GetAnswer::Restoring),
        }
        self.table.on_tick(self.table.now);
        self.table.on_tick(self.table.now + SECOND);
        self.do_io();
        match &self.replies()[..] {
            [
                StoreReply::Got {
                    result: Ok(BytesAt::File(place)),
                    ..
                },
            ] => *place,
            replies => panic!("not read in a file: {replies:?}"),
        }
    }
}

#[test]
fn object_for_which_readers_leave_no_room_is_created_in_a_file_and_read_there() {
    let mut fixture = Fixture::held(|_| {});
    let place = fixture.create_on_disk(2, 600 * KB);
    assert_eq!((place.offset, place.len), (0, 600 * KB));
    assert_eq!(fixture.state(2), Some(ObjectState::Created));
    assert_eq!(fixture.get(2), Ok(GetAnswer::Pending));
    fixture.table.seal(A, oid(2)).unwrap();
    assert_eq!(fixture.replies(), [], "first its bytes are read");
    fixture.do_io();
    let answer = StoreReply::Got {
        client: B,
        oid: oid(2),
        result: Ok(BytesAt::File(place)),
    };
    assert_eq!(fixture.replies(), [answer]);
    assert_eq!(fixture.state(2), Some(ObjectState::Mapped));
    assert_eq!(fixture.map(2), place, "others read it where the first does");
    assert_eq!(fixture.table.stats().spill_file_bytes, 600 * KB);
    assert_eq!(fixture.table.stats().mapped_objects, 1);
}

/// OBJ-4 (readers-pin), OBJ-6 (files-are-counted).
#[test]
fn file_of_an_object_that_was_created_in_it_goes_with_its_last_reference() {
    let mut fixture = Fixture::held(|_| {});
    let place = fixture.create_on_disk(2, 600 * KB);
    fixture.table.seal(A, oid(2)).unwrap();
    fixture.do_io();
    fixture.map(2);
    fixture.map(2);
    fixture.table.free(oid(2));
    fixture.table.release(B, oid(2)).unwrap();
    assert_eq!(fixture.io(), [], "it is still read");
    fixture.table.client_gone(B);
    let file = place.file;
    assert_eq!(fixture.io(), [StoreEffect::DeleteSpillFile { file }]);
    assert_eq!(fixture.state(2), None);
    assert_eq!(fixture.table.stats().spill_file_bytes, 0);
}

#[test]
fn release_that_comes_in_time_gives_room_in_memory() {
    let mut fixture = Fixture::held(|_| {});
    assert_eq!(fixture.create(2, 600 * KB), Ok(CreateAnswer::Pending));
    fixture.table.on_tick(Duration::from_millis(100));
    fixture.table.on_tick(Duration::from_millis(400));
    assert_eq!(fixture.io(), []);
    fixture.table.free(oid(1));
    fixture.table.release(B, oid(1)).unwrap();
    assert!(matches!(
        &fixture.replies()[..],
        [StoreReply::Created {
            result: Ok(BytesAt::Arena(_)),
            ..
        }]
    ));
    assert_eq!(fixture.io(), []);
}

#[test]
fn what_can_be_spilled_makes_room_before_anything_is_created_on_the_disk() {
    let mut fixture = Fixture::new();
    fixture.put(1, 400 * KB, true);
    fixture.put(2, 400 * KB, true);
    fixture.read(1);
    assert_eq!(fixture.create(3, 500 * KB), Ok(CreateAnswer::Pending));
    fixture.table.on_tick(SECOND);
    fixture.table.on_tick(2 * SECOND);
    fixture.do_io();
    assert!(matches!(
        &fixture.replies()[..],
        [StoreReply::Created {
            result: Ok(BytesAt::Arena(_)),
            ..
        }]
    ));
    assert_eq!(fixture.state(2), Some(ObjectState::Spilled));
}

#[test]
fn what_others_are_just_writing_is_waited_for_and_spilled() {
    let mut fixture = Fixture::new();
    fixture.create(1, 600 * KB).unwrap();
    assert_eq!(fixture.create(2, 600 * KB), Ok(CreateAnswer::Pending));
    for second in 1..=3 {
        fixture.table.on_tick(Duration::from_secs(second));
    }
    assert_eq!(
        fixture.io(),
        [],
        "it will be sealed, and then it can be spilled"
    );
    fixture.table.seal(A, oid(1)).unwrap();
    fixture.do_io();
    assert!(matches!(
        &fixture.replies()[..],
        [StoreReply::Created {
            result: Ok(BytesAt::Arena(_)),
            ..
        }]
    ));
    assert_eq!(fixture.state(1), Some(ObjectState::Spilled));
}

#[test]
fn room_that_is_free_in_pieces_is_none() {
    let mut fixture = Fixture::new();
    for number in 1..=3 {
        fixture.put(number, 300 * KB, true);
    }
    fixture.read(1);
    fixture.read(3);
    fixture.table.free(oid(2));
    assert!(fixture.table.stats().free_bytes() > 400 * KB);
    let place = fixture.create_on_disk(4, 400 * KB);
    assert_eq!(place.len, 400 * KB);
}

/// What has been waited for once counts for those that come after, until something is let go.
#[test]
fn only_the_first_of_many_creates_waits() {
    let mut fixture = Fixture::held(|_| {});
    fixture.put(6, 100 * KB, true);
    fixture.read(6);
    fixture.create_on_disk(2, 600 * KB);
    assert_eq!(fixture.create(3, 600 * KB), Ok(CreateAnswer::Pending));
    fixture.do_io();
    assert_eq!(created(&fixture.replies()), [(oid(3), true)]);
    // What fits into memory goes there.
    assert!(matches!(
        fixture.create(4, 300 * KB),
        Ok(CreateAnswer::Created(_))
    ));
    fixture.table.abort(A, oid(4)).unwrap();
    assert_eq!(fixture.create(5, 600 * KB), Ok(CreateAnswer::Pending));
    fixture.do_io();
    let answered = created(&fixture.replies());
    assert_eq!(answered, [(oid(5), true)], "that was no help");
    fixture.table.free(oid(6));
    fixture.table.release(B, oid(6)).unwrap();
    assert_eq!(fixture.create(7, 600 * KB), Ok(CreateAnswer::Pending));
    assert_eq!(fixture.io().len(), 0, "something was let go: it waits anew");
}

#[test]
fn readers_that_take_and_give_back_keep_no_create_from_the_disk() {
    let mut fixture = Fixture::new();
    fixture.put(1, 100 * KB, true);
    fixture.put(2, 100 * KB, true);
    fixture.put_after_spilling(3, 1000 * KB);
    fixture.table.free(oid(3));
    fixture.put(4, 900 * KB, true);
    fixture.read(4);
    assert_eq!(fixture.create(5, 600 * KB), Ok(CreateAnswer::Pending));
    for step in 1..=20_u8 {
        fixture.table.on_tick(u32::from(step) * SECOND / 5);
        let number = 1 + step % 2;
        assert_eq!(fixture.get(number), Ok(GetAnswer::Restoring));
        fixture.do_io();
        fixture.table.release(B, oid(number)).unwrap();
    }
    assert_eq!(created(&fixture.replies()), [(oid(5), true)]);
    assert_eq!(fixture.table.stats().spill_file_bytes, 800 * KB);
}

#[test]
fn creates_that_waited_for_what_others_write_go_on_together() {
    let mut fixture = Fixture::new();
    fixture.create(1, 600 * KB).unwrap();
    for number in 2..=4 {
        assert_eq!(fixture.create(number, 600 * KB), Ok(CreateAnswer::Pending));
    }
    for second in 0..=6 {
        fixture.table.on_tick(second * SECOND);
        fixture.do_io();
    }
    let on_disk = [2, 3, 4].map(|number| (oid(number), true));
    assert_eq!(created(&fixture.replies()), on_disk);
}

/// OBJ-7 (gone-client-leaves-nothing).
#[test]
fn creator_that_goes_leaves_no_file() {
    let mut fixture = Fixture::held(|_| {});
    fixture.create_on_disk(2, 600 * KB);
    assert_eq!(fixture.create(3, 600 * KB), Ok(CreateAnswer::Pending));
    let making = fixture.io();
    assert!(matches!(making[..], [StoreEffect::CreateFile { .. }]));
    fixture.table.client_gone(A);
    let deleted = fixture.io();
    assert!(matches!(deleted[..], [StoreEffect::DeleteSpillFile { .. }]));
    // The other file is there only now.
    making
        .into_iter()
        .for_each(|effect| fixture.complete(effect));
    let deleted = fixture.io();
    assert!(matches!(deleted[..], [StoreEffect::DeleteSpillFile { .. }]));
    assert_eq!(fixture.table.stats().spill_files, 0);
    assert_eq!((fixture.state(2), fixture.state(3)), (None, None));
}

/// OBJ-6 (files-are-counted).
#[test]
fn limit_of_the_disk_counts_what_was_created_there_and_is_named() {
    let mut fixture = Fixture::held(|config| config.spill_limit_bytes = Some(1000 * KB));
    fixture.create_on_disk(2, 600 * KB);
    assert_eq!(fixture.create(3, 600 * KB), Ok(CreateAnswer::Pending));
    fixture.table.on_tick(2 * SECOND);
    fixture.table.on_tick(Duration::from_millis(5900));
    assert_eq!(fixture.replies(), [], "the grace of a store that is full");
    fixture.table.on_tick(3 * GRACE);
    let text = replies_text(&fixture.replies());
    for part in [
        "on the disk 614400 of at most 1024000 (spill_limit_bytes)",
        "pinned by readers 614400",
        "object_store_memory",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

/// OBJ-9 (fifo).
#[test]
fn disk_that_takes_no_file_is_tried_again_and_named_when_the_grace_is_over() {
    let mut fixture = Fixture::held(|_| {});
    for number in [2, 3] {
        assert_eq!(fixture.create(number, 600 * KB), Ok(CreateAnswer::Pending));
    }
    let mut tries = 0;
    for second in 1..=20 {
        fixture.table.on_tick(Duration::from_secs(second));
        for effect in fixture.io() {
            let StoreEffect::CreateFile { file, .. } = effect else {
                panic!("{effect:?}")
            };
            tries += 1;
            let full = "disk of /x is nearly full".to_owned();
            fixture.table.file_created(file, Err(full));
        }
    }
    assert!(tries > 2, "{tries}");
    let replies = fixture.replies();
    assert_eq!(created(&replies), [(oid(2), false), (oid(3), false)]);
    let text = replies_text(&replies);
    assert!(
        text.contains("spilling failed: disk of /x is nearly full"),
        "{text}"
    );
    assert_eq!(fixture.table.stats().spill_files, 0);
}

#[test]
fn spilled_object_is_read_in_its_file_where_readers_leave_no_room() {
    let mut fixture = Fixture::new();
    fixture.put(1, 600 * KB, true);
    fixture.put_after_spilling(2, 600 * KB);
    fixture.read(2);
    let place = fixture.map(1);
    assert_eq!(place.len, 600 * KB);
    assert_eq!(fixture.state(1), Some(ObjectState::Mapped));
    // When there is room again it comes back into memory.
    fixture.table.release(B, oid(1)).unwrap();
    assert_eq!(fixture.state(1), Some(ObjectState::Spilled));
    fixture.table.release(B, oid(2)).unwrap();
    fixture.table.free(oid(2));
    assert_eq!(fixture.get(1), Ok(GetAnswer::Restoring));
    fixture.do_io();
    assert!(matches!(
        &fixture.replies()[..],
        [StoreReply::Got {
            result: Ok(BytesAt::Arena(_)),
            ..
        }]
    ));
}

/// OBJ-11 (only-corrupt-is-lost).
#[test]
fn file_with_wrong_bytes_is_lost_and_one_that_cannot_be_read_is_kept() {
    let mut fixture = Fixture::new();
    fixture.put(1, 600 * KB, true);
    fixture.put_after_spilling(2, 600 * KB);
    fixture.read(2);
    for (failure, state) in [
        (
            RestoreFailure::Unreadable("away".to_owned()),
            ObjectState::Spilled,
        ),
        (
            RestoreFailure::Corrupt("checksum".to_owned()),
            ObjectState::Lost,
        ),
    ] {
        assert_eq!(fixture.get(1), Ok(GetAnswer::Restoring));
        fixture.table.on_tick(fixture.table.now);
        fixture.table.on_tick(fixture.table.now + SECOND);
        assert!(matches!(
            fixture.io()[..],
            [StoreEffect::CheckObject {
                checksum: Some(0),
                ..
            }]
        ));
        fixture.table.object_checked(oid(1), Err(failure));
        let answered = fixture.replies();
        assert!(matches!(
            answered.last(),
            Some(StoreReply::Got { result: Err(_), .. })
        ));
        assert_eq!(fixture.state(1), Some(state));
    }
    assert_eq!(
        fixture.table.stats().spill_files,
        0,
        "its file is of no use"
    );
}

/// OBJ-11 (only-corrupt-is-lost): a lack of descriptors says nothing of the bytes.
#[test]
fn object_that_cannot_be_read_after_it_was_written_on_the_disk_is_kept() {
    let mut fixture = Fixture::held(|_| {});
    fixture.create_on_disk(2, 600 * KB);
    assert_eq!(fixture.get(2), Ok(GetAnswer::Pending));
    fixture.table.seal(A, oid(2)).unwrap();
    assert!(matches!(
        fixture.io()[..],
        [StoreEffect::CheckObject { checksum: None, .. }]
    ));
    let reason = "too many open files".to_owned();
    let failure = RestoreFailure::Unreadable(reason.clone());
    fixture.table.object_checked(oid(2), Err(failure));
    let unreadable = StoreReply::Got {
        client: B,
        oid: oid(2),
        result: Err(GetError::Unreadable {
            oid: oid(2),
            reason,
        }),
    };
    assert_eq!(fixture.replies(), [unreadable]);
    assert_eq!(fixture.state(2), Some(ObjectState::Spilled));
    // Whoever asks next has it read, though there is room in memory: its checksum is still to be taken.
    fixture.table.release(B, oid(1)).unwrap();
    fixture.table.free(oid(1));
    assert_eq!(fixture.get(2), Ok(GetAnswer::Restoring));
    assert!(matches!(
        fixture.io()[..],
        [StoreEffect::CheckObject { checksum: None, .. }]
    ));
    fixture.table.object_checked(oid(2), Ok(77));
    fixture.table.release(B, oid(2)).unwrap();
    // From then on it is an object on the disk as any other.
    assert_eq!(fixture.get(2), Ok(GetAnswer::Restoring));
    assert!(matches!(
        fixture.io()[..],
        [StoreEffect::RestoreObject { slot, .. }] if slot.checksum == Some(77)
    ));
}

#[test]
fn file_that_is_cut_before_it_was_read_is_lost() {
    let mut fixture = Fixture::held(|_| {});
    fixture.create_on_disk(2, 600 * KB);
    assert_eq!(fixture.get(2), Ok(GetAnswer::Pending));
    fixture.table.seal(A, oid(2)).unwrap();
    fixture.io();
    let failure = RestoreFailure::Corrupt("it is shorter".to_owned());
    fixture.table.object_checked(oid(2), Err(failure));
    let lost = GetError::Lost {
        oid: oid(2),
        reason: "it is shorter".to_owned(),
    };
    assert!(matches!(
        &fixture.replies()[..],
        [
            StoreReply::ObjectGone { reason: GoneReason::Lost(_), waiting_gets: 1, .. },
            StoreReply::Got { result: Err(error), .. },
        ] if *error == lost
    ));
    assert!(matches!(
        fixture.io()[..],
        [StoreEffect::DeleteSpillFile { .. }]
    ));
}

#[test]
fn copy_of_another_node_does_not_stay_on_the_disk_for_nobody() {
    let mut fixture = Fixture::held(|_| {});
    let created = fixture.table.create(A, oid(2), OWNER, 600 * KB, false);
    assert_eq!(created, Ok(CreateAnswer::Pending));
    fixture.table.on_tick(SECOND);
    fixture.table.on_tick(2 * SECOND);
    fixture.do_io();
    fixture.table.seal(A, oid(2)).unwrap();
    fixture.do_io();
    fixture.replies();
    assert_eq!(
        fixture.state(2),
        Some(ObjectState::Spilled),
        "until it is read"
    );
    fixture.map(2);
    fixture.table.release(B, oid(2)).unwrap();
    let evicted = StoreReply::ObjectGone {
        oid: oid(2),
        reason: GoneReason::Evicted,
        waiting_gets: 0,
    };
    assert_eq!(fixture.replies(), [evicted]);
    assert_eq!(fixture.table.stats().spill_files, 0);
}
