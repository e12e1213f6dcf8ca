//! How room is made, in which order, and what is said when there is none.

use super::*;

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

/// A table whose disk is full, with one object there, and whose arena a reader holds.
fn full() -> Fixture {
    let mut fixture = Fixture::with(|config| config.spill_limit_bytes = Some(600 * KB));
    fixture.put(1, 600 * KB, true);
    fixture.put_after_spilling(2, 600 * KB);
    fixture.read(2);
    fixture
}

/// What restores take and give back is no room that a create waits for.
#[test]
fn reads_of_spilled_objects_keep_no_create_waiting() {
    let mut fixture = full();
    assert_eq!(fixture.create(3, 600 * KB), Ok(CreateAnswer::Pending));
    for tenth in 1..=60 {
        fixture.table.on_tick(Duration::from_millis(100 * tenth));
        if tenth % 10 == 0 {
            assert_eq!(fixture.get(1), Ok(GetAnswer::Restoring));
        }
        fixture.do_io();
        if tenth % 10 == 9 && tenth > 10 {
            fixture.table.release(B, oid(1)).unwrap();
        }
    }
    assert_eq!(created(&fixture.replies()), [(oid(3), false)]);
}

#[test]
fn creates_that_nothing_helped_are_told_together() {
    let mut fixture = full();
    for number in [3, 4] {
        assert_eq!(fixture.create(number, 600 * KB), Ok(CreateAnswer::Pending));
    }
    fixture.table.on_tick(Duration::from_secs(1));
    assert_eq!(fixture.create(5, 600 * KB), Ok(CreateAnswer::Pending));
    assert_eq!(fixture.create(6, 10 * KB), Ok(CreateAnswer::Pending));
    fixture.table.on_tick(Duration::from_secs(3));
    fixture.table.on_tick(Duration::from_secs(6));
    let answered = [(oid(3), false), (oid(4), false)];
    assert_eq!(created(&fixture.replies()), answered);
    fixture.table.on_tick(Duration::from_secs(8));
    let answered = [(oid(5), false), (oid(6), true)];
    assert_eq!(
        created(&fixture.replies()),
        answered,
        "each by its own clock"
    );
}

#[test]
fn create_behind_one_that_got_room_has_the_whole_grace() {
    let mut fixture = full();
    for number in [3, 4] {
        assert_eq!(fixture.create(number, 600 * KB), Ok(CreateAnswer::Pending));
    }
    fixture.table.on_tick(Duration::from_secs(1));
    fixture.table.on_tick(Duration::from_secs(5));
    fixture.table.free(oid(2));
    fixture.table.release(B, oid(2)).unwrap();
    assert_eq!(created(&fixture.replies()), [(oid(3), true)]);
    fixture.table.on_tick(Duration::from_secs(6));
    fixture.table.on_tick(Duration::from_secs(9));
    assert_eq!(fixture.replies(), []);
    fixture.table.on_tick(Duration::from_secs(10));
    assert_eq!(created(&fixture.replies()), [(oid(4), false)]);
}
