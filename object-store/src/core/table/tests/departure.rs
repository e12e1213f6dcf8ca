//! What ends objects: owners that let go, clients and owners that are gone.

use super::*;

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
