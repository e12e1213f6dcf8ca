//! Creating, sealing and aborting.

use super::*;

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
        result: Ok(BytesAt::Arena(place)),
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
