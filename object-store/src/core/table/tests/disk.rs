//! Objects that go to disk and come back.

use super::*;

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

/// OBJ-6 (files-are-counted).
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
        [StoreReply::Got { result: Ok(at), .. }] if at.len_bytes() == 600 * KB
    ));
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
    assert_eq!(fixture.table.stats().waiting.len(), 0);
}
